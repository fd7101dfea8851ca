//! The report: rows for people, one JSON object for tools. It compares single figures with their bounds and
//! decides nothing else.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::config::TimingTargets;
use crate::scenario::Scenario;

/// The report prints this many problems and counts the rest.
const PROBLEMS_SHOWN: usize = 10;

/// The result of comparing a figure with its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// There is no target
    Info,
    /// Met
    Ok,
    /// The sale violated a correctness rule
    Wrong,
    /// A timing target was missed
    Slow,
    /// A timing target was missed, and does not count
    Missed,
}

/// One figure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    /// The name of the figure
    pub name: String,
    /// The value with its unit
    pub measured: String,
    /// The target with its relation, such as `< 100 ms`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The result of the comparison
    pub status: Status,
}

/// All figures of a run, for tools. The lock's times come from histograms: they are interpolated within a
/// bucket, as by Prometheus's `histogram_quantile`, and absent without observations.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Figures {
    pub scenario: String,
    pub users: u32,
    pub stock: i64,
    pub sold: i64,
    /// Users without an order, by the last answer's code
    pub failed: BTreeMap<String, u32>,
    /// All answers, by code
    pub answers: BTreeMap<String, u32>,
    /// The same for each second of the run
    pub answers_by_second: Vec<BTreeMap<String, u32>>,
    /// The longest time without a successful purchase while users came
    pub longest_pause_ms: f64,
    /// New tokens by the result of their first use
    pub new_tokens: BTreeMap<String, u32>,
    pub oversold: i64,
    pub success_rate_percent: f64,
    pub unanswered: u32,
    pub lost_answers: u32,
    pub requests: u32,
    pub requests_per_second: f64,
    pub elapsed_seconds: f64,
    pub p50_ms: f64,
    pub average_ms: f64,
    pub p99_ms: f64,
    pub max_ms: f64,
    pub lock_wait_p50_ms: Option<f64>,
    pub lock_wait_p99_ms: Option<f64>,
    pub lock_node_average_ms: BTreeMap<String, f64>,
    pub lock_node_p99_ms: BTreeMap<String, f64>,
    pub quorum_success_percent: Option<f64>,
    pub node_stock: BTreeMap<String, Option<i64>>,
    pub database_stock: Option<i64>,
    pub database_orders: Option<u32>,
}

/// The result of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    verdict: &'static str,
    /// Names of the figures that are wrong
    wrong: Vec<String>,
    /// Names of the timing targets that were missed and count
    slow: Vec<String>,
    #[serde(flatten)]
    figures: Figures,
    /// Disagreements between answers and database, and read errors
    problems: Vec<String>,
    checks: Vec<Row>,
    #[serde(skip)]
    title: String,
}

impl Report {
    /// Whether every correctness rule holds and every timing target that counts was met.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.wrong.is_empty() && self.slow.is_empty()
    }

    /// Names of the figures that are wrong.
    #[must_use]
    pub fn wrong(&self) -> &[String] {
        &self.wrong
    }

    /// Names of the timing targets that were missed and count.
    #[must_use]
    pub fn slow(&self) -> &[String] {
        &self.slow
    }

    /// All figures.
    #[must_use]
    pub fn figures(&self) -> &Figures {
        &self.figures
    }

    /// Disagreements between answers and database, and read errors.
    #[must_use]
    pub fn problems(&self) -> &[String] {
        &self.problems
    }

    /// One line for tools.
    #[must_use]
    pub fn json(&self) -> String {
        // Strings, numbers and maps with string keys always serialize; a reader of `{}` sees no verdict.
        serde_json::to_string(self).unwrap_or_else(|_| "{}".to_owned())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.title)?;
        let width = |column: fn(&Row) -> usize| self.checks.iter().map(column).max().unwrap_or(0);
        let name = width(|row| row.name.chars().count());
        let measured = width(|row| row.measured.chars().count());
        let target = width(|row| row.target.as_ref().map_or(0, |target| target.chars().count()));
        for row in &self.checks {
            let status = match row.status {
                Status::Info => "",
                Status::Ok => "ok",
                Status::Wrong => "FAIL (wrong)",
                Status::Slow => "FAIL (slow)",
                Status::Missed => "missed (not judged)",
            };
            let goal = row.target.as_deref().unwrap_or_default();
            let line = format!(
                "  {:<name$}  {:>measured$}  {goal:<target$}  {status}",
                row.name, row.measured
            );
            writeln!(f, "{}", line.trim_end())?;
        }
        for problem in self.problems.iter().take(PROBLEMS_SHOWN) {
            writeln!(f, "  - {problem}")?;
        }
        if let Some(more) = self.problems.len().checked_sub(PROBLEMS_SHOWN).filter(|&more| more > 0)
        {
            writeln!(f, "  - and {more} more")?;
        }
        if self.lock_figures_shown() {
            writeln!(
                f,
                "  Lock times come from the app's histograms; percentiles are interpolated within a bucket, \
                 as by Prometheus's histogram_quantile."
            )?;
        }
        write!(f, "{}", self.verdict)?;
        for (word, names) in [("wrong", &self.wrong), ("slow", &self.slow)] {
            if !names.is_empty() {
                write!(f, "; {word}: {}", names.join(", "))?;
            }
        }
        Ok(())
    }
}

impl Report {
    fn lock_figures_shown(&self) -> bool {
        self.figures.lock_wait_p50_ms.is_some() || !self.figures.lock_node_p99_ms.is_empty()
    }
}

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
        self.checks.push(Row { name: name.to_owned(), measured, target, status });
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

    /// Completes the report with its verdict.
    pub(crate) fn finish(self, scenario: &Scenario, figures: Figures) -> Report {
        let names = |status| {
            let rows = self.checks.iter().filter(|row| row.status == status);
            rows.map(|row| row.name.clone()).collect::<Vec<_>>()
        };
        let (wrong, slow) = (names(Status::Wrong), names(Status::Slow));
        Report {
            verdict: if wrong.is_empty() && slow.is_empty() { "PASS" } else { "FAIL" },
            wrong,
            slow,
            figures,
            problems: self.problems,
            title: format!("{}: {}", scenario.name, scenario.description),
            checks: self.checks,
        }
    }
}
