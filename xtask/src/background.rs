//! Work beside other work. Its output is shown when it has ended, in one piece.

use std::thread::{Scope, ScopedJoinHandle};

use anyhow::{Context, Result};
use tempfile::NamedTempFile;

use crate::shell::{logged, print};

/// Work in a thread of its own.
pub struct Background<'scope, T> {
    thread: ScopedJoinHandle<'scope, T>,
    log: NamedTempFile,
}

impl<'scope, T: Send + 'scope> Background<'scope, T> {
    /// Starts the work.
    pub fn start(
        scope: &'scope Scope<'scope, '_>,
        work: impl FnOnce() -> T + Send + 'scope,
    ) -> Result<Self> {
        let log = NamedTempFile::new()?;
        let file = std::fs::File::options().append(true).open(log.path())?;
        Ok(Self { thread: scope.spawn(move || logged(file, work)), log })
    }

    /// Waits for its end and shows its output.
    pub fn join(self) -> Result<T> {
        let result = self.thread.join();
        let said = std::fs::read(self.log.path()).unwrap_or_default();
        print(String::from_utf8_lossy(&said).trim_end());
        result.ok().context("a step in the background panicked")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shell::{command, run, say};

    #[test]
    fn its_output_is_kept_together() {
        std::thread::scope(|scope| {
            let work = || {
                say("begins");
                run(command("sh").args(["-c", "echo out; echo error >&2"]))
            };
            let background = Background::start(scope, work).unwrap();
            while !background.thread.is_finished() {
                std::thread::yield_now();
            }
            let said = std::fs::read_to_string(background.log.path()).unwrap();
            assert_eq!(said, "==> begins\nout\nerror\n");
            background.join().unwrap().unwrap();
        });
    }
}
