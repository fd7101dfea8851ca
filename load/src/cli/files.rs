//! The files of a report: the log that has it, and the page that it becomes.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;

use load_report::{Report, ReportLog, WholeFile, page};

use crate::error::ConfigError;

/// Reads a log; `-` is the standard input.
///
/// # Errors
/// When it cannot be read, has no report, or one of another version.
pub fn read(from: &Path) -> Result<Report, ConfigError> {
    if from.as_os_str() == "-" {
        return find(std::io::stdin(), "the standard input");
    }
    let name = from.display().to_string();
    let file = File::open(from)
        .map_err(|error| ConfigError::new("--from", format!("cannot read {name}: {error}")))?;
    find(file, &name)
}

fn find(from: impl Read, name: &str) -> Result<Report, ConfigError> {
    let wrong = |problem: String| ConfigError::new("--from", format!("{name}: {problem}"));
    let mut log = ReportLog::default();
    for line in BufReader::new(from).split(b'\n') {
        log.line(&line.map_err(|error| wrong(error.to_string()))?);
    }
    log.report().map_err(|error| wrong(error.to_string()))
}

/// The file of a page.
pub struct Page<'a> {
    path: &'a Path,
    file: WholeFile,
}

impl<'a> Page<'a> {
    /// Makes the file; what is there stays until there is a page.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn create(path: &'a Path) -> Result<Self, ConfigError> {
        let file = WholeFile::create(path).map_err(|error| wrong(path, &error))?;
        Ok(Self { path, file })
    }

    /// Writes the page of a report.
    ///
    /// # Errors
    /// When a plot cannot be drawn, or the file cannot be written.
    pub fn write(self, report: &Report) -> Result<(), ConfigError> {
        let Self { path, mut file } = self;
        let page = page(report).map_err(|error| wrong(path, &error))?;
        let written = file.write_all(page.as_bytes()).and_then(|()| file.finish());
        written.map_err(|error| wrong(path, &error))
    }
}

fn wrong(path: &Path, error: &dyn std::error::Error) -> ConfigError {
    ConfigError::new("--html", format!("cannot write {}: {error}", path.display()))
}
