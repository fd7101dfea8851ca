//! One `postgres` with its default durability.

use std::fs::File;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use nix::unistd::{User, getuid};
use tempfile::TempDir;

use crate::port::free_port;
use crate::process::{accepts_connections, await_ready, signal, unprivileged};
use crate::programs;
use crate::tls::TlsFolder;

/// A running PostgreSQL with one superuser `postgres` that needs no password.
#[derive(Debug)]
pub struct Postgres {
    child: Child,
    port: u16,
    binaries: PathBuf,
    data: TempDir,
    /// Databases with a name of the server's choice.
    named: AtomicUsize,
}

impl Postgres {
    /// Copies an initialized data folder, starts a server on a free port and waits until it answers.
    ///
    /// # Errors
    /// When PostgreSQL is not installed or does not come up.
    pub fn start() -> Result<Self> {
        let binaries = programs::postgres()?;
        let data = folder_of_the_server()?;
        let folder = data.path().join("data");
        copy(&initialized(&binaries)?, &folder)?;

        let port = free_port()?;
        let log = File::create(data.path().join("postgres.log"))?;
        let child = unprivileged(&binaries.join("postgres"))
            .arg("-D")
            .arg(&folder)
            .args(["-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1"])
            .args(["-c", "max_connections=300", "-c"])
            .arg(format!("unix_socket_directories={}", data.path().display()))
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        // One that does not come up is ended, too.
        let mut server = Self { child, port, binaries, data, named: AtomicUsize::new(0) };
        let Self { child, binaries, .. } = &mut server;
        let started = await_ready(child, "postgres", || {
            accepts_connections(port)
                && Command::new(binaries.join("pg_isready"))
                    .args(["-q", "-h", "127.0.0.1", "-p", &port.to_string()])
                    .status()
                    .is_ok_and(|status| status.success())
        });
        started.with_context(|| {
            std::fs::read_to_string(server.data.path().join("postgres.log")).unwrap_or_default()
        })?;
        Ok(server)
    }

    /// The server that the tests of this process share; it ends with the last of them.
    ///
    /// # Errors
    /// As [`Postgres::start`].
    pub fn shared() -> Result<Arc<Self>> {
        static SHARED: Mutex<Weak<Postgres>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = shared.upgrade() {
            return Ok(running);
        }
        let started = Arc::new(Self::start()?);
        *shared = Arc::downgrade(&started);
        Ok(started)
    }

    /// `127.0.0.1:port`, as it is in the URLs of its databases.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The folder of its programs, such as `pg_dump`.
    #[must_use]
    pub fn programs(&self) -> &Path {
        &self.binaries
    }

    /// Makes an empty database with a name that no other one has, and gives its URL.
    ///
    /// # Errors
    /// When the server is away.
    pub fn new_database(&self) -> Result<String> {
        self.create_database(&format!("t{}", self.named.fetch_add(1, Ordering::Relaxed)))
    }

    /// Makes an empty database and gives its URL.
    ///
    /// # Errors
    /// When the name is taken or the server is away.
    pub fn create_database(&self, name: &str) -> Result<String> {
        let made = Command::new(self.binaries.join("createdb"))
            .args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-U", "postgres", name])
            .status()?;
        ensure!(made.success(), "createdb {name} failed: {made}");
        Ok(format!("postgres://postgres@{}/{name}", self.address()))
    }

    /// The answer to a query: unaligned, without a head.
    ///
    /// # Errors
    /// When the query fails or the server is away.
    pub fn query(&self, database: &str, query: &str) -> Result<String> {
        let answer = Command::new(self.binaries.join("psql"))
            .args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-U", "postgres"])
            .args(["--no-psqlrc", "-At", "-v", "ON_ERROR_STOP=1", "-d", database, "-c", query])
            .output()?;
        let said = String::from_utf8_lossy(&answer.stderr);
        ensure!(answer.status.success(), "psql failed: {}: {}", answer.status, said.trim());
        Ok(String::from_utf8(answer.stdout)?.trim().to_owned())
    }

    /// Accepts TLS too, with the present certificate of the folder. Again after a change of the files: the server then uses
    /// them for new connections.
    ///
    /// # Errors
    /// When the server is away.
    pub fn use_tls(&self, files: &TlsFolder) -> Result<()> {
        let mut psql = Command::new(self.binaries.join("psql"));
        psql.args(["-q", "-h", "127.0.0.1", "-p", &self.port.to_string(), "-U", "postgres"]);
        psql.env("PGSSLMODE", "disable");
        for (setting, value) in [
            ("ssl_cert_file", files.path("tls.crt").display().to_string()),
            ("ssl_key_file", files.path("tls.key").display().to_string()),
            ("ssl", "on".to_owned()),
        ] {
            psql.args(["-c", &format!("ALTER SYSTEM SET {setting} = '{value}'")]);
        }
        let done = psql.args(["-c", "SELECT pg_reload_conf()"]).stdout(Stdio::null()).status()?;
        ensure!(done.success(), "psql failed: {done}");
        Ok(())
    }

    /// The postmaster's process id; each session is a child of it.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Freezes the postmaster (SIGSTOP): sessions that are open go on, new ones hang.
    ///
    /// # Errors
    /// When the process has ended.
    pub fn pause(&self) -> Result<()> {
        signal(&self.child, Signal::SIGSTOP)
    }

    /// Lets a frozen postmaster go on (SIGCONT).
    ///
    /// # Errors
    /// When the process has ended.
    pub fn resume(&self) -> Result<()> {
        signal(&self.child, Signal::SIGCONT)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // The immediate shutdown: sessions end, and nothing is written to a folder that is deleted next.
        let runs = matches!(self.child.try_wait(), Ok(None));
        if runs && signal(&self.child, Signal::SIGQUIT).is_ok() {
            let _ = self.child.wait();
        }
    }
}

/// A temporary folder that belongs to the server's user.
fn folder_of_the_server() -> Result<TempDir> {
    let folder = tempfile::Builder::new().prefix("flashsale-postgres-").tempdir()?;
    if getuid().is_root() {
        let user = User::from_name("postgres")?.context("there is no user postgres")?;
        chown(folder.path(), Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
    }
    Ok(folder)
}

/// A data folder as `initdb` makes it. `initdb` takes seconds and a copy a tenth of one, so all tests copy one folder
/// under `target`.
fn initialized(binaries: &Path) -> Result<PathBuf> {
    let version = binaries.parent().and_then(Path::file_name).context("no version in the path")?;
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/postgres");
    let initialized = target.join(version);
    if initialized.exists() {
        return Ok(initialized);
    }
    let made = folder_of_the_server()?;
    let data = made.path().join("data");
    let result = unprivileged(&binaries.join("initdb"))
        .args(["--auth=trust", "--username=postgres", "--encoding=UTF8", "--no-sync", "-D"])
        .arg(&data)
        .stdout(Stdio::null())
        .status()?;
    ensure!(result.success(), "initdb failed: {result}");

    std::fs::create_dir_all(&target)?;
    let mine = tempfile::Builder::new().prefix("new-").tempdir_in(&target)?;
    let complete = mine.path().join("data");
    copy(&data, &complete)?;
    match std::fs::rename(&complete, &initialized) {
        // Another process was first.
        Err(_) if initialized.exists() => Ok(initialized),
        renamed => renamed.map(|()| initialized).context("cannot keep the data folder"),
    }
}

/// Copies a folder with its owners and modes.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let copied = Command::new("cp").arg("--archive").arg(from).arg(to).status()?;
    ensure!(copied.success(), "cannot copy {} to {}", from.display(), to.display());
    Ok(())
}
