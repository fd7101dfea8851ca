//! A replica in a process of its own, which can be killed.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::TestSale;

/// On ports that it keeps when it is started again.
pub struct Process {
    child: Child,
    program: PathBuf,
    pub api: String,
    pub internal: String,
}

impl Process {
    pub fn start(sale: &TestSale) -> Self {
        Self::start_program(sale, Path::new(env!("CARGO_BIN_EXE_flashsale-app")))
    }

    /// Of another build of the app.
    pub fn start_program(sale: &TestSale, program: &Path) -> Self {
        let port = || testkit::free_port().unwrap();
        let (api, internal) = (format!("127.0.0.1:{}", port()), format!("127.0.0.1:{}", port()));
        let child = Self::spawn(sale, program, &api, &internal);
        Self { child, program: program.to_owned(), api, internal }
    }

    fn spawn(sale: &TestSale, program: &Path, api: &str, internal: &str) -> Child {
        Command::new(program)
            .arg("serve")
            .envs(sale.settings())
            .envs([("LISTEN", api), ("METRICS_LISTEN", internal), ("RUST_LOG", "error")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn start_again(&mut self, sale: &TestSale) {
        self.child = Self::spawn(sale, &self.program, &self.api, &self.internal);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
