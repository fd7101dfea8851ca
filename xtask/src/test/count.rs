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

    /// Adds the results of another count.
    pub fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failures.extend(other.failures);
        self.skipped += other.skipped;
    }

    /// Lists the failures; the last line has the numbers.
    pub fn print(&self) {
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
