//! The error of a run that cannot start.

use load_scenarios::ScenarioError;

/// A setting that the person who started the run must correct. The message names the setting and the
/// remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name}: {problem}")]
pub struct ConfigError {
    name: &'static str,
    problem: String,
}

impl ConfigError {
    pub(crate) fn new(name: &'static str, problem: impl Into<String>) -> Self {
        Self { name, problem: problem.into() }
    }
}

impl From<ScenarioError> for ConfigError {
    fn from(ScenarioError { flag, problem }: ScenarioError) -> Self {
        Self::new(flag, problem)
    }
}

/// An error with its causes.
pub fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}
