//! A process's own time of day, by Debian's libfaketime.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The file in a server's folder that holds its clock's distance from the machine's.
const CLOCK: &str = "clock";

/// The environment that gives a process the clock in `folder`.
pub(crate) fn environment(folder: &Path) -> Result<[(&'static str, String); 4]> {
    // Debian's Redis allocates with jemalloc, which asks for the time while libfaketime, to
    // answer, allocates: both wait for each other. With libc's allocator they do not.
    let preload = format!("{}:libc.so.6", library()?.display());
    Ok([
        ("LD_PRELOAD", preload),
        ("FAKETIME_TIMESTAMP_FILE", folder.join(CLOCK).display().to_string()),
        // The file is read at each question, so a jump is seen at once.
        ("FAKETIME_NO_CACHE", "1".to_owned()),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
    ])
}

/// Sets the clock in `folder` to the machine's plus `ahead_seconds`, which may be negative.
pub(crate) fn set(folder: &Path, ahead_seconds: i64) -> Result<()> {
    // In one step: a file that is only half there would be read as no offset.
    let next = folder.join("clock.next");
    std::fs::write(&next, format!("{ahead_seconds:+}\n"))?;
    Ok(std::fs::rename(next, folder.join(CLOCK))?)
}

fn library() -> Result<PathBuf> {
    std::fs::read_dir("/usr/lib")?
        .filter_map(|entry| Some(entry.ok()?.path().join("faketime/libfaketime.so.1")))
        .find(|library| library.exists())
        .context("libfaketime is not installed (Debian: apt-get install libfaketime)")
}
