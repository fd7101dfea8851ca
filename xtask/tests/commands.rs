//! The commands as processes.

use std::io::{BufRead, BufReader, Read as _};
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

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

    // Another failure is reported.
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let failed = count().stdout(full).output().unwrap();
    let said = String::from_utf8_lossy(&failed.stderr);
    assert_eq!(failed.status.code(), Some(1), "{said}");
    assert!(said.contains("cannot write to stdout"), "{said}");
}

#[test]
fn a_demo_whose_terminal_closes_ends_as_after_ctrl_c() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    // A cluster that answers when the test ends: the script waits for the end of a pipe.
    let (started, goes_on) = (path("started"), path("goes-on"));
    let script =
        "#!/bin/sh\n: >\"$TEST_FOLDER/started\"\nread -r line <\"$TEST_FOLDER/goes-on\"\nexit 0\n";
    std::fs::write(path("script"), script).unwrap();
    let make = |line: &str| {
        let mut shell = Command::new("sh");
        assert!(shell.args(["-c", line]).current_dir(folder.path()).status().unwrap().success());
    };
    make("mkfifo goes-on && install -m 755 script kubectl && : >kubeconfig");
    let writer = std::fs::File::options().read(true).write(true).open(goes_on).unwrap();

    let folders = std::env::var("PATH").unwrap();
    // A run of the tests under nohup ignores the signal.
    let mut demo = Command::new("env")
        .args(["--default-signal=HUP", PROGRAM, "demo", "--nodes", "1"])
        .env("PATH", format!("{}:{folders}", folder.path().display()))
        .env("TEST_FOLDER", folder.path())
        .env("KUBECONFIG", path("kubeconfig"))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    while !started.exists() {
        assert!(demo.try_wait().unwrap().is_none(), "it ended before it asked for the cluster");
        std::thread::yield_now();
    }
    let pid = Pid::from_raw(i32::try_from(demo.id()).unwrap());
    kill(pid, Signal::SIGHUP).unwrap();
    let mut said = BufReader::new(demo.stderr.take().unwrap());
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    // The shell and the terminal both send it.
    let again = kill(pid, Signal::SIGHUP);
    drop(writer);
    let mut rest = String::new();
    said.read_to_string(&mut rest).unwrap();
    assert_eq!(demo.wait().unwrap().code(), Some(1), "{line}{rest}");
    assert!(line.starts_with("==> stopping and cleaning up"), "{line}");
    assert!(rest.contains("error: interrupted"), "{rest}");
    again.unwrap();
}
