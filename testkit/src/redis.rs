//! One `redis-server` with the settings that the operator gives it.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::{await_ready, free_port, signal};

/// A running (or stopped, see [`RedisServer::kill`]) Redis with a data folder of its own.
#[derive(Debug)]
pub struct RedisServer {
    child: Child,
    port: u16,
    data: TempDir,
}

impl RedisServer {
    /// Starts a server on a free port and waits until it answers.
    ///
    /// # Errors
    /// When `redis-server` is not installed or does not come up.
    pub fn start() -> Result<Self> {
        let data = tempfile::Builder::new().prefix("flashsale-redis-").tempdir()?;
        let port = free_port()?;
        let child = spawn(port, &data)?;
        let mut server = Self { child, port, data };
        server.await_ready()?;
        Ok(server)
    }

    /// Starts several servers.
    ///
    /// # Errors
    /// As [`RedisServer::start`].
    pub fn start_many(count: usize) -> Result<Vec<Self>> {
        (0..count).map(|_| Self::start()).collect()
    }

    /// `127.0.0.1:port`.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The process id, for messages.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// `Some(status)` when the process has ended.
    ///
    /// # Errors
    /// When the operating system does not know the process.
    pub fn exit_status(&mut self) -> Result<Option<std::process::ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Kills the process (SIGKILL); its data stay.
    ///
    /// # Errors
    /// When the process cannot be signalled or waited for.
    pub fn kill(&mut self) -> Result<()> {
        if self.child.try_wait()?.is_none() {
            self.child.kill()?;
            self.child.wait()?;
        }
        Ok(())
    }

    /// Starts a killed server again on its old port with its old data.
    ///
    /// # Errors
    /// As [`RedisServer::start`].
    pub fn restart(&mut self) -> Result<()> {
        self.kill()?;
        self.child = spawn(self.port, &self.data)?;
        self.await_ready()
    }

    /// Starts a killed server again on its old port, everything forgotten.
    ///
    /// # Errors
    /// As [`RedisServer::start`], or when the data cannot be removed.
    pub fn restart_empty(&mut self) -> Result<()> {
        self.kill()?;
        let append_only = self.data.path().join("appendonlydir");
        if append_only.exists() {
            std::fs::remove_dir_all(append_only)?;
        }
        self.restart()
    }

    /// Freezes the process (SIGSTOP): connections stay open, nothing answers.
    ///
    /// # Errors
    /// When the process has ended.
    pub fn pause(&self) -> Result<()> {
        signal(&self.child, Signal::SIGSTOP)
    }

    /// Lets a frozen process go on (SIGCONT).
    ///
    /// # Errors
    /// When the process has ended.
    pub fn resume(&self) -> Result<()> {
        signal(&self.child, Signal::SIGCONT)
    }

    /// `GET key`, over a connection of its own, as `redis-cli` would.
    ///
    /// # Errors
    /// When the server does not answer with a string or nil.
    pub fn get(&self, key: &str) -> Result<Option<String>> {
        let answer = command(self.port, &format!("GET {key}"))?;
        let Some(length) = answer.strip_prefix('$') else {
            bail!("GET {key}: unexpected answer {answer:?}");
        };
        Ok((!length.starts_with('-')).then(|| {
            length.split_once("\r\n").map_or("", |(_, value)| value.trim_end()).to_owned()
        }))
    }

    /// How often a command was called on this server, for example `evalsha`.
    ///
    /// # Errors
    /// When the server does not answer.
    pub fn calls(&self, name: &str) -> Result<u64> {
        let statistics = command(self.port, "INFO commandstats")?;
        let prefix = format!("cmdstat_{name}:calls=");
        let calls =
            statistics.lines().find_map(|line| line.strip_prefix(&prefix)?.split(',').next());
        Ok(calls.map_or(Ok(0), str::parse)?)
    }

    fn await_ready(&mut self) -> Result<()> {
        let port = self.port;
        let pong = || command(port, "PING").is_ok_and(|answer| answer.starts_with("+PONG"));
        await_ready(&mut self.child, &format!("redis-server on port {port}"), pong)
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        // Nothing can be done about a process that is gone already.
        let _ = self.kill();
    }
}

fn spawn(port: u16, data: &TempDir) -> Result<Child> {
    let log = File::create(data.path().join("redis.log"))?;
    Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""])
        .args(["--appendonly", "yes", "--appendfsync", "everysec"])
        .arg("--dir")
        .arg(data.path())
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("cannot start redis-server (Debian: apt-get install redis-server)")
}

/// Sends one inline command and reads one short answer.
fn command(port: u16, line: &str) -> Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    stream.write_all(format!("{line}\r\n").as_bytes())?;
    let mut buffer = [0; 4096];
    let read = stream.read(&mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..read]).into_owned())
}
