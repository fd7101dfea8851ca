//! `promtool`.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::programs::{self, Version};

/// Runs promtool in a folder, with this on its stdin, and returns what it printed.
///
/// # Errors
/// What it printed when it failed.
pub fn promtool(
    version: Version,
    folder: &Path,
    arguments: &[&str],
    stdin: &str,
) -> Result<String> {
    let mut child = Command::new(programs::tool(&format!("promtool{version}"))?)
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    // It reads everything before it prints.
    child.stdin.take().context("stdin")?.write_all(stdin.as_bytes())?;
    let output = child.wait_with_output()?;
    let printed = [output.stdout, output.stderr].concat();
    let printed = String::from_utf8_lossy(&printed).into_owned();
    ensure!(
        output.status.success(),
        "promtool {version} {}: {}\n{printed}",
        arguments.join(" "),
        output.status
    );
    Ok(printed)
}
