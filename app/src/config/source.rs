//! Where settings come from, and what is wrong with one.

use std::fmt::Display;

/// A setting that is missing or cannot be used. The message names it and the remedy.
#[derive(Debug, thiserror::Error)]
#[error("{name}: {problem}")]
pub struct ConfigError {
    name: &'static str,
    problem: String,
}

/// A source of settings: the environment, or a test's own.
pub trait Source {
    /// The value of a setting; an empty one counts as absent.
    fn get(&self, name: &str) -> Option<String>;
}

/// The process's environment.
#[derive(Debug, Clone, Copy)]
pub struct Environment;

impl Source for Environment {
    fn get(&self, name: &str) -> Option<String> {
        std::env::var(name).ok().filter(|value| !value.is_empty())
    }
}

impl ConfigError {
    /// A setting whose value turned out to be unusable.
    pub fn unusable(name: &'static str, error: &dyn Display) -> Self {
        Self::new(name, error.to_string())
    }

    pub(super) fn new(name: &'static str, problem: impl Into<String>) -> Self {
        Self { name, problem: problem.into() }
    }
}
