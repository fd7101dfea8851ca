//! A file that gets its name when it is whole.

use std::fs::{File, Metadata};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

/// Bytes that are in memory.
const BUFFER: usize = 64 << 10;

/// A file beside the wanted one, which gets its name at the end.
///
/// A pipe and a device are written themselves, and so is a file whose folder takes no other one.
#[derive(Debug)]
pub struct WholeFile {
    out: BufWriter<Destination>,
    path: PathBuf,
    /// Absent: the wanted file is written itself.
    partial: Option<Partial>,
}

impl WholeFile {
    /// Makes the file beside the wanted one. What is there stays until the end, or until the first byte if it is written
    /// itself.
    ///
    /// # Errors
    /// When neither of them can be written.
    pub fn create(path: &Path) -> io::Result<Self> {
        let existing = path.metadata().ok();
        if existing.as_ref().is_some_and(|it| !it.is_file() && !it.is_dir()) {
            return Self::itself(path);
        }
        let existing = existing.filter(Metadata::is_file);
        // The file behind a link is replaced, not the link.
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let partial = beside(&path);
        let file = match File::create(&partial) {
            Ok(file) => file,
            Err(error) if existing.is_some() => return Self::itself(&path).map_err(|_| error),
            Err(error) => return Err(error),
        };
        let partial = Some(Partial(partial));
        if let Some(existing) = existing {
            file.set_permissions(existing.permissions())?;
        }
        let out = BufWriter::with_capacity(BUFFER, Destination { file, has_before: false });
        Ok(Self { out, path, partial })
    }

    fn itself(path: &Path) -> io::Result<Self> {
        let file = File::options().write(true).open(path)?;
        // A pipe and a device have no length.
        let has_before = file.metadata()?.is_file();
        let out = BufWriter::with_capacity(BUFFER, Destination { file, has_before });
        Ok(Self { out, path: path.to_owned(), partial: None })
    }

    /// Gives the file its name.
    ///
    /// # Errors
    /// When the rest of it cannot be written, or it cannot get the name.
    pub fn finish(self) -> io::Result<()> {
        let Self { out, path, partial } = self;
        let mut out = out.into_inner().map_err(io::IntoInnerError::into_error)?;
        out.drop_before()?;
        let Some(partial) = partial else { return Ok(()) };
        out.file.sync_all()?;
        match std::fs::rename(&partial.0, &path) {
            // A mount of its own cannot be replaced, such as a file that a container got from its machine.
            Err(error) if error.kind() == ErrorKind::ResourceBusy => copy(&partial.0, &path),
            renamed => renamed,
        }
    }
}

impl Write for WholeFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// The file that is written.
#[derive(Debug)]
struct Destination {
    file: File,
    /// Whether it has the content of before.
    has_before: bool,
}

impl Destination {
    fn drop_before(&mut self) -> io::Result<()> {
        if self.has_before {
            self.file.set_len(0)?;
            self.has_before = false;
        }
        Ok(())
    }
}

impl Write for Destination {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.drop_before()?;
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// A file beside the wanted one. It is removed unless it was renamed: what is there is not whole.
#[derive(Debug)]
struct Partial(PathBuf);

impl Drop for Partial {
    fn drop(&mut self) {
        // After a rename, no file has this name.
        let _ = std::fs::remove_file(&self.0);
    }
}

fn beside(path: &Path) -> PathBuf {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".part");
    PathBuf::from(partial)
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let mut file = File::options().write(true).truncate(true).open(to)?;
    io::copy(&mut File::open(from)?, &mut file)?;
    file.sync_all()
}
