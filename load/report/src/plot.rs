//! Draws axes and marks as SVG. Knows no report.

use std::ops::Range;

use plotters::chart::{ChartBuilder, ChartContext};
use plotters::coord::Shift;
use plotters::coord::cartesian::Cartesian2d;
use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint, Ranged};
use plotters::drawing::{DrawingArea, IntoDrawingArea};
use plotters::element::{Circle, Cross, PathElement, Rectangle, Text};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color as _, IntoFont, RGBColor, ShapeStyle, TextStyle};
use plotters_svg::SVGBackend;

/// Units of the drawing, which the page scales.
const SIZE: (u32, u32) = (800, 440);
/// Readable where a phone shows the drawing at 40 %.
const TEXT: u32 = 32;
const DOT: i32 = 5;
/// The page gives these two the colours of its theme.
pub const INK: Color = Color(1, 1, 1);
/// See [`INK`].
pub const GRID: Color = Color(2, 2, 2);

/// Red, green and blue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Color(pub u8, pub u8, pub u8);

impl Color {
    /// As in CSS.
    pub fn css(self) -> String {
        format!("#{:02X}{:02X}{:02X}", self.0, self.1, self.2)
    }

    fn style(self, opacity: f64) -> ShapeStyle {
        let color = RGBColor(self.0, self.1, self.2).mix(opacity);
        ShapeStyle { color, filled: true, stroke_width: 3 }
    }
}

/// A plot could not be drawn.
#[derive(Debug, thiserror::Error)]
#[error("cannot draw a plot: {0}")]
pub struct PlotError(String);

/// One axis: its range, and which places have labels.
#[derive(Debug, Clone)]
pub struct Axis {
    range: Range<f64>,
    labels: Vec<(f64, String)>,
    light: Vec<f64>,
    title: String,
}

/// What is drawn. Coordinates are those of the axes.
#[derive(Debug, Clone)]
pub enum Mark {
    /// A line through these points
    Line(Vec<(f64, f64)>, Color),
    /// A filled circle
    Dot(f64, f64, Color),
    /// A cross
    Cross(f64, f64, Color),
    /// A rectangle between two corners, with its opacity
    Cell((f64, f64), (f64, f64), Color, f64),
    /// A vertical line with its name at the given share of the height
    Limit(f64, String, f64),
    /// A horizontal line with its name
    Level(f64, String),
}

impl Axis {
    /// Equal steps from 0.
    pub fn linear(most: f64, title: impl Into<String>) -> Self {
        let most = if most > 0.0 { most } else { 1.0 };
        let step = step(most);
        let labels = ticks(most, step).map(|tick| (tick, number(tick))).collect();
        Self { range: 0.0..most * 1.03, labels, light: Vec::new(), title: title.into() }
    }

    /// Whole numbers from 0.
    pub fn counts(most: f64, title: impl Into<String>) -> Self {
        let mut axis = Self::linear(most.max(1.0), title);
        axis.labels.retain(|(tick, _)| tick.fract() == 0.0);
        axis
    }

    /// Powers of ten around these values. Coordinates are decimal logarithms.
    pub fn logarithmic(values: Range<f64>, title: impl Into<String>) -> Self {
        let first = values.start.max(1e-3).log10().floor();
        let last = values.end.max(values.start).max(1e-3).log10().ceil().max(first + 1.0);
        let mut axis =
            Self { range: first..last, labels: Vec::new(), light: Vec::new(), title: title.into() };
        let mut decade = first;
        while decade <= last {
            axis.labels.push((decade, number(10_f64.powf(decade))));
            axis.light.extend((2..10).map(|digit| decade + f64::from(digit).log10()));
            decade += 1.0;
        }
        let range = axis.range.clone();
        axis.light.retain(|tick| range.contains(tick));
        axis
    }

