//! Lines for the terminal. A reader that closed the pipe is an error or ignored, never a panic: a run that panics leaves
//! what it did without a verdict.

use std::fmt::Display;
use std::io::Write as _;

use crate::error::ConfigError;

/// Writes a line of the result to stdout.
///
/// # Errors
/// When nobody reads it.
pub fn result(line: impl Display) -> Result<(), ConfigError> {
    writeln!(std::io::stdout(), "{line}")
        .map_err(|error| ConfigError::new("stdout", format!("cannot be written: {error}")))
}

/// Writes a line about the command itself to stderr, if somebody reads it.
pub fn note(line: impl Display) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
