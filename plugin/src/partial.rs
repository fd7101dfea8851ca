//! A file that gets its name when it is whole. Takes no client.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// Bytes that are in memory.
pub const BUFFER: usize = 64 << 10;

/// A file beside the wanted one. It is removed unless it was renamed: what is there is not whole.
struct Partial(PathBuf);

impl Drop for Partial {
    fn drop(&mut self) {
        // After a rename, no file has this name.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Writes to a file beside the wanted one, which gets its name when it is whole. A pipe and a device are written
/// themselves.
pub async fn to_file<T>(
    path: &Path,
    write: impl AsyncFnOnce(&mut io::BufWriter<File>) -> Result<T>,
) -> Result<T> {
    let existing = path.metadata().ok();
    if existing.as_ref().is_some_and(|it| !it.is_file() && !it.is_dir()) {
        let file = File::options().write(true).open(path);
        let file = file.with_context(|| format!("cannot write {}", path.display()))?;
        let mut out = io::BufWriter::with_capacity(BUFFER, file);
        let result = write(&mut out).await?;
        out.flush()?;
        return Ok(result);
    }
    // The file behind a link is replaced, not the link.
    let path = &path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let partial = beside(path);
    let file =
        File::create(&partial).with_context(|| format!("cannot write {}", partial.display()))?;
    let partial = Partial(partial);
    if let Some(existing) = existing.filter(std::fs::Metadata::is_file) {
        file.set_permissions(existing.permissions())?;
    }
    let mut out = io::BufWriter::with_capacity(BUFFER, file);
    let result = write(&mut out).await?;
    let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.sync_all()?;
    std::fs::rename(&partial.0, path)
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(result)
}

fn beside(path: &Path) -> PathBuf {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".part");
    PathBuf::from(partial)
}

#[cfg(test)]
mod tests {
    use std::future::{Ready, pending, ready};
    use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _, symlink};
    use std::process::Command;
    use std::time::Duration;

    use anyhow::bail;

    use super::*;

    #[tokio::test]
    async fn only_a_whole_file_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("orders.csv");
        let partial = beside(&path);
        let written = async |out: &mut io::BufWriter<File>| -> Result<i32> {
            assert!(partial.exists());
            out.write_all(b"id\n")?;
            Ok(1)
        };
        assert_eq!(to_file(&path, written).await.unwrap(), 1);
        assert_eq!(std::fs::read(&path).unwrap(), b"id\n");
        assert!(!partial.exists());

        let fails = async |_: &mut io::BufWriter<File>| -> Result<()> { bail!("cut") };
        assert!(to_file(&path, fails).await.is_err());
        assert!(!partial.exists());
        let interrupted = async |_: &mut io::BufWriter<File>| -> Result<()> {
            assert!(partial.exists());
            pending().await
        };
        let interrupted = to_file(&path, interrupted);
        let ended = tokio::time::timeout(Duration::from_millis(1), interrupted).await;
        assert!(ended.is_err() && !partial.exists());
        assert_eq!(std::fs::read(&path).unwrap(), b"id\n");

        let taken = folder.path().join("taken");
        std::fs::create_dir(&taken).unwrap();
        let whole = async |_: &mut io::BufWriter<File>| -> Result<()> { Ok(()) };
        assert!(to_file(&taken, whole).await.is_err());
        assert!(!beside(&taken).exists());
    }

    #[tokio::test]
    async fn what_is_there_keeps_its_kind_and_its_permissions() {
        fn written(out: &mut io::BufWriter<File>) -> Ready<Result<()>> {
            ready(out.write_all(b"new").map_err(Into::into))
        }
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("file"), "old").unwrap();
        std::fs::set_permissions(path("file"), std::fs::Permissions::from_mode(0o600)).unwrap();
        symlink(path("file"), path("link")).unwrap();
        to_file(&path("link"), written).await.unwrap();
        assert_eq!(std::fs::read(path("file")).unwrap(), b"new");
        assert_eq!(path("file").metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert!(path("link").is_symlink());

        let pipe = path("pipe");
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let reader = std::thread::spawn({
            let pipe = pipe.clone();
            move || std::fs::read(pipe).unwrap()
        });
        to_file(&pipe, written).await.unwrap();
        assert_eq!(reader.join().unwrap(), b"new");
        assert!(pipe.metadata().unwrap().file_type().is_fifo());
    }
}
