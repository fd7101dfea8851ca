//! Programs that are built here where the machine has none: a file for each version, and a link with the plain name. So
//! another pinned version is built, and the one before is there for the checkout that pins it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::shell::{binaries_folder, folders_of_the_machine, say};

/// Builds this version of a program, unless it is there. `build` gets an empty folder, and says what it made in it.
pub fn ensure(
    name: &str,
    version: &str,
    time: &str,
    build: impl FnOnce(&Path) -> Result<PathBuf>,
) -> Result<()> {
    if folders_of_the_machine().iter().any(|folder| folder.join(name).is_file()) {
        return Ok(());
    }
    ensure_in(&binaries_folder(), name, version, time, build)
}

fn ensure_in(
    folder: &Path,
    name: &str,
    version: &str,
    time: &str,
    build: impl FnOnce(&Path) -> Result<PathBuf>,
) -> Result<()> {
    let file = format!("{name}-{version}");
    let program = folder.join(&file);
    if !program.exists() {
        say(&format!("building {name} {version} ({time}, once)"));
        std::fs::create_dir_all(folder)?;
        // On the same file system, and whole once it has its name.
        let place = tempfile::tempdir_in(folder)?;
        let made = build(place.path())?;
        std::fs::rename(&made, &program)
            .with_context(|| format!("{} was not built", made.display()))?;
    }
    link(Path::new(&file), &folder.join(name))
}

/// Makes a link, in the place of what has its name.
pub fn link(to: &Path, link: &Path) -> Result<()> {
    let new = link.with_extension("link");
    if new.is_symlink() {
        std::fs::remove_file(&new)?;
    }
    std::os::unix::fs::symlink(to, &new)?;
    std::fs::rename(&new, link).with_context(|| format!("cannot make {}", link.display()))
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;

    #[test]
    fn each_version_is_built_once_and_the_plain_name_is_the_last_one() {
        let folder = tempfile::tempdir().unwrap();
        let (folder, mut builds) = (folder.path(), 0);
        // As an earlier checkout left it.
        std::fs::write(folder.join("tool"), "unknown").unwrap();
        for (version, builds_so_far) in [("v1", 1), ("v1", 1), ("v2", 2), ("v1", 2)] {
            ensure_in(folder, "tool", version, "no time", |place| {
                builds += 1;
                let made = place.join("tool");
                std::fs::write(&made, version)?;
                Ok(made)
            })
            .unwrap();
            assert_eq!(std::fs::read_to_string(folder.join("tool")).unwrap(), version);
            assert_eq!(builds, builds_so_far);
        }
        assert_eq!(std::fs::read_dir(folder).unwrap().count(), 3, "nothing else is left");
    }

    #[test]
    fn what_could_not_be_built_is_tried_again() {
        let folder = tempfile::tempdir().unwrap();
        let made = ensure_in(folder.path(), "tool", "v1", "no time", |_| bail!("no compiler"));
        assert!(made.is_err());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
