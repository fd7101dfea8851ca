//! The files of another revision in a folder. No worktree of git: one that a run leaves behind would be in the way of the
//! next run.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::shell::{command, repository, run};

/// git in this checkout.
pub fn git() -> Command {
    let mut git = command("git");
    git.arg("-C").arg(repository());
    git
}

/// Fills the folder with the files of a commit, and with nothing else.
pub fn unpack(commit: &str, folder: &Path) -> Result<()> {
    if folder.exists() {
        std::fs::remove_dir_all(folder)?;
    }
    std::fs::create_dir_all(folder)?;
    let archive = folder.with_extension("tar");
    run(git().args(["archive", commit, "--output"]).arg(&archive))?;
    // Not the times of the commit: cargo would take the build of another revision, which is later, for one of these files.
    run(command("tar").arg("-xmf").arg(&archive).arg("-C").arg(folder))?;
    std::fs::remove_file(archive)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::fakes::Fakes;

    #[test]
    fn what_an_interrupted_run_left_is_replaced() {
        let place = tempfile::tempdir().unwrap();
        let (commit, folder) = (place.path().join("commit"), place.path().join("folder"));
        std::fs::create_dir(&commit).unwrap();
        std::fs::File::create(commit.join("new")).unwrap().set_modified(UNIX_EPOCH).unwrap();
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("old"), "").unwrap();
        // The archive is its last argument.
        let git = format!("for file; do :; done; tar -cf \"$file\" -C '{}' new", commit.display());
        let fakes = Fakes::start(&[("git", &git)]);
        unpack("abc", &folder).unwrap();
        assert!(!folder.join("old").exists());
        assert_ne!(folder.join("new").metadata().unwrap().modified().unwrap(), UNIX_EPOCH);
        assert!(!fakes.calls().iter().any(|call| call.contains("worktree")));
    }
}
