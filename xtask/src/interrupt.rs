//! Ctrl-C, SIGTERM and a terminal that closes, while a cluster has what this process made: the first signal ends the work,
//! and the clean-up follows as after any failure. Another Ctrl-C or SIGTERM ends the process.

use std::cell::Cell;
use std::io::{Error, ErrorKind, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use anyhow::{Result, ensure};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a shell gives as the status of a process that a signal ended.
const INTERRUPTED: i32 = 130;
const TERMINATED: i32 = 143;
/// The same for SIGPIPE.
const UNREAD: u8 = 141;
const FAILED: u8 = 1;

static ASKED: AtomicBool = AtomicBool::new(false);

/// The exit status after a result that could not be written; 0 before it.
static LOST: AtomicU8 = AtomicU8::new(0);

thread_local! {
    /// Whether this thread cleans up.
    static CLEANS_UP: Cell<bool> = const { Cell::new(false) };
}

#[cfg(test)]
thread_local! {
    /// As if a signal had come, for this thread.
    static ASKED_HERE: Cell<bool> = const { Cell::new(false) };
}

/// As if a signal had come, for the commands of this thread.
#[cfg(test)]
pub fn pretend(asked: bool) {
    ASKED_HERE.set(asked);
}

/// From now on, after the first signal no command begins but those of a clean-up. Ctrl-C also reaches the commands that
/// run, and ends them.
pub fn handle() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let inside = runtime.enter();
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = hangup()?;
    drop(inside);
    std::thread::spawn(move || {
        runtime.block_on(async move {
            for is_first in [true, false] {
                let status = tokio::select! {
                    _ = interrupt.recv() => INTERRUPTED,
                    _ = terminate.recv() => TERMINATED,
                    // It comes more than once: from the shell, and from the terminal.
                    () = comes(hangup.as_mut()), if is_first => TERMINATED,
                };
                if is_first {
                    ASKED.store(true, Ordering::Relaxed);
                    note("stopping and cleaning up; the next signal leaves what is there");
                } else {
                    note("stopped; cargo xtask cluster down removes a cluster of ours");
                    std::process::exit(status);
                }
            }
        });
    });
    Ok(())
}

/// The signal of a terminal that closes. Absent: this process was started so that it survives its terminal (`nohup`).
pub fn hangup() -> Result<Option<Signal>> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    // SIGHUP is the first signal.
    let is_ignored = ignored.is_some_and(|mask| mask & 1 == 1);
    Ok(if is_ignored { None } else { Some(signal(SignalKind::hangup())?) })
}

/// When the signal comes, if it is listened to.
pub async fn comes(signal: Option<&mut Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}

fn note(message: &str) {
    let _ = writeln!(std::io::stderr(), "==> {message}");
}

/// As after a signal: a result could not be written. A reader that is gone, such as `head`, is not told.
pub fn lose_result(error: &Error) {
    let is_unread = error.kind() == ErrorKind::BrokenPipe;
    let status = if is_unread { UNREAD } else { FAILED };
    if LOST.swap(status, Ordering::Relaxed) == 0 && !is_unread {
        note(&format!("cannot write to stdout: {error}"));
    }
    ASKED.store(true, Ordering::Relaxed);
}

/// The exit status, if a result could not be written.
pub fn lost_result() -> Option<ExitCode> {
    match LOST.load(Ordering::Relaxed) {
        0 => None,
        status => Some(ExitCode::from(status)),
    }
}

/// Whether a signal came, or a result was lost.
pub fn was_asked() -> bool {
    #[cfg(test)]
    let here = ASKED_HERE.get();
    #[cfg(not(test))]
    let here = false;
    here || ASKED.load(Ordering::Relaxed)
}

/// Refuses to go on after a signal, except with a clean-up.
pub fn ensure_may_go_on() -> Result<()> {
    ensure!(CLEANS_UP.get() || !was_asked(), "interrupted");
    Ok(())
}

/// The same for a command that is about to begin.
pub fn admit(command: &mut Command) -> Result<()> {
    ensure_may_go_on()?;
    shield(command);
    Ok(())
}

/// Gives a command of a clean-up a process group of its own. A terminal that closes signals the group of this process twice:
/// the second signal would end the clean-up.
pub fn shield(command: &mut Command) {
    if CLEANS_UP.get() {
        command.process_group(0);
    }
}

/// Does a clean-up: its commands run although a signal came.
pub fn clean_up<T>(work: impl FnOnce() -> T) -> T {
    let before = CLEANS_UP.replace(true);
    let done = work();
    CLEANS_UP.set(before);
    done
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shell::{command, output, run};

    #[test]
    fn after_a_signal_only_a_clean_up_goes_on() {
        let works = || run(&mut command("true")).is_ok() && output(&mut command("true")).is_ok();
        assert!(works());
        pretend(true);
        assert_eq!(run(&mut command("true")).unwrap_err().to_string(), "interrupted");
        assert!(output(&mut command("true")).is_err());
        assert!(clean_up(|| clean_up(works) && works()));
        assert!(!works());
        pretend(false);
        assert!(works());
    }

    #[test]
    fn a_command_of_a_clean_up_gets_no_signal_of_the_terminal() {
        let has_its_own_group = || {
            let group = "cut -d ' ' -f 5 /proc/$$/stat; echo $$";
            let said = output(command("sh").args(["-c", group])).unwrap();
            let (group, process) = said.trim().split_once('\n').unwrap();
            group == process
        };
        assert!(!has_its_own_group());
        assert!(clean_up(has_its_own_group));
    }
}
