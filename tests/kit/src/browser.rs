//! Chromium, driven by `chromedriver`.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::port::free_port;
use crate::process::{accepts_connections, await_ready};

/// A running driver; each session that it is asked for is a browser of its own.
#[derive(Debug)]
pub struct Browser {
    driver: Child,
    port: u16,
    _data: TempDir,
}

impl Browser {
    /// Starts the driver on a free port and waits until it answers.
    ///
    /// # Errors
    /// When `chromedriver` is not installed or does not come up.
    pub fn start() -> Result<Self> {
        let data = tempfile::Builder::new().prefix("flashsale-browser-").tempdir()?;
        let port = free_port()?;
        let log = File::create(data.path().join("chromedriver.log"))?;
        let driver = Command::new("chromedriver")
            .arg(format!("--port={port}"))
            // The browsers' profiles go with it.
            .env("TMPDIR", data.path())
            .env("HOME", data.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .spawn()
            .context("cannot start chromedriver (Debian: apt-get install chromium-driver)")?;
        // One that does not come up is ended, too.
        let mut browser = Self { driver, port, _data: data };
        await_ready(&mut browser.driver, "chromedriver", || accepts_connections(port))?;
        Ok(browser)
    }

    /// Where sessions are asked for.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// What a browser without a screen is started with. Chromium's sandbox needs rights that a
    /// container does not give, and it opens nothing here but our own pages.
    #[must_use]
    pub fn arguments() -> [&'static str; 4] {
        ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver and the browsers that a test left behind: they are in its process group.
        if let Ok(group) = i32::try_from(self.driver.id()) {
            let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
        }
        let _ = self.driver.wait();
    }
}
