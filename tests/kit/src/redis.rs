//! One `redis-server` with the settings that the operator gives it.

mod launch;

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use tempfile::TempDir;

use self::launch::{Clock, Disk, Settings, spawn};
pub use self::launch::{Fsync, User};
use crate::faketime;
use crate::port::free_port;
use crate::process::{await_ready, signal};
use crate::programs;

/// A running (or stopped, see [`RedisServer::kill`]) Redis with a data folder of its own.
#[derive(Debug)]
pub struct RedisServer {
    child: Child,
    port: u16,
    data: TempDir,
    program: PathBuf,
    settings: Settings,
}

impl RedisServer {
    /// Starts a server on a free port and waits until it answers.
    ///
    /// # Errors
    /// When `redis-server` is not installed or does not come up.
    pub fn start() -> Result<Self> {
        Self::start_by(Settings::default())
    }

    /// Starts a server whose disk has a megabyte; a restart empties it.
    ///
    /// # Errors
    /// As [`RedisServer::start`], and when this user may not mount file systems for a process.
    pub fn start_with_small_disk() -> Result<Self> {
        Self::start_by(Settings { disk: Disk::Small, ..Settings::default() })
    }

    /// Starts a server whose time of day can be set while it runs (with libfaketime; its monotonic
    /// clock is the machine's).
    ///
    /// # Errors
    /// As [`RedisServer::start`], and when libfaketime is not installed.
    pub fn start_with_own_clock() -> Result<Self> {
        Self::start_by(Settings { clock: Clock::Own, ..Settings::default() })
    }

    /// Starts this program.
    ///
    /// # Errors
    /// As [`RedisServer::start`].
    pub fn start_program(program: &Path) -> Result<Self> {
        Self::start_program_by(program.to_owned(), Settings::default())
    }

    fn start_by(settings: Settings) -> Result<Self> {
        Self::start_program_by(programs::redis_server(), settings)
    }

    fn start_program_by(program: PathBuf, settings: Settings) -> Result<Self> {
        let data = tempfile::Builder::new().prefix("flashsale-redis-").tempdir()?;
        let port = free_port()?;
        if settings.clock == Clock::Own {
            faketime::set(data.path(), 0)?;
        }
        let child = spawn(&program, port, &data, settings, &[])?;
        let mut server = Self { child, port, data, program, settings };
        server.await_ready()?;
        Ok(server)
    }

    /// Starts a server that answers a write when it is on its disk as `fsync` says.
    ///
    /// # Errors
    /// As [`RedisServer::start`].
    pub fn start_with(fsync: Fsync) -> Result<Self> {
        Self::start_by(Settings { fsync, ..Settings::default() })
    }

    /// The same, in a process group of its own: Ctrl-C ends the process that started it, and not the server.
    ///
    /// # Errors
    /// As [`RedisServer::start`].
    pub fn start_in_own_group(fsync: Fsync) -> Result<Self> {
        Self::start_by(Settings { fsync, own_group: true, ..Settings::default() })
    }

    /// As [`RedisServer::start_with`], with one more user.
    ///
    /// # Errors
    /// As [`RedisServer::start`].
    pub fn start_with_user(fsync: Fsync, user: User) -> Result<Self> {
        Self::start_by(Settings { fsync, user: Some(user), ..Settings::default() })
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
        self.child = spawn(&self.program, self.port, &self.data, self.settings, &[])?;
        self.await_ready()
    }

    /// Starts another program on the data and the port of this server.
    ///
    /// # Errors
    /// As [`RedisServer::restart`], and when the program cannot read the data.
    pub fn restart_with_program(&mut self, program: &Path) -> Result<()> {
        program.clone_into(&mut self.program);
        self.restart()
    }

    /// Writes all data into a new file, in the server's own format.
    ///
    /// # Errors
    /// When the server does not answer.
    pub fn rewrite_data(&mut self) -> Result<()> {
        self.command("BGREWRITEAOF")?;
        let port = self.port;
        let rewritten = || {
            let persistence = command(port, "INFO persistence").unwrap_or_default();
            persistence.contains("aof_rewrite_in_progress:0")
                && persistence.contains("aof_rewrite_scheduled:0")
        };
        await_ready(&mut self.child, "the rewritten data", rewritten)
    }

