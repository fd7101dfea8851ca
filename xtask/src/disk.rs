//! Room on the disk. On a full one, tests fail with errors that name everything else.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use nix::sys::statvfs::statvfs;

use crate::binaries::Build;
use crate::shell::{binaries_folder, state_folder};

/// In bytes.
const GB: u64 = 1_000_000_000;

/// What a run writes, and where.
struct Need {
    what: &'static str,
    folder: PathBuf,
    bytes: u64,
}

/// Refuses tests that would fill the disk. The sizes are those of a clean checkout, rounded up.
pub fn ensure_room_for_tests() -> Result<()> {
    let need = |what, folder, gigabytes| Need { what, folder, bytes: gigabytes * GB };
    let mut needs = vec![need("the data of the tests' servers", std::env::temp_dir(), 2)];
    let program = Build::Test.program("flashsale-app");
    if !program.exists() {
        needs.push(need("the build", program, 12));
    }
    if !binaries_folder().join("kubelet").exists() {
        needs.push(need("the programs of Kubernetes", state_folder(), 12));
    }
    ensure_room(&needs)
}

/// Where the servers of the tests keep their data: in memory, if there is enough. They write gigabytes that nobody keeps,
/// and a disk that is busy for a second fails a test that waits for half of one. A killed process loses nothing there
/// either. Not if the caller has named a folder.
pub fn memory_for_tests() -> Option<&'static Path> {
    let folder = Path::new("/dev/shm");
    let room =
        Need { what: "the data of the tests' servers", folder: folder.into(), bytes: 8 * GB };
    let is_chosen = std::env::var_os("TMPDIR").is_some();
    (!is_chosen && folder.is_dir() && ensure_room(&[room]).is_ok()).then_some(folder)
}

/// Needs of the same file system add up.
fn ensure_room(needs: &[Need]) -> Result<()> {
    let mut needed: Vec<(u64, u64, u64, Vec<&str>)> = Vec::new();
    for need in needs {
        let folder = existing(&need.folder)?;
        let disk = statvfs(folder).with_context(|| format!("{}", folder.display()))?;
        let (id, free) = (disk.filesystem_id(), disk.blocks_available() * disk.fragment_size());
        match needed.iter_mut().find(|(of, ..)| *of == id) {
            Some((.., bytes, what)) => {
                *bytes += need.bytes;
                what.push(need.what);
            }
            None => needed.push((id, free, need.bytes, vec![need.what])),
        }
    }
    for (_, free, bytes, what) in needed {
        ensure!(
            free >= bytes,
            "{} GB of the disk are free, and {} take {} GB; `cargo clean` and `go clean -cache` \
             remove what can be built again",
            free / GB,
            what.join(" and "),
            bytes / GB,
        );
    }
    Ok(())
}

/// The folder, or the nearest one above it that exists.
fn existing(folder: &Path) -> Result<&Path> {
    folder
        .ancestors()
        .find(|folder| folder.is_dir())
        .with_context(|| format!("no folder above {} exists", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn need(what: &'static str, bytes: u64) -> Need {
        Need { what, folder: std::env::temp_dir().join("not/there"), bytes }
    }

    #[test]
    fn needs_of_one_disk_are_added() {
        let disk = statvfs(&std::env::temp_dir()).unwrap();
        let two_thirds = disk.blocks_available() * disk.fragment_size() / 3 * 2;

        assert!(ensure_room(&[need("the build", two_thirds)]).is_ok());
        let error = ensure_room(&[need("the build", two_thirds), need("the data", two_thirds)]);

        let error = error.unwrap_err().to_string();
        assert!(error.contains("the build and the data take"), "{error}");
    }
}
