//! A worker process, seen from the suite.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::record::Record;
use crate::worker::{self, Assignment};

/// Killed when it is dropped.
#[derive(Debug)]
pub struct Worker {
    child: Child,
    stdin: ChildStdin,
    listener: Option<JoinHandle<()>>,
}

impl Worker {
    /// Starts a process with this work; what it reports goes into the record.
    ///
    /// # Errors
    /// When the binary cannot be started.
    pub fn start(binary: &Path, assignment: &Assignment, record: &Arc<Record>) -> Result<Self> {
        let mut child = Command::new(binary)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", binary.display()))?;
        let mut stdin = child.stdin.take().context("a worker has no stdin")?;
        let stdout = child.stdout.take().context("a worker has no stdout")?;
        writeln!(stdin, "{}", serde_json::to_string(assignment)?)?;
        let (record, process) = (Arc::clone(record), assignment.process);
        let listener = std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                // A process that is killed may leave half a line behind.
                if let Ok(report) = serde_json::from_str(&line) {
                    record.add(process, report);
                }
            }
        });
        Ok(Self { child, stdin, listener: Some(listener) })
    }

    /// Tells it something.
    ///
    /// # Errors
    /// When it has ended.
    pub fn tell(&mut self, command: worker::Command) -> Result<()> {
        Ok(writeln!(self.stdin, "{}", serde_json::to_string(&command)?)?)
    }

    /// Freezes it (SIGSTOP).
    ///
    /// # Errors
    /// When it has ended.
    pub fn pause(&self) -> Result<()> {
        self.signal(Signal::SIGSTOP)
    }

    /// Lets it go on (SIGCONT).
    ///
    /// # Errors
    /// When it has ended.
    pub fn resume(&self) -> Result<()> {
        self.signal(Signal::SIGCONT)
    }

    /// Kills it (SIGKILL), and takes in what it still said.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        self.listen_to_the_end();
        Ok(())
    }

    /// Waits until it has ended by itself, and takes in what it still said.
    ///
    /// # Errors
    /// When it does not within this time, or failed.
    pub fn await_end(&mut self, within: Duration) -> Result<()> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = self.child.try_wait()? {
                ensure!(status.success(), "a worker failed: {status}");
                self.listen_to_the_end();
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("a worker does not end: one of its operations hangs");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn listen_to_the_end(&mut self) {
        if let Some(listener) = self.listener.take() {
            // It cannot fail, and has nothing to tell.
            let _ = listener.join();
        }
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.child.id()).context("process id")?;
        kill(Pid::from_raw(pid), signal).with_context(|| format!("cannot send {signal} to {pid}"))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Nothing can be done about a process that is gone already.
        let _ = self.kill();
    }
}
