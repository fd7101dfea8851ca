//! Waits for the lock and for each Redis node.

use super::style::{BLUE, Plot};
use crate::plot::{Axis, INK, Mark, PlotError, draw};
use crate::report::Report;
use crate::series::Buckets;

pub(super) fn lock_wait(report: &Report) -> Result<Option<Plot>, PlotError> {
    let figures = report.figures();
    let series = &figures.series;
    let mut columns: Vec<(String, &Buckets, Option<f64>, Option<f64>)> = Vec::new();
    if series.lock_wait.count() > 0.0 {
        let (p50, p99) = (figures.lock_wait_p50_ms, figures.lock_wait_p99_ms);
        columns.push(("lock".to_owned(), &series.lock_wait, p50, p99));
    }
    for (node, buckets) in &series.lock_nodes {
        let average = figures.lock_node_average_ms.get(node).copied();
        let p99 = figures.lock_node_p99_ms.get(node).copied();
        columns.push((format!("node {node}"), buckets, average, p99));
    }
    if columns.is_empty() {
        return Ok(None);
    }
    let names: Vec<String> = columns.iter().map(|(name, ..)| name.clone()).collect();
    let (mut marks, mut least, mut most) = (Vec::new(), f64::MAX, 0.0_f64);
    for (index, (_, buckets, middle, p99)) in (0_u32..).zip(&columns) {
        let left = f64::from(index);
        for (from, to, share) in shares(buckets) {
            (least, most) = (least.min(from * 1e3), most.max(to * 1e3));
            let (bottom, top) = ((from * 1e3).log10(), (to * 1e3).log10());
            let opacity = 0.08 + 0.92 * share;
            marks.push(Mark::Cell((left + 0.12, bottom), (left + 0.88, top), BLUE, opacity));
        }
        for value in [middle, p99].into_iter().flatten().filter(|&&value| value > 0.0) {
            let y = value.log10();
            (least, most) = (least.min(*value), most.max(*value));
            marks.push(Mark::Line(vec![(left + 0.05, y), (left + 0.95, y)], INK));
        }
    }
    let y = Axis::logarithmic(least..most, "milliseconds");
    let svg = draw(&Axis::names(&names, ""), &y, &marks)?;
    let caption = "Waits for the whole lock, and lock attempts on each Redis node, from the replicas' histograms. Darker: \
                   a larger share. Lines: median and P99 of the lock; mean and P99 of a node. Percentiles are \
                   interpolated within a bucket.";
    let title = "Lock wait by node";
    Ok(Some(Plot { title, caption: caption.to_owned(), svg, legend: Vec::new() }))
}

/// Lower bound, upper bound and share of each bucket that has any. The lowest bucket has no lower bound, which a
/// logarithmic axis needs, and the highest no upper one.
fn shares(buckets: &Buckets) -> Vec<(f64, f64, f64)> {
    let (mut below, mut lower, mut found) = (0.0, None, Vec::new());
    for &(upper, cumulative) in &buckets.0 {
        let from = lower.or_else(|| upper.map(|upper| upper / 2.0));
        let to = upper.or_else(|| lower.map(|lower| lower * 2.0));
        if let (Some(from), Some(to)) = (from, to)
            && cumulative > below
        {
            found.push((from, to, (cumulative - below) / buckets.count()));
        }
        (below, lower) = (cumulative, upper);
    }
    found
}
