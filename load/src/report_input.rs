//! Finds the report in the log of a run.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use serde::Deserialize;

use crate::error::ConfigError;
use crate::report::{Report, SCHEMA_VERSION};

/// Reads a log; `-` is the standard input.
///
/// # Errors
/// When it cannot be read, has no report, or one of another version.
pub fn read(from: &Path) -> Result<Report, ConfigError> {
    if from.as_os_str() == "-" {
        return find(std::io::stdin(), "the standard input");
    }
    let name = from.display().to_string();
    let file = std::fs::File::open(from)
        .map_err(|error| ConfigError::new("--from", format!("cannot read {name}: {error}")))?;
    find(file, &name)
}

#[derive(Deserialize)]
struct Version {
    schema_version: u32,
}

/// The last line that is a report. A log may have lines of its own after it, and bytes that are no text.
fn find(log: impl Read, name: &str) -> Result<Report, ConfigError> {
    let wrong = |problem: String| ConfigError::new("--from", format!("{name}: {problem}"));
    let mut found = None;
    for line in BufReader::new(log).split(b'\n') {
        let line = line.map_err(|error| wrong(error.to_string()))?;
        // `kubectl logs --prefix` and log collectors put their own text in front.
        let Some(start) = line.windows(2).position(|pair| pair == b"{\"") else { continue };
        if let Ok(version) = serde_json::from_slice::<Version>(&line[start..]) {
            found = Some((version.schema_version, line[start..].to_vec()));
        }
    }
    let Some((version, line)) = found else {
        return Err(wrong(
            "has no report; give the whole log of a `flashsale-load run` that has ended, whose last line is a JSON \
             object"
                .to_owned(),
        ));
    };
    if version != SCHEMA_VERSION {
        return Err(wrong(format!(
            "the report has schema version {version}, and this flashsale-load ({}) reads {SCHEMA_VERSION}; use the \
             version that wrote it",
            env!("CARGO_PKG_VERSION")
        )));
    }
    serde_json::from_slice(&line).map_err(|error| wrong(format!("the report is damaged: {error}")))
}
