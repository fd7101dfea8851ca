//! What a demo removes, and which error it tells.

use std::io::Cursor;

use super::*;
use crate::fakes::{Fakes, HELM_OF_A_USER, given_cluster};
use crate::scenarios::Step;

/// Installs the operator on a cluster that has none.
fn install_operator(made: &mut Made) {
    let (images, chart) = (Images::local(), std::path::Path::new(install::CHART));
    install::release(&given_cluster(), &images, chart, "operator:dev", "1", &mut made.operator)
        .unwrap();
}

#[test]
fn a_demo_that_fails_before_it_installs_removes_nothing() {
    let kubectl = "case $* in *shop*) echo namespace/shop;; esac";
    let fakes = Fakes::start(&[("helm", HELM_OF_A_USER), ("kubectl", kubectl)]);
    clean_up(&given_cluster(), &mut Made::default()).unwrap();
    assert!(!fakes.changed_something(), "{:?}", fakes.calls());
}

#[test]
fn an_operator_of_somebody_else_is_refused_before_anything_is_built() {
    let fakes = Fakes::start(&[("helm", HELM_OF_A_USER), ("kubectl", "")]);
    let options = Options { scenario: None, nodes: "5".to_owned(), seconds: None, keep: false };
    let mut made = Made::default();
    let error = sell(&given_cluster(), &options, &mut made).unwrap_err().to_string();
    assert!(error.contains("was not installed by cargo xtask"), "{error}");
    clean_up(&given_cluster(), &mut made).unwrap();
    assert!(!fakes.changed_something(), "{:?}", fakes.calls());
}

#[test]
fn seconds_are_a_number_above_0() {
    assert_eq!(positive_seconds("0.5"), Ok(0.5));
    for wrong in ["0", "-1", "NaN", "inf", "1e300", "1e-12", "", "5s"] {
        assert!(positive_seconds(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn a_namespace_of_somebody_else_stays_and_the_operator_of_the_demo_does_not() {
    // It is there, and no namespace has the label.
    let kubectl = "case $* in *'get namespace shop '*) echo namespace/shop;; esac";
    let fakes = Fakes::start(&[("helm", ""), ("kubectl", kubectl)]);
    let mut made = Made::default();
    install_operator(&mut made);
    let error = fresh_namespace(&given_cluster(), &mut made).unwrap_err().to_string();
    assert!(error.contains("is not the demo's"), "{error}");
    clean_up(&given_cluster(), &mut made).unwrap();
    assert!(!fakes.was_called("kubectl delete namespace shop"), "{:?}", fakes.calls());
    assert!(fakes.was_called("helm uninstall"), "{:?}", fakes.calls());
    assert!(fakes.was_called("kubectl delete namespace flashsale-system"), "{:?}", fakes.calls());
}

#[test]
fn the_namespace_of_an_earlier_demo_gives_way() {
    let kubectl = "case $* in *'get namespace'*) echo namespace/shop;; esac";
    let fakes = Fakes::start(&[("kubectl", kubectl)]);
    let mut made = Made::default();
    fresh_namespace(&given_cluster(), &mut made).unwrap();
    assert!(made.namespace);
    let calls = fakes.calls();
    let position =
        |beginning: &str| calls.iter().position(|call| call.starts_with(beginning)).unwrap();
    assert!(position("kubectl delete namespace shop") < position("kubectl create namespace shop"));
}

#[test]
fn the_operator_is_removed_although_the_namespace_of_the_sale_is_not() {
    let kubectl = "case $* in 'delete namespace shop '*) echo stuck >&2; exit 1;; esac";
    let fakes = Fakes::start(&[("helm", ""), ("kubectl", kubectl)]);
    let mut made = Made::default();
    install_operator(&mut made);
    fresh_namespace(&given_cluster(), &mut made).unwrap();
    let error = clean_up(&given_cluster(), &mut made).unwrap_err().to_string();
    assert!(error.contains("stuck"), "{error}");
    assert!(fakes.was_called("helm uninstall"), "{:?}", fakes.calls());
    assert!(fakes.was_called("kubectl delete namespace flashsale-system"), "{:?}", fakes.calls());
}

#[test]
fn an_interrupted_demo_ends_its_sale_and_removes_what_it_made() {
    let fakes = Fakes::start(&[("helm", ""), ("kubectl", "")]);
    let mut made = Made::default();
    install_operator(&mut made);
    fresh_namespace(&given_cluster(), &mut made).unwrap();
    interrupt::pretend(true);
    let ready = await_ready(&given_cluster(), "flashsale/black-friday");
    let log = read_log(Cursor::new("0/300 users done\n"), || unreachable!("nobody buys any more"));
    let removed = clean_up(&given_cluster(), &mut made);
    interrupt::pretend(false);
    assert!(ready.is_err() && log.is_err());
    removed.unwrap();
    assert!(fakes.was_called("kubectl delete namespace shop"), "{:?}", fakes.calls());
    assert!(fakes.was_called("helm uninstall"), "{:?}", fakes.calls());
}

#[test]
fn a_stalled_sale_is_the_error_although_kubectl_describes_nothing() {
    let sale = r#"{"status": {"conditions": [{"type": "Stalled", "status": "True"}]}}"#;
    let kubectl = format!("case $* in *json*) echo '{sale}';; *) exit 1;; esac");
    let fakes = Fakes::start(&[("kubectl", &kubectl)]);
    let error = await_ready(&given_cluster(), "flashsale/black-friday").unwrap_err().to_string();
    assert!(error.starts_with("flashsale/black-friday is stalled"), "{error}");
    assert!(fakes.calls().iter().any(|call| call.ends_with("get events")), "{:?}", fakes.calls());
}

#[test]
fn nothing_happens_to_a_sale_whose_log_cannot_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("often");
    let often = || std::fs::read_to_string(&file).unwrap_or_default().lines().count();
    let adds = format!("echo x >>'{}'", file.display());
    let steps = [Step { after_seconds: 0.0, every_seconds: Some(0.01), command: adds }];
    let start = || {
        let meanwhile = Meanwhile::start(&steps, |line| {
            let mut shell = command("sh");
            shell.args(["-c", line]);
            shell
        });
        let deadline = Instant::now() + Duration::from_mins(1);
        while often() == 0 && Instant::now() < deadline {
            std::thread::yield_now();
        }
        meanwhile
    };
    let log = Cursor::new(&b"0/300 users done\n\xff\n"[..]);
    assert!(read_log(log, start).is_err());
    let before = often();
    assert!(before > 0);
    assert_eq!(often(), before, "the commands go on");
}

#[test]
fn the_verdict_is_a_line_of_the_log() {
    let log = Cursor::new("0/300 users done\n{\"verdict\": \"PASS\"}\n");
    let verdict = read_log(log, || Meanwhile::start(&[], |_| Command::new("true"))).unwrap();
    assert_eq!(verdict.unwrap()["verdict"], "PASS");
}