    /// One place for each name; the place of number `i` is from `i` to `i + 1`.
    pub fn names(names: &[String], title: impl Into<String>) -> Self {
        let centres = (0..).map(|index: u32| f64::from(index) + 0.5);
        let labels: Vec<_> = centres.zip(names.iter().cloned()).collect();
        let end = labels.last().map_or(1.0, |(centre, _)| centre + 0.5);
        Self { range: 0.0..end, labels, light: Vec::new(), title: title.into() }
    }

    fn label(&self, value: f64) -> String {
        let label = self.labels.iter().find(|(tick, _)| (tick - value).abs() < 1e-9);
        label.map_or_else(String::new, |(_, label)| label.clone())
    }
}

impl Ranged for Axis {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    #[expect(clippy::cast_possible_truncation, reason = "a place in the drawing")]
    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        let share = (value - self.range.start) / (self.range.end - self.range.start);
        (f64::from(limit.0) + f64::from(limit.1 - limit.0) * share).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        if hint.weight().allow_light_points() {
            self.light.clone()
        } else {
            self.labels.iter().map(|&(tick, _)| tick).collect()
        }
    }

    fn range(&self) -> Range<f64> {
        self.range.clone()
    }
}

/// The step of an axis: 1, 2 or 5 times a power of ten, so that there are at most six.
fn step(most: f64) -> f64 {
    let power = 10_f64.powf((most / 6.0).log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .map(|digit| digit * power)
        .into_iter()
        .find(|step| most / step <= 6.0)
        .unwrap_or(most)
}

fn ticks(most: f64, step: f64) -> impl Iterator<Item = f64> {
    (0..=6).map(move |index| f64::from(index) * step).filter(move |&tick| tick <= most * 1.03)
}

/// Without zeros at the end.
pub fn number(value: f64) -> String {
    let text = format!("{value:.3}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    // Thousands are set apart, as 1,000.
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let mut grouped = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0
            && (whole.len() - index).is_multiple_of(3)
            && whole.as_bytes()[index - 1] != b'-'
        {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    if fraction.is_empty() { grouped } else { format!("{grouped}.{fraction}") }
}

type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<Axis, Axis>>;

/// Draws marks between two axes. All text is escaped.
///
/// # Errors
/// When the library refuses.
pub fn draw(x: &Axis, y: &Axis, marks: &[Mark]) -> Result<String, PlotError> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let mut chart = frame(&area, x, y)?;
        for mark in marks {
            draw_mark(&mut chart, mark, x, y)?;
        }
        area.present().map_err(failed)?;
    }
    Ok(svg)
}

fn failed(error: impl std::fmt::Display) -> PlotError {
    PlotError(error.to_string())
}

fn text_style(size: u32) -> TextStyle<'static> {
    let ink = RGBColor(INK.0, INK.1, INK.2);
    ("sans-serif", size).into_font().color(&ink)
}

fn frame<'a, 'b>(
    area: &'a DrawingArea<SVGBackend<'b>, Shift>,
    x: &Axis,
    y: &Axis,
) -> Result<Chart<'a, 'b>, PlotError> {
    let mut chart = ChartBuilder::on(area)
        .margin(8)
        .margin_top(20)
        .margin_right(48)
        .x_label_area_size(88)
        .y_label_area_size(128)
        .build_cartesian_2d(x.clone(), y.clone())
        .map_err(failed)?;
    chart
        .configure_mesh()
        .x_label_formatter(&|value| x.label(*value))
        .y_label_formatter(&|value| y.label(*value))
        .x_desc(x.title.as_str())
        .y_desc(y.title.as_str())
        .label_style(text_style(TEXT))
        .axis_desc_style(text_style(TEXT))
        .axis_style(INK.style(1.0).stroke_width(1))
        .bold_line_style(GRID.style(1.0).stroke_width(1))
        .light_line_style(GRID.style(0.4).stroke_width(1))
        .draw()
        .map_err(failed)?;
    Ok(chart)
}

