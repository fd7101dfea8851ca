//! The report as text, for people.

use std::fmt;

use crate::report::{Report, Row, Status};
use crate::rules::{is_small_crowd, p99_rule};

/// The report prints this many problems and counts the rest.
pub(crate) const PROBLEMS_SHOWN: usize = 10;

/// How a status is written.
pub(crate) fn word(status: Status) -> &'static str {
    match status {
        Status::Info => "",
        Status::Ok => "ok",
        Status::Wrong => "FAIL (wrong)",
        Status::Slow => "FAIL (slow)",
        Status::Missed => "missed (not judged)",
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", self.figures().scenario, self.description())?;
        let width = |column: fn(&Row) -> usize| self.checks().iter().map(column).max().unwrap_or(0);
        let name = width(|row| row.name.chars().count());
        let measured = width(|row| row.measured.chars().count());
        let target = width(|row| row.target.as_ref().map_or(0, |target| target.chars().count()));
        for row in self.checks() {
            let goal = row.target.as_deref().unwrap_or_default();
            let line = format!(
                "  {:<name$}  {:>measured$}  {goal:<target$}  {}",
                row.name,
                row.measured,
                word(row.status)
            );
            writeln!(f, "{}", line.trim_end())?;
        }
        for problem in self.problems().iter().take(PROBLEMS_SHOWN) {
            writeln!(f, "  - {problem}")?;
        }
        if let Some(more) =
            self.problems().len().checked_sub(PROBLEMS_SHOWN).filter(|&more| more > 0)
        {
            writeln!(f, "  - and {more} more")?;
        }
        if self.figures().requests > 0 {
            writeln!(f, "  P99: {}.", p99_rule(self.figures()))?;
        }
        if self.lock_figures_shown() {
            writeln!(
                f,
                "  Lock times come from the app's histograms; percentiles are interpolated within a bucket, \
                 as by Prometheus's histogram_quantile."
            )?;
        }
        write!(f, "{}", self.verdict().word())?;
        for (word, names) in [("wrong", self.wrong()), ("slow", self.slow())] {
            if !names.is_empty() {
                write!(f, "; {word}: {}", names.join(", "))?;
            }
        }
        Ok(())
    }
}

impl Report {
    fn lock_figures_shown(&self) -> bool {
        self.figures().lock_wait_p50_ms.is_some() || !self.figures().lock_node_p99_ms.is_empty()
    }

    /// Whether a percentile says little.
    pub(crate) fn is_of_a_small_crowd(&self) -> bool {
        is_small_crowd(self.figures())
    }
}
