//! The operator as a process of its own.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::app;
use crate::names::Name;

/// The operator's names for replicas lead to `app`: it has an `/etc/hosts` of its own.
const IN_NAMESPACE: &str = r#"mount --bind "$HOSTS" /etc/hosts && exec "$OPERATOR" run"#;

/// A running operator; it ends when dropped.
pub struct Operator {
    child: Mutex<Child>,
    pid: u32,
    log: PathBuf,
    _folder: TempDir,
}

impl Operator {
    /// Starts it with the defaults of the chart, apart from leader election.
    pub fn start(program: &Path, kubeconfig: &str, names: &[Name]) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let (config, hosts) = (folder.path().join("kubeconfig"), folder.path().join("hosts"));
        std::fs::write(&config, kubeconfig)?;
        std::fs::write(&hosts, app::hosts(names))?;
        let log = folder.path().join("log");
        let child = Command::new("unshare")
            .args(["--mount", "sh", "-c", IN_NAMESPACE])
            .env("HOSTS", hosts)
            .env("OPERATOR", std::path::absolute(program)?)
            .env("KUBECONFIG", config)
            .env("LISTEN", format!("127.0.0.1:{}", testkit::free_port()?))
            .env("DEFAULT_APP_IMAGE", "app:bench")
            .env("DEFAULT_REDIS_IMAGE", "redis:bench")
            .env("DEFAULT_POSTGRES_IMAGE", "postgres:bench")
            .stdin(Stdio::null())
            .stderr(File::create(&log)?)
            .spawn()
            .context("unshare: the bench needs root and util-linux")?;
        let pid = child.id();
        Ok(Self { child: Mutex::new(child), pid, log, _folder: folder })
    }

    /// Fails if it has ended.
    pub fn check(&self) -> Result<()> {
        let mut child = self.child.lock().map_err(|_| anyhow::anyhow!("poisoned"))?;
        if let Some(status) = child.try_wait()? {
            bail!("the operator ended with {status}: {}", std::fs::read_to_string(&self.log)?);
        }
        Ok(())
    }

    /// A field of `/proc/PID/status` in MiB.
    pub fn memory(&self, field: &str) -> Result<f64> {
        memory(self.pid, field)
    }
}

/// A field of `/proc/PID/status` in MiB.
pub fn memory(pid: u32, field: &str) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let kib = line.and_then(|line| line.split_whitespace().next()).context("no such field")?;
    Ok(kib.parse::<f64>()? / 1024.0)
}

impl Drop for Operator {
    fn drop(&mut self) {
        if let Ok(mut child) = self.child.lock() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
