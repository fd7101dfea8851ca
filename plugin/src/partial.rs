//! A file that gets its name when it is whole. Takes no client.

use std::path::Path;

use anyhow::{Context as _, Result};
use load_report::WholeFile;

/// Writes to a file that gets its name when it is whole.
pub async fn to_file<T>(
    path: &Path,
    write: impl AsyncFnOnce(&mut WholeFile) -> Result<T>,
) -> Result<T> {
    let wrong = || format!("cannot write {}", path.display());
    let mut file = WholeFile::create(path).with_context(wrong)?;
    let result = write(&mut file).await?;
    file.finish().with_context(wrong)?;
    Ok(result)
}

#[cfg(test)]
mod tests {
    use std::future::{Ready, pending, ready};
    use std::io::Write as _;
    use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _, symlink};
    use std::process::Command;
    use std::time::Duration;

    use anyhow::bail;

    use super::*;

    #[tokio::test]
    async fn only_a_whole_file_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("orders.csv");
        let partial = folder.path().join("orders.csv.part");
        let written = async |out: &mut WholeFile| -> Result<i32> {
            assert!(partial.exists());
            out.write_all(b"id\n")?;
            Ok(1)
        };
        assert_eq!(to_file(&path, written).await.unwrap(), 1);
        assert_eq!(std::fs::read(&path).unwrap(), b"id\n");
        assert!(!partial.exists());

        let fails = async |_: &mut WholeFile| -> Result<()> { bail!("cut") };
        assert!(to_file(&path, fails).await.is_err());
        assert!(!partial.exists());
        let interrupted = async |_: &mut WholeFile| -> Result<()> {
            assert!(partial.exists());
            pending().await
        };
        let interrupted = to_file(&path, interrupted);
        let ended = tokio::time::timeout(Duration::from_millis(1), interrupted).await;
        assert!(ended.is_err() && !partial.exists());
        assert_eq!(std::fs::read(&path).unwrap(), b"id\n");

        let taken = folder.path().join("taken");
        std::fs::create_dir(&taken).unwrap();
        let whole = async |_: &mut WholeFile| -> Result<()> { Ok(()) };
        assert!(to_file(&taken, whole).await.is_err());
        assert!(!folder.path().join("taken.part").exists());
    }

    #[tokio::test]
    async fn what_is_there_keeps_its_kind_and_its_permissions() {
        fn written(out: &mut WholeFile) -> Ready<Result<()>> {
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