    /// Starts a server again that loads its data for minutes, and waits until it answers that it
    /// does. `CONFIG SET key-load-delay 0` ends that.
    ///
    /// # Errors
    /// As [`RedisServer::restart`].
    pub fn restart_loading(&mut self) -> Result<()> {
        // Data that are read in many parts; it answers in between.
        self.command("CONFIG SET rdbcompression no")?;
        self.command(
            "EVAL \"for n = 1, 1000 do redis.call('SET', 'loaded:' .. n, string.rep('.', 2000)) end\" 0",
        )?;
        self.rewrite_data()?;
        let port = self.port;
        self.kill()?;
        let slowly =
            ["--key-load-delay", "200000", "--loading-process-events-interval-bytes", "1024"];
        self.child = spawn(&self.program, self.port, &self.data, self.settings, &slowly)?;
        let loads = || command(port, "PING").is_ok_and(|answer| answer.starts_with("-LOADING"));
        await_ready(&mut self.child, &format!("redis-server on port {port} that loads"), loads)
    }

    /// Fills the small disk; writes of the server then fail.
    ///
    /// # Errors
    /// When the server has no small disk, or it cannot be written to.
    pub fn fill_disk(&self) -> Result<()> {
        let mut file = File::create(self.on_small_disk()?)?;
        loop {
            match file.write_all(&[0; 512]) {
                Ok(()) => {}
                Err(error) if error.kind() == std::io::ErrorKind::StorageFull => return Ok(()),
                Err(error) => return Err(error).context("filling the disk"),
            }
        }
    }

    /// Frees what [`RedisServer::fill_disk`] took.
    ///
    /// # Errors
    /// As [`RedisServer::fill_disk`].
    pub fn free_disk(&self) -> Result<()> {
        Ok(std::fs::remove_file(self.on_small_disk()?)?)
    }

    /// A file there, as other processes see it.
    fn on_small_disk(&self) -> Result<PathBuf> {
        ensure!(self.settings.disk == Disk::Small, "this server is on the machine's disk");
        let folder = self.data.path().strip_prefix("/")?;
        Ok(Path::new(&format!("/proc/{}/root", self.pid())).join(folder).join("filled"))
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

    /// Sets the server's time of day to the machine's plus `ahead_seconds`, which may be negative.
    ///
    /// # Errors
    /// When the server has no clock of its own.
    pub fn set_clock(&self, ahead_seconds: i64) -> Result<()> {
        ensure!(self.settings.clock == Clock::Own, "this server follows the machine's clock");
        faketime::set(self.data.path(), ahead_seconds)
    }

    /// The server's time of day, in seconds since 1970, as its clients get it.
    ///
    /// # Errors
    /// When the server does not answer.
    pub fn time(&self) -> Result<i64> {
        let answer = command(self.port, "TIME")?;
        let seconds = answer.lines().nth(2).with_context(|| format!("TIME: {answer:?}"))?;
        Ok(seconds.parse()?)
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

    /// Sends one command as `redis-cli` would and gives its answer, in Redis's protocol.
    ///
    /// # Errors
    /// When the server does not answer, or answers with an error.
    pub fn command(&self, line: &str) -> Result<String> {
        let answer = command(self.port, line)?;
        ensure!(!answer.starts_with('-'), "{line}: {answer}");
        Ok(answer)
    }

    /// How often a command was called on this server, for example `evalsha`.
    ///
    /// # Errors
    /// When the server does not answer, or answers with an error.
    pub fn calls(&self, name: &str) -> Result<u64> {
        let statistics = self.command("INFO commandstats")?;
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

/// Sends one inline command and reads its whole reply.
fn command(port: u16, line: &str) -> Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    // Only a server that hangs needs as long, however busy the machine is.
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.write_all(format!("{line}\r\n").as_bytes())?;
    let mut reply = Vec::new();
    read_reply(&mut BufReader::new(stream), &mut reply)?;
    Ok(String::from_utf8_lossy(&reply).into_owned())
}

/// Appends a reply: its first line, and as many bytes or replies as the line says.
fn read_reply(from: &mut impl BufRead, reply: &mut Vec<u8>) -> Result<()> {
    let begin = reply.len();
    from.read_until(b'\n', reply)?;
    ensure!(reply[begin..].ends_with(b"\r\n"), "the server closed the connection");
    let line = String::from_utf8_lossy(&reply[begin..]).trim_end().to_owned();
    // A length of -1 is nil.
    let length = line.get(1..).and_then(|digits| digits.parse::<u64>().ok()).unwrap_or(0);
    match line.chars().next() {
        Some('$') if line != "$-1" => {
            let read = from.by_ref().take(length + 2).read_to_end(reply)?;
            ensure!(u64::try_from(read)? == length + 2, "the reply is cut off after {read} bytes");
        }
        Some('*') => {
            for _ in 0..length {
                read_reply(from, reply)?;
            }
        }
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests;
