//! One `nats-server` with `JetStream`.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::port::free_port;
use crate::process::{accepts_connections, await_ready};

/// Another program than the machine's.
const PROGRAM: &str = "FLASHSALE_NATS_SERVER";

/// A running (or stopped, see [`NatsServer::kill`]) NATS server with a folder of its own for its streams.
#[derive(Debug)]
pub struct NatsServer {
    child: Option<Child>,
    port: u16,
    folder: TempDir,
}

impl NatsServer {
    /// Starts a server on a free port; `settings` are lines of its configuration, beside those of the port and of
    /// `JetStream`.
    ///
    /// # Errors
    /// When `nats-server` is not installed or does not come up.
    pub fn start(settings: &str) -> Result<Self> {
        let mut server = Self::stopped()?;
        server.restart(settings)?;
        Ok(server)
    }

    /// A server on a port of its own that does not run yet.
    ///
    /// # Errors
    /// When there is no free port.
    pub fn stopped() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("flashsale-nats-").tempdir()?;
        Ok(Self { child: None, port: free_port()?, folder })
    }

    /// `127.0.0.1:port`.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Kills the process (SIGKILL); its streams stay.
    ///
    /// # Errors
    /// When the process cannot be signalled or waited for.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Kills the server if it runs, and starts it on its port with its streams and these settings.
    ///
    /// # Errors
    /// As [`NatsServer::start`].
    pub fn restart(&mut self, settings: &str) -> Result<()> {
        self.kill()?;
        let streams = self.folder.path().join("streams");
        let configuration = format!(
            "listen: \"{}\"\njetstream: {{store_dir: \"{}\"}}\n{settings}\n",
            self.address(),
            streams.display()
        );
        let file = self.folder.path().join("nats.conf");
        std::fs::write(&file, configuration)?;
        let log = std::fs::File::create(self.folder.path().join("nats.log"))?;
        let program = std::env::var_os(PROGRAM).map_or_else(|| "nats-server".into(), PathBuf::from);
        let mut child = Command::new(program)
            .arg("--config")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start nats-server (Debian: apt-get install nats-server)")?;
        let ready = await_ready(&mut child, "nats-server", || accepts_connections(self.port));
        self.child = Some(child);
        ready.with_context(|| {
            std::fs::read_to_string(self.folder.path().join("nats.log")).unwrap_or_default()
        })
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}
