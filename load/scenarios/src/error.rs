//! The error of a scenario that cannot be used.

/// The message names the flag and the remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{flag}: {problem}")]
pub struct ScenarioError {
    /// The flag that the person must correct
    pub flag: &'static str,
    /// What is wrong with it
    pub problem: String,
}

impl ScenarioError {
    pub(crate) fn new(flag: &'static str, problem: impl Into<String>) -> Self {
        Self { flag, problem: problem.into() }
    }
}
