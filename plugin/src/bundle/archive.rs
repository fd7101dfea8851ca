//! A tar file (POSIX ustar) that is compressed while it is written.

use std::io::{self, Write};

use flate2::Compression;
use flate2::write::GzEncoder;

/// Unit of a tar file.
const BLOCK: usize = 512;
/// Bytes of the fields for a name and its folders.
const NAME: usize = 100;
const PREFIX: usize = 155;

/// The file.
pub struct Archive<W: Write> {
    out: GzEncoder<W>,
    folder: String,
    seconds: u64,
}

impl<W: Write> Archive<W> {
    /// All files get this folder and this time.
    pub fn new(out: W, folder: &str, seconds: u64) -> Self {
        let out = GzEncoder::new(out, Compression::default());
        Self { out, folder: folder.to_owned(), seconds }
    }

    /// Adds a file.
    pub fn add(&mut self, path: &str, content: &str) -> io::Result<()> {
        let header = header(&format!("{}/{path}", self.folder), content.len(), self.seconds)?;
        self.out.write_all(&header)?;
        self.out.write_all(content.as_bytes())?;
        let padding = content.len().next_multiple_of(BLOCK) - content.len();
        self.out.write_all(&[0; BLOCK][..padding])
    }

    /// Ends the file.
    pub fn finish(mut self) -> io::Result<()> {
        self.out.write_all(&[0; 2 * BLOCK])?;
        self.out.finish().map(drop)
    }
}

fn header(path: &str, size: usize, seconds: u64) -> io::Result<[u8; BLOCK]> {
    let (prefix, name) = split(path).ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidFilename, format!("{path} is too long for a tar file"))
    })?;
    let mut header = [0; BLOCK];
    let mut put =
        |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, name);
    put(100, "0000600\0");
    put(108, "0000000\0");
    put(116, "0000000\0");
    put(124, &format!("{size:011o}\0"));
    put(136, &format!("{seconds:011o}\0"));
    // The checksum counts as spaces in itself.
    put(148, "        ");
    put(156, "0");
    put(257, "ustar\0");
    put(263, "00");
    put(345, prefix);
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    Ok(header)
}

/// Folders and name, so that both fit.
fn split(path: &str) -> Option<(&str, &str)> {
    if path.len() <= NAME {
        return Some(("", path));
    }
    let mut splits = path.match_indices('/').map(|(at, _)| (&path[..at], &path[at + 1..]));
    splits.find(|(prefix, name)| prefix.len() <= PREFIX && name.len() <= NAME && !name.is_empty())
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::process::Command;

    use super::*;

    #[test]
    fn tar_reads_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.tar.gz");
        let mut archive = Archive::new(File::create(&path).unwrap(), "support", 1_700_000_000);
        let long = format!("logs/{}/app.log", "p".repeat(120));
        archive.add("empty", "").unwrap();
        archive.add(&long, &"line\n".repeat(1000)).unwrap();
        archive.add("exact", &"x".repeat(BLOCK)).unwrap();
        archive.finish().unwrap();
        let tar = |arguments: &[&str]| {
            let output = Command::new("tar").args(arguments).arg("-f").arg(&path).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap()
        };
        let listed: Vec<String> = tar(&["-tz"]).lines().map(str::to_owned).collect();
        assert_eq!(
            listed,
            ["support/empty".to_owned(), format!("support/{long}"), "support/exact".to_owned()]
        );
        assert_eq!(tar(&["-xzO"]).len(), 5000 + BLOCK);
    }
}