fn draw_mark(chart: &mut Chart<'_, '_>, mark: &Mark, x: &Axis, y: &Axis) -> Result<(), PlotError> {
    let thin = INK.style(1.0).stroke_width(2);
    let label = text_style(TEXT);
    match mark {
        Mark::Line(points, color) => {
            let line = PathElement::new(points.clone(), color.style(1.0));
            chart.draw_series([line]).map_err(failed)?;
        }
        Mark::Dot(at_x, at_y, color) => {
            let dot = Circle::new((*at_x, *at_y), DOT, color.style(0.8));
            chart.draw_series([dot]).map_err(failed)?;
        }
        Mark::Cross(at_x, at_y, color) => {
            let cross = Cross::new((*at_x, *at_y), DOT, color.style(0.9).stroke_width(2));
            chart.draw_series([cross]).map_err(failed)?;
        }
        Mark::Cell(corner, opposite, color, opacity) => {
            let cell = Rectangle::new([*corner, *opposite], color.style(*opacity));
            chart.draw_series([cell]).map_err(failed)?;
        }
        Mark::Limit(at_x, name, height) => {
            let line = vec![(*at_x, y.range.start), (*at_x, y.range.end)];
            chart.draw_series([PathElement::new(line, thin)]).map_err(failed)?;
            let is_right = *at_x > f64::midpoint(x.range.start, x.range.end);
            let side = if is_right { HPos::Right } else { HPos::Left };
            let up = y.range.start + (y.range.end - y.range.start) * height;
            let name = if is_right { format!("{name} ") } else { format!(" {name}") };
            let text = Text::new(name, (*at_x, up), label.pos(Pos::new(side, VPos::Top)));
            chart.draw_series([text]).map_err(failed)?;
        }
        Mark::Level(at_y, name) => {
            let line = vec![(x.range.start, *at_y), (x.range.end, *at_y)];
            chart.draw_series([PathElement::new(line, thin)]).map_err(failed)?;
            let text = Text::new(
                name.clone(),
                (x.range.end, *at_y),
                label.pos(Pos::new(HPos::Right, VPos::Top)),
            );
            chart.draw_series([text]).map_err(failed)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_have_few_round_labels() {
        let labels =
            |axis: Axis| axis.labels.into_iter().map(|(_, label)| label).collect::<Vec<_>>();
        assert_eq!(labels(Axis::linear(0.33, "")), ["0", "0.1", "0.2", "0.3"]);
        assert_eq!(labels(Axis::linear(1_234.0, "")), ["0", "500", "1,000"]);
        assert_eq!(labels(Axis::counts(1.0, "")), ["0", "1"]);
        assert_eq!(labels(Axis::logarithmic(3.0..250.0, "")), ["1", "10", "100", "1,000"]);
        assert_eq!(labels(Axis::logarithmic(5.0..5.0, "")), ["1", "10"]);
    }

    #[test]
    fn names_cannot_become_markup() {
        let names = ["</text><script>alert(1)</script>".to_owned(), "\" onload=\"x".to_owned()];
        let axis = Axis::names(&names, "a < b & c");
        let mark = Mark::Level(0.5, "<b>level</b>".to_owned());
        let svg = draw(&axis, &Axis::linear(1.0, "y"), &[mark]).unwrap();
        assert!(
            !svg.contains("<script") && !svg.contains("<b>") && !svg.contains("\" onload"),
            "{svg}"
        );
        assert!(svg.contains("a &lt; b &amp; c") && svg.contains("&lt;/text&gt;"), "{svg}");
        assert!(svg.starts_with("<svg ") && svg.trim_end().ends_with("</svg>"));
    }

    #[test]
    fn nothing_and_single_values_are_drawn() {
        for (x, y) in [(0.0, 0.0), (1e-9, 1e12)] {
            let dot = Mark::Dot(x, y, INK);
            draw(&Axis::linear(x, "x"), &Axis::counts(y, "y"), &[dot]).unwrap();
        }
        draw(&Axis::names(&[], ""), &Axis::logarithmic(0.0..0.0, ""), &[]).unwrap();
    }
}
