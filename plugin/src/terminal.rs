//! Lines for the terminal. A reader that closed the pipe is an error or ignored, never a panic: a command that panics leaves
//! undone what it has to undo.

use std::fmt::Display;
use std::io::Write as _;

use anyhow::{Context as _, Result};

/// Writes a line of the result to stdout.
pub fn result(line: impl Display) -> Result<()> {
    writeln!(std::io::stdout(), "{line}").context("cannot write to stdout")
}

/// Writes a line about the command itself to stderr, if somebody reads it.
pub fn note(line: impl Display) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
