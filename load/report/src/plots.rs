//! The plots of a report: which marks between which axes.

mod lock;
mod style;
mod winners;

use std::collections::{BTreeMap, BTreeSet};

use crate::plot::{Axis, Color, INK, Mark, PlotError, draw};
use crate::report::Report;
use crate::rules::is_small_crowd;
use crate::series::{Point, Series, Slots};

use self::lock::lock_wait;
pub use self::style::Plot;
use self::style::{
    BLUE, SOLD, SOLD_COLOR, SOLD_OUT, SOLD_OUT_COLOR, float, log_millis, millis, seconds,
};
use self::winners::winners;

/// Of codes that have no colour of their own.
const COLORS: [Color; 5] = [
    Color(0xE6, 0x9F, 0x00),
    Color(0xCC, 0x79, 0xA7),
    Color(0x56, 0xB4, 0xE9),
    Color(0xD5, 0x5E, 0x00),
    BLUE,
];

/// All plots that the report has data for.
///
/// # Errors
/// When one of them cannot be drawn.
pub fn all(report: &Report) -> Result<Vec<Plot>, PlotError> {
    let colors = colors(report);
    let plots = [
        latency_over_time(report, &colors)?,
        latency_distribution(report)?,
        sold_over_time(report)?,
        winners(report)?,
        lock_wait(report)?,
        answers_over_time(report, &colors)?,
    ];
    Ok(plots.into_iter().flatten().collect())
}

/// The colour of each code.
pub fn colors(report: &Report) -> BTreeMap<String, Color> {
    let codes: BTreeSet<&String> = report.figures().answers.keys().collect();
    let mut others = COLORS.into_iter().cycle();
    let mut color = |code: &str| match code {
        SOLD => Some(SOLD_COLOR),
        SOLD_OUT => Some(SOLD_OUT_COLOR),
        _ => others.next(),
    };
    codes.into_iter().filter_map(|code| Some((code.clone(), color(code)?))).collect()
}

fn of(colors: &BTreeMap<String, Color>, code: &str) -> Color {
    colors.get(code).copied().unwrap_or(INK)
}

fn legend(colors: &BTreeMap<String, Color>) -> Vec<(String, Color)> {
    colors.iter().map(|(code, &color)| (code.clone(), color)).collect()
}

fn end(series: &Series) -> f64 {
    let slots = float(u64::try_from(series.answered.slots.len()).unwrap_or_default());
    let by_points = series.points.iter().map(|point| point.asked_us + point.took_us).max();
    by_points.map_or(slots * seconds(series.answered.width_us), seconds)
}

fn time_axis(series: &Series) -> Axis {
    Axis::linear(end(series), "seconds since the first user started")
}

/// Shortest and longest response time in milliseconds.
fn response_time_axis(series: &Series) -> Axis {
    let mut recorded = series.response_times.recorded().map(|(micros, _)| micros);
    let shortest = recorded.next().unwrap_or(1);
    let longest = recorded.last().unwrap_or(shortest);
    Axis::logarithmic(millis(shortest)..millis(longest), "milliseconds")
}

fn latency_over_time(
    report: &Report,
    colors: &BTreeMap<String, Color>,
) -> Result<Option<Plot>, PlotError> {
    let series = &report.figures().series;
    if series.response_times.count() == 0 {
        return Ok(None);
    }
    let (marks, caption, legend) = if series.has_all_points() {
        let marks = series.points.iter().map(|point| {
            let (at, took) = (seconds(point.asked_us + point.took_us), log_millis(point.took_us));
            answer(point, at, took, colors)
        });
        let caption = "Each mark is one answer, at the moment when it came: a dot for a purchase, a cross for anything \
                       else.";
        (marks.collect(), caption.to_owned(), legend(colors))
    } else {
        let caption = format!(
            "Darker: more answers, in stretches of {} s. The line is the slowest answer of each.",
            seconds(series.answered.width_us)
        );
        (heat_map(&series.answered), caption, Vec::new())
    };
    let svg = draw(&time_axis(series), &response_time_axis(series), &marks)?;
    Ok(Some(Plot { title: "Response time over time", caption, svg, legend }))
}

fn answer(point: &Point, x: f64, y: f64, colors: &BTreeMap<String, Color>) -> Mark {
    let color = of(colors, &point.code);
    if point.code == SOLD { Mark::Dot(x, y, color) } else { Mark::Cross(x, y, color) }
}

fn heat_map(slots: &Slots) -> Vec<Mark> {
    let most =
        slots.slots.iter().flat_map(|slot| &slot.sizes).map(|&(_, count)| count).max().unwrap_or(1);
    let width = seconds(slots.width_us);
    let (mut marks, mut slowest) = (Vec::new(), Vec::new());
    for (index, slot) in (0_u32..).zip(&slots.slots) {
        let (from, to) = (f64::from(index) * width, f64::from(index + 1) * width);
        for &(size, count) in &slot.sizes {
            // Sizes are of microseconds, ten to a power of ten.
            let bottom = f64::from(size) / 10.0 - 3.0;
            let opacity = 0.12 + 0.88 * (f64::from(count) / f64::from(most)).sqrt();
            marks.push(Mark::Cell((from, bottom), (to, bottom + 0.1), BLUE, opacity));
        }
        if slot.slowest_us > 0 {
            slowest.push((f64::midpoint(from, to), log_millis(slot.slowest_us)));
        }
    }
    marks.push(Mark::Line(slowest, INK));
    marks
}

