//! Commands that get a signal to stop, and one whose output nobody reads.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// It must end by itself: the first process of a container gets no signal that it does not ask for,
/// and a pod that is deleted would wait its whole grace period.
#[test]
fn a_seed_that_waits_for_its_stores_ends_at_sigterm() {
    let nobody = testkit::free_port().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let catalog = folder.path().join("catalog.json");
    std::fs::write(&catalog, r#"{"products": []}"#).unwrap();
    let mut seed = Command::new(env!("CARGO_BIN_EXE_flashsale-app"))
        .arg("seed")
        .env("DATABASE_URL", format!("postgres://nobody@127.0.0.1:{nobody}/nothing"))
        .env("REDIS_NODES", format!("127.0.0.1:{nobody}"))
        .env("USE_REDLOCK", "false")
        .env("CATALOG_FILE", &catalog)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(seed.stderr.take().unwrap());
    let mut said = String::new();
    while !said.contains("waiting for the database") {
        assert_ne!(log.read_line(&mut said).unwrap(), 0, "it ended: {said}");
    }

    kill(Pid::from_raw(seed.id().try_into().unwrap()), Signal::SIGTERM).unwrap();

    log.read_to_string(&mut said).unwrap();
    assert_eq!(seed.wait().unwrap().code(), Some(1), "{said}");
    assert!(said.contains("stopped by a signal"), "{said}");
}

#[test]
fn a_result_that_nobody_reads_is_an_error() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut openapi = Command::new(env!("CARGO_BIN_EXE_flashsale-app"));
    let ended = openapi.arg("openapi").stdout(writer).stderr(Stdio::piped()).output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(said.starts_with("flashsale-app: cannot write to stdout"), "{said}");
}
