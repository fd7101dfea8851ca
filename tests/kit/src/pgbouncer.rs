//! PgBouncer before a [`Postgres`], as Debian's package has it.

use std::os::unix::fs::chown;
use std::process::{Child, Stdio};

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use nix::unistd::{User, getuid};
use tempfile::TempDir;

use crate::port::free_port;
use crate::postgres::Postgres;
use crate::process::{accepts_connections, await_ready, signal, unprivileged};

/// A running PgBouncer that serves every database of one server.
#[derive(Debug)]
pub struct PgBouncer {
    child: Child,
    port: u16,
    _folder: TempDir,
}

impl PgBouncer {
    /// Starts one before this server; `settings` are lines of its configuration, beside its defaults.
    ///
    /// # Errors
    /// When it is not installed or does not come up.
    pub fn start(server: &Postgres, settings: &str) -> Result<Self> {
        let address = server.address();
        let (host, server_port) = address.split_once(':').context("the address has no port")?;
        let port = free_port()?;
        let folder = tempfile::Builder::new().prefix("flashsale-pgbouncer-").tempdir()?;
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("users.txt"), "\"postgres\" \"\"\n")?;
        let (users, log) = (path("users.txt"), path("pgbouncer.log"));
        let configuration = format!(
            "[databases]\n* = host={host} port={server_port}\n[pgbouncer]\n\
             listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
             auth_type = trust\nauth_file = {}\nlogfile = {}\n{settings}\n",
            users.display(),
            log.display()
        );
        std::fs::write(path("pgbouncer.ini"), configuration)?;
        if getuid().is_root() {
            let user = User::from_name("postgres")?.context("there is no user postgres")?;
            for path in [folder.path(), &users] {
                chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
            }
        }
        let child = unprivileged("/usr/sbin/pgbouncer".as_ref())
            .arg(path("pgbouncer.ini"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start pgbouncer (Debian: apt-get install pgbouncer)")?;
        // One that does not come up is ended, too.
        let mut bouncer = Self { child, port, _folder: folder };
        await_ready(&mut bouncer.child, "pgbouncer", || accepts_connections(port))?;
        Ok(bouncer)
    }

    /// The same database through it.
    ///
    /// # Errors
    /// When the URL names no database.
    pub fn url_of(&self, database_url: &str) -> Result<String> {
        let (_, name) = database_url.rsplit_once('/').context("the URL has no database")?;
        Ok(format!("postgres://postgres@127.0.0.1:{}/{name}", self.port))
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        let runs = matches!(self.child.try_wait(), Ok(None));
        if runs && signal(&self.child, Signal::SIGTERM).is_ok() {
            let _ = self.child.wait();
        }
    }
}