fn latency_distribution(report: &Report) -> Result<Option<Plot>, PlotError> {
    let series = &report.figures().series;
    let times = &series.response_times;
    if times.count() == 0 {
        return Ok(None);
    }
    let mut bars: BTreeMap<i32, u64> = BTreeMap::new();
    for (micros, count) in times.recorded() {
        #[expect(clippy::cast_possible_truncation, reason = "-60 to 140")]
        let bar = (log_millis(micros) * 20.0).floor() as i32;
        *bars.entry(bar).or_default() += count;
    }
    let most = bars.values().max().copied().unwrap_or(1);
    let mut marks: Vec<Mark> = bars
        .iter()
        .map(|(&bar, &count)| {
            let left = f64::from(bar) / 20.0;
            Mark::Cell((left, 0.0), (left + 0.05, float(count)), BLUE, 0.8)
        })
        .collect();
    let micros =
        |duration: std::time::Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    let mut limit = |name: &str, value: std::time::Duration, height| {
        marks.push(Mark::Limit(log_millis(micros(value)), name.to_owned(), height));
    };
    limit("P50", times.quantile(0.5), 0.98);
    let caption = if is_small_crowd(report.figures()) {
        "How many answers took how long. P50 is the nearest rank. Too few answers for a P99 that says anything: look at \
         the longest."
    } else {
        limit("P99", times.quantile(0.99), 0.84);
        "How many answers took how long. P50 and P99 are nearest ranks."
    };
    limit("longest", times.max(), 0.7);
    let svg =
        draw(&response_time_axis(series), &Axis::counts(float(most) * 1.3, "answers"), &marks)?;
    let title = "Distribution of response times";
    Ok(Some(Plot { title, caption: caption.to_owned(), svg, legend: Vec::new() }))
}

fn sold_over_time(report: &Report) -> Result<Option<Plot>, PlotError> {
    let figures = report.figures();
    let series = &figures.series;
    let mut sold = vec![(0.0, 0.0)];
    let mut so_far = 0.0;
    if series.has_all_points() {
        let bought = series.points.iter().filter(|point| point.code == SOLD);
        let mut times: Vec<u64> = bought.map(|point| point.asked_us + point.took_us).collect();
        times.sort_unstable();
        for time in times {
            sold.push((seconds(time), so_far));
            so_far += 1.0;
            sold.push((seconds(time), so_far));
        }
    } else {
        let width = seconds(series.answered.width_us);
        for (index, slot) in (1_u32..).zip(&series.answered.slots) {
            so_far += f64::from(slot.codes.get(SOLD).copied().unwrap_or_default());
            sold.push((f64::from(index) * width, so_far));
        }
    }
    if so_far == 0.0 {
        return Ok(None);
    }
    sold.push((end(series), so_far));
    let mut marks = vec![Mark::Line(sold, SOLD_COLOR)];
    // A stock that most of is left would press the line flat.
    let stock = u64::try_from(figures.stock).map_or(0.0, float);
    let mut most = so_far;
    if stock <= so_far * 1.5 {
        most = most.max(stock) * 1.05;
        marks.push(Mark::Level(stock, "stock ".to_owned()));
    }
    let svg = draw(&time_axis(series), &Axis::counts(most, "purchases"), &marks)?;
    let caption = "Purchases that were answered 201, added up.".to_owned();
    Ok(Some(Plot { title: "Sold over time", caption, svg, legend: Vec::new() }))
}

fn answers_over_time(
    report: &Report,
    colors: &BTreeMap<String, Color>,
) -> Result<Option<Plot>, PlotError> {
    let series = &report.figures().series;
    let slots = &series.answered;
    let width = seconds(slots.width_us);
    let (mut marks, mut most) = (Vec::new(), 0.0_f64);
    for (index, slot) in (0_u32..).zip(&slots.slots) {
        let (from, to) = (f64::from(index) * width, f64::from(index + 1) * width);
        let mut height = 0.0;
        for (code, &count) in &slot.codes {
            let top = height + f64::from(count);
            marks.push(Mark::Cell((from, height), (to, top), of(colors, code), 0.9));
            height = top;
        }
        most = most.max(height);
    }
    if marks.is_empty() {
        return Ok(None);
    }
    let x = Axis::linear(
        end(series).max(float(u64::try_from(slots.slots.len()).unwrap_or_default()) * width),
        "seconds since the first user started",
    );
    let svg = draw(&x, &Axis::counts(most, "answers"), &marks)?;
    let caption = format!("Answers in each {width} s, by kind.");
    Ok(Some(Plot { title: "Answers over time", caption, svg, legend: legend(colors) }))
}
