//! The file of a page.

use std::fs::File;
use std::process::Command;

use crate::{command, small, text};

/// With another file over its third argument, the program writes there.
const MOUNTED: &str =
    r#"mount --bind "$2" "$3" && exec "$1" report --from "$4" --html "$3" > /dev/null"#;

#[test]
fn a_page_of_before_is_replaced_by_a_whole_one() {
    let folder = tempfile::tempdir().unwrap();
    let html = folder.path().join("report.html");
    std::fs::write(&html, "before").unwrap();
    let before = File::open(&html).unwrap();
    let output = command(&["--from", "-", "--html", html.to_str().unwrap()], &small().to_string());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(std::fs::read_to_string(&html).unwrap().ends_with("</html>"));
    assert_eq!(std::io::read_to_string(before).unwrap(), "before", "nobody wrote into it");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_page_that_cannot_be_replaced_is_written_itself() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    // Longer than the page.
    let before = vec![b'x'; 1_000_000];
    let is_page = |name: &str| {
        let page = std::fs::read_to_string(path(name)).unwrap();
        page.starts_with("<!DOCTYPE html>") && page.ends_with("</html>")
    };
    std::fs::write(path("log"), small().to_string()).unwrap();
    std::fs::write(path("other.html"), &before).unwrap();
    std::fs::write(path("report.html"), &before).unwrap();
    let mut mounted = Command::new("unshare");
    if !nix::unistd::geteuid().is_root() {
        mounted.args(["--user", "--map-root-user"]);
    }
    mounted.args(["--mount", "sh", "-c", MOUNTED, "sh", env!("CARGO_BIN_EXE_flashsale-load")]);
    mounted.args([path("other.html"), path("report.html"), path("log")]);
    let output = mounted.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(is_page("other.html") && !path("report.html.part").exists());
    assert_eq!(std::fs::read(path("report.html")).unwrap(), before, "it was covered");

    // The place of the file beside it is taken.
    std::fs::create_dir(path("report.html.part")).unwrap();
    let html = path("report.html");
    let output = command(&["--from", "-", "--html", html.to_str().unwrap()], &small().to_string());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(is_page("report.html"));
}
