//! Finds the report in the log of a run.

use serde::Deserialize;

use crate::report::{Report, SCHEMA_VERSION};

/// Why a log gives no report.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// No line of it is one
    #[error(
        "has no report; give the whole log of a `flashsale-load run` that has ended, whose last line is a JSON object"
    )]
    Missing,
    /// It was written by another version
    #[error(
        "the report has schema version {0}, and this program ({version}) reads {SCHEMA_VERSION}; use the version that \
         wrote it",
        version = env!("CARGO_PKG_VERSION")
    )]
    Version(u32),
    /// It is not what its version says
    #[error("the report is damaged: {0}")]
    Damaged(serde_json::Error),
}

/// The last report of a log, which is read line by line. A log may have lines of its own after it, and bytes that are no
/// text.
#[derive(Debug, Default)]
pub struct ReportLog {
    last: Option<(u32, Vec<u8>)>,
}

#[derive(Deserialize)]
struct Version {
    schema_version: u32,
}

impl ReportLog {
    /// Takes the next line; whether it is a report.
    pub fn line(&mut self, line: &[u8]) -> bool {
        // `kubectl logs --prefix` and log collectors put their own text in front.
        let Some(start) = line.windows(2).position(|pair| pair == b"{\"") else { return false };
        let Ok(version) = serde_json::from_slice::<Version>(&line[start..]) else { return false };
        self.last = Some((version.schema_version, line[start..].to_vec()));
        true
    }

    /// The report.
    ///
    /// # Errors
    /// When there is none, or one that cannot be read.
    pub fn report(&self) -> Result<Report, LogError> {
        match &self.last {
            None => Err(LogError::Missing),
            Some((SCHEMA_VERSION, line)) => serde_json::from_slice(line).map_err(LogError::Damaged),
            Some((version, _)) => Err(LogError::Version(*version)),
        }
    }
}
