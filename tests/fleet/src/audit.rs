//! The operator's requests, as the API server logs them.

use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde::Deserialize;

/// Reads the log from where it was read last.
pub struct AuditLog {
    path: PathBuf,
    read: u64,
}

/// Requests since the last look.
#[derive(Debug, Default, Clone, Copy)]
pub struct Requests {
    /// All, and a watch when it begins.
    pub all: u32,
    /// Those that begin a watch, or look for a kind that the cluster does not serve.
    pub watches: u32,
    /// Those that create, change or delete.
    pub writes: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event<'a> {
    stage: &'a str,
    verb: &'a str,
    #[serde(default)]
    response_status: Status,
}

#[derive(Default, Deserialize)]
struct Status {
    #[serde(default)]
    code: u16,
}

impl AuditLog {
    /// At its beginning.
    pub const fn new(path: PathBuf) -> Self {
        Self { path, read: 0 }
    }

    /// Counts what was logged since the last call.
    pub fn count(&mut self) -> Result<Requests> {
        let file = std::fs::File::open(&self.path)?;
        let length = file.metadata()?.len();
        ensure!(length >= self.read, "the API server began a new log: what it had logged is lost");
        let mut file = BufReader::new(file);
        file.seek(SeekFrom::Start(self.read))?;
        let mut requests = Requests::default();
        let mut line = String::new();
        while file.read_line(&mut line)? > 0 && line.ends_with('\n') {
            self.read += u64::try_from(line.len())?;
            requests.add(&serde_json::from_str(&line)?);
            line.clear();
        }
        Ok(requests)
    }

    /// Waits until the operator has sent nothing but watches for so long.
    pub async fn wait_for_rest(&mut self, rest: Duration, at_most: Duration) -> Result<()> {
        let (begin, mut since) = (Instant::now(), Instant::now());
        while since.elapsed() < rest {
            let requests = self.count()?;
            if requests.all > requests.watches {
                since = Instant::now();
            }
            ensure!(begin.elapsed() < at_most, "the operator does not come to rest");
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        Ok(())
    }
}

impl Requests {
    fn add(&mut self, event: &Event<'_>) {
        let is_watch = event.verb == "watch";
        // A watch is logged when it begins and when it ends.
        if event.stage != if is_watch { "ResponseStarted" } else { "ResponseComplete" } {
            return;
        }
        self.all += 1;
        let is_missing = event.verb == "list" && event.response_status.code == 404;
        self.watches += u32::from(is_watch || is_missing);
        let reads = matches!(event.verb, "get" | "list" | "watch");
        self.writes += u32::from(!reads);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_was_begun_anew_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let line = "{\"stage\": \"ResponseComplete\", \"verb\": \"get\"}\n";
        let mut log = AuditLog::new(file.path().to_owned());
        std::fs::write(file.path(), line.repeat(2)).unwrap();
        assert_eq!(log.count().unwrap().all, 2);
        assert_eq!(log.count().unwrap().all, 0);
        std::fs::write(file.path(), line).unwrap();
        assert!(log.count().is_err());
    }

    #[test]
    fn a_watch_is_counted_once_and_writes_apart() {
        let mut requests = Requests::default();
        for (stage, verb) in [
            ("ResponseStarted", "watch"),
            ("ResponseComplete", "watch"),
            ("ResponseComplete", "get"),
            ("ResponseComplete", "patch"),
        ] {
            requests.add(&Event { stage, verb, response_status: Status { code: 200 } });
        }
        assert_eq!((requests.all, requests.watches, requests.writes), (3, 1, 1));
    }
}
