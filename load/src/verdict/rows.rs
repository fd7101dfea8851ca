//! Collects the rows of a report. It compares single figures with their bounds and decides nothing else.

use std::ops::RangeInclusive;

use crate::config::TimingTargets;
use crate::scenario::Scenario;
use load_report::{Figures, Report, Row, Status, rule};

/// The bound of a timing figure.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Bound {
    None,
    Below(Option<f64>),
    AtLeast(Option<f64>),
}

/// Collects the rows of a report.
#[derive(Debug)]
pub(crate) struct Rows {
    checks: Vec<Row>,
    problems: Vec<String>,
    timing: TimingTargets,
}

impl Rows {
    pub(crate) fn new(timing: TimingTargets) -> Self {
        Self { checks: Vec::new(), problems: Vec::new(), timing }
    }

    fn push(&mut self, name: &str, measured: String, target: Option<String>, status: Status) {
        self.checks.push(Row { name: name.to_owned(), measured, target, status, rule: None });
    }

    /// Adds a problem that does not fit into a row.
    pub(crate) fn note(&mut self, problem: String) {
        self.problems.push(problem);
    }

    /// A figure without a target.
    pub(crate) fn info(&mut self, name: &str, measured: String) {
        self.push(name, measured, None, Status::Info);
    }

    /// A figure whose target always counts.
    pub(crate) fn must(&mut self, name: &str, measured: String, target: String, met: bool) {
        let status = if met { Status::Ok } else { Status::Wrong };
        self.push(name, measured, Some(target), status);
    }

    /// A count whose target always counts.
    pub(crate) fn must_equal(&mut self, name: &str, measured: i64, target: i64) {
        self.must(name, measured.to_string(), format!("= {target}"), measured == target);
    }

    /// A count that must be within bounds.
    pub(crate) fn must_be_within(
        &mut self,
        name: &str,
        measured: i64,
        bounds: &RangeInclusive<i64>,
    ) {
        let (low, high) = (bounds.start(), bounds.end());
        let target = if low == high { format!("= {low}") } else { format!("{low} to {high}") };
        self.must(name, measured.to_string(), target, bounds.contains(&measured));
    }

    /// A figure whose target counts only with [`TimingTargets::Judge`]. A figure that could not be measured
    /// misses its target.
    pub(crate) fn timing(&mut self, name: &str, measured: Option<f64>, unit: &str, bound: Bound) {
        let text =
            measured.map_or_else(|| "not measured".to_owned(), |value| format!("{value:.2}{unit}"));
        let (target, met) = match bound {
            Bound::Below(Some(limit)) => {
                (format!("< {limit}{unit}"), measured.is_some_and(|value| value < limit))
            }
            Bound::AtLeast(Some(limit)) => {
                (format!(">= {limit}{unit}"), measured.is_some_and(|value| value >= limit))
            }
            Bound::None | Bound::Below(None) | Bound::AtLeast(None) => {
                return self.info(name, text);
            }
        };
        let status = match (met, self.timing) {
            (true, _) => Status::Ok,
            (false, TimingTargets::Judge) => Status::Slow,
            (false, TimingTargets::Report) => Status::Missed,
        };
        self.push(name, text, Some(target), status);
    }

    /// Completes the report with the rules of its figures and its verdict.
    pub(crate) fn finish(mut self, scenario: &Scenario, figures: Figures) -> Report {
        for row in &mut self.checks {
            row.rule = rule(&row.name, &figures);
        }
        let version = env!("CARGO_PKG_VERSION");
        Report::new(version, &scenario.description, figures, self.problems, self.checks)
    }
}

/// To the microsecond: more digits are noise.
pub(crate) fn milliseconds(seconds: f64) -> f64 {
    (seconds * 1e6).round() / 1e3
}
