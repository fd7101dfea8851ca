//! What goes into a bundle, and what could not be had.

use anyhow::Result;
use serde_json::Value;

/// A file of the bundle.
pub struct Entry {
    /// Its path in the bundle.
    pub path: String,
    /// Its text, before the last redaction.
    pub content: String,
}

/// All files so far.
#[derive(Default)]
pub struct Collected {
    /// The files.
    pub entries: Vec<Entry>,
    /// What is missing, and why.
    pub missing: Vec<String>,
}

impl Collected {
    /// Adds a file.
    pub fn add(&mut self, path: impl Into<String>, content: String) {
        self.entries.push(Entry { path: path.into(), content });
    }
}

/// JSON for people.
pub fn pretty(value: &Value) -> Result<String> {
    Ok(serde_json::to_string_pretty(value)? + "\n")
}
