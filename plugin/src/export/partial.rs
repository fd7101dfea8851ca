//! A file that gets its name when it is whole. Takes no client.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// Bytes of the orders that are in memory.
pub(super) const BUFFER: usize = 64 << 10;

/// A file beside the wanted one. It is removed unless it was renamed: what is there is no export.
struct Partial(PathBuf);

impl Drop for Partial {
    fn drop(&mut self) {
        // After a rename, no file has this name.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Writes to a file beside the wanted one, which gets its name when it is whole.
pub async fn to_file<T>(
    path: &Path,
    write: impl AsyncFnOnce(&mut io::BufWriter<File>) -> Result<T>,
) -> Result<T> {
    let partial = beside(path);
    let file =
        File::create(&partial).with_context(|| format!("cannot write {}", partial.display()))?;
    let partial = Partial(partial);
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
    use std::future::pending;
    use std::io::Write as _;
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
}
