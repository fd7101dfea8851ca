//! What passed and what failed.

use anyhow::Result;

use crate::shell::print;

/// The results of tests and checks.
#[derive(Debug, Default)]
pub struct Count {
    /// Those that passed.
    pub passed: usize,
    /// The names of those that failed, or the errors.
    pub failures: Vec<String>,
    /// Those that were not run.
    pub skipped: usize,
    /// Why some of these were not.
    pub reasons: Vec<String>,
}

impl Count {
    /// Adds one check.
    pub fn check(&mut self, result: Result<()>) {
        match result {
            Ok(()) => self.passed += 1,
            Err(error) => {
                print(&format!("error: {error:#}"));
                self.failures.push(format!("{error:#}"));
            }
        }
    }

    /// Adds something that could not be run here.
    pub fn skip(&mut self, reason: impl Into<String>) {
        let reason = reason.into();
        print(&format!("skipped: {reason}"));
        self.skipped += 1;
        self.reasons.push(reason);
    }

    /// Adds the results of another count.
    pub fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failures.extend(other.failures);
        self.skipped += other.skipped;
        self.reasons.extend(other.reasons);
    }

    /// Lists what was skipped for a reason, and the failures; the last line has the numbers.
    pub fn print(&self) {
        for reason in &self.reasons {
            print(&format!("skipped: {reason}"));
        }
        for failure in &self.failures {
            print(&format!("failed: {failure}"));
        }
        let skipped = match self.skipped {
            0 => String::new(),
            number => format!(", {number} skipped"),
        };
        print(&format!("{} passed, {} failed{skipped}", self.passed, self.failures.len()));
    }
}
