//! Running other programs: where, with which PATH, and what is said when one fails.

use std::cell::RefCell;
use std::ffi::OsStr;
use std::fmt::Display;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use anyhow::{Context, Result, bail};

use crate::interrupt;

thread_local! {
    /// Where this thread and the programs that it starts write, instead of stdout and stderr.
    static LOG: RefCell<Option<File>> = const { RefCell::new(None) };
}

#[cfg(test)]
thread_local! {
    /// Where this thread's commands find programs first.
    static FIRST_FOLDER: RefCell<Option<PathBuf>> = const { RefCell::new(None) };
}

/// Gives this thread's commands a folder where they find programs first, or takes it away.
#[cfg(test)]
pub fn set_first_folder(folder: Option<PathBuf>) {
    FIRST_FOLDER.set(folder);
}

/// Does work in this thread whose output, and that of all programs it starts, goes to a file.
pub fn logged<T>(log: File, work: impl FnOnce() -> T) -> T {
    LOG.set(Some(log));
    let result = work();
    LOG.set(None);
    result
}

/// Tells the person what happens now; stdout is left to results.
pub fn say(message: &str) {
    LOG.with_borrow_mut(|log| match log {
        // Nothing can be said about a log that cannot be written.
        Some(log) => drop(writeln!(log, "==> {message}")),
        None => note(format_args!("==> {message}")),
    });
}

/// Writes a line to stderr, if somebody reads it.
pub fn note(line: impl Display) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Shows a result. If nobody reads it, no command begins any more but those of a clean-up.
pub fn print(text: &str) {
    LOG.with_borrow_mut(|log| match log {
        Some(log) => drop(writeln!(log, "{text}")),
        None => {
            if let Err(error) = writeln!(std::io::stdout(), "{text}") {
                interrupt::lose_result(&error);
            }
        }
    });
}

/// The root of the checkout.
pub fn repository() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

/// Where the node of `tests/cluster` keeps its state and the built binaries.
pub fn state_folder() -> PathBuf {
    std::env::var_os("CLUSTER_DIR")
        .map_or_else(|| PathBuf::from("/var/tmp/flashsale-cluster"), PathBuf::from)
}

/// The built binaries: Kubernetes, helm and the like.
pub fn binaries_folder() -> PathBuf {
    state_folder().join("bin")
}

/// Where the machine has programs, the project's own folder left out.
pub fn folders_of_the_machine() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).filter(|folder| *folder != binaries_folder());
    #[cfg(test)]
    let folders = FIRST_FOLDER.with_borrow(Clone::clone).into_iter().chain(folders);
    folders.collect()
}

/// A program run from the checkout's root. What the project built for itself is found as well, after
/// what the machine has.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut folders = folders_of_the_machine();
    folders.push(binaries_folder());
    let mut command = Command::new(program);
    if let Ok(path) = std::env::join_paths(folders) {
        command.env("PATH", path);
    }
    command.current_dir(repository());
    LOG.with_borrow(|log| {
        let copy = || log.as_ref().and_then(|log| log.try_clone().ok());
        if let (Some(stdout), Some(stderr)) = (copy(), copy()) {
            command.stdin(Stdio::null()).stdout(stdout).stderr(stderr);
        }
    });
    command
}

/// cargo, held to the lock file.
pub fn cargo(subcommand: &str) -> Command {
    let mut command = cargo_as_started_by_a_person();
    command.args([subcommand, "--locked"]);
    command
}

/// cargo without arguments.
pub fn cargo_as_started_by_a_person() -> Command {
    let mut command = command("cargo");
    // What `cargo run` told this process about itself. Build scripts watch it (ring's does), and would run
    // again after each change between `cargo` and `cargo xtask`.
    for (name, _) in std::env::vars_os() {
        let said = name.to_string_lossy();
        if said.starts_with("CARGO_PKG_") || said.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    command
}

/// The same command in the time that other work leaves over.
pub fn nice(command: &Command) -> Command {
    let mut nice = self::command("nice");
    nice.args(["-n", "19"]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => nice.env(name, value),
            None => nice.env_remove(name),
        };
    }
    nice.stdin(Stdio::null());
    nice.current_dir(command.get_current_dir().unwrap_or(repository()));
    nice
}

/// Runs a command with its output shown.
pub fn run(command: &mut Command) -> Result<()> {
    interrupt::admit(command)?;
    let status = command.status().with_context(|| format!("cannot start {}", line(command)))?;
    if !status.success() {
        bail!("{} failed: {status}", line(command));
    }
    Ok(())
}

/// Runs a command and gives its stdout; its stderr is part of the error.
pub fn output(command: &mut Command) -> Result<String> {
    let output = captured(command)?;
    String::from_utf8(output.stdout).with_context(|| format!("{} printed no text", line(command)))
}

/// Runs a command and gives its stderr, which is part of the error as well.
pub fn complaints(command: &mut Command) -> Result<String> {
    let output = captured(command)?;
    String::from_utf8(output.stderr).with_context(|| format!("{} printed no text", line(command)))
}

fn captured(command: &mut Command) -> Result<Output> {
    interrupt::admit(command)?;
    let output = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .output()
        .with_context(|| format!("cannot start {}", line(command)))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{} failed: {}\n{}", line(command), output.status, said.trim());
    }
    Ok(output)
}

/// Runs a command and gives its stdout; its stderr is shown meanwhile, because it takes long.
pub fn output_of_work(command: &mut Command) -> Result<String> {
    interrupt::admit(command)?;
    let started = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
    let output = started
        .and_then(Child::wait_with_output)
        .with_context(|| format!("cannot start {}", line(command)))?;
    if !output.status.success() {
        bail!("{} failed: {}", line(command), output.status);
    }
    String::from_utf8(output.stdout).with_context(|| format!("{} printed no text", line(command)))
}

/// Whether a command succeeds; its output is not shown.
pub fn succeeds(command: &mut Command) -> bool {
    interrupt::shield(command);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// The command as one would type it.
pub fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_work_says_goes_where_the_rest_is_said() {
        let log = tempfile::NamedTempFile::new().unwrap();
        let file = log.reopen().unwrap();
        let said = logged(file, || {
            output_of_work(command("sh").args(["-c", "echo waiting >&2; echo result"]))
        });
        assert_eq!(said.unwrap(), "result\n");
        assert_eq!(std::fs::read_to_string(log.path()).unwrap(), "waiting\n");
        assert!(output_of_work(&mut command("false")).is_err());
    }
}
