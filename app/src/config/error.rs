//! What is wrong with a setting.

use std::fmt::Display;

/// A setting that is missing or cannot be used. The message names it and the remedy.
#[derive(Debug, thiserror::Error)]
#[error("{name}: {problem}")]
pub struct ConfigError {
    name: String,
    problem: String,
}

impl ConfigError {
    /// A setting whose value turned out to be unusable.
    pub fn unusable(name: &str, error: &dyn Display) -> Self {
        Self::new(name, error.to_string())
    }

    pub(super) fn new(name: &str, problem: impl Into<String>) -> Self {
        Self { name: name.to_owned(), problem: problem.into() }
    }
}
