//! The commands as processes.

use std::process::{Command, Stdio};

const PROGRAM: &str = env!("CARGO_BIN_EXE_xtask");
const FOLDER: &str = env!("CARGO_MANIFEST_DIR");

#[test]
fn a_result_that_nobody_reads_ends_the_command_quietly() {
    let count = || {
        let mut count = Command::new(PROGRAM);
        count.args(["layers", "--count", FOLDER]).stderr(Stdio::piped());
        count
    };
    let read = count().stdout(Stdio::piped()).output().unwrap();
    assert!(read.status.success() && read.stdout.starts_with(b"xtask: "), "{read:?}");

    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let unread = count().stdout(writer).output().unwrap();
    let said = String::from_utf8_lossy(&unread.stderr);
    assert_eq!((unread.status.code(), &*said), (Some(141), ""));

    // Another failure is told.
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let failed = count().stdout(full).output().unwrap();
    let said = String::from_utf8_lossy(&failed.stderr);
    assert_eq!(failed.status.code(), Some(1), "{said}");
    assert!(said.contains("cannot write to stdout"), "{said}");
}
