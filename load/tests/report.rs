//! The report of a run, from the last line of its log: what the command says, and what a browser shows.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

mod files;

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use fantoccini::{Client, ClientBuilder};
use flashsale_load::page;
use flashsale_load::verdict::Report;
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use testkit::Browser;

const HOSTILE: &str = "</text></svg><script>document.title='hacked'</script><img src=x onerror=\"document.title='hacked'\"> & \"'";

/// 300 users on 100 units, in the order of asking.
fn small() -> Value {
    let point = |user: u32| {
        let code = if user < 100 { "sold" } else { "sold_out" };
        json!([user, user * 10, 20_000 + user * 400, code])
    };
    let row = |name: &str, status: &str| json!({"name": name, "measured": "1", "target": "= 1", "status": status, "rule": "a rule"});
    json!({
        "schema_version": 1,
        "tool_version": "0.1.0",
        "verdict": "PASS",
        "wrong": [],
        "slow": [],
        "description": "300 users on 100 items",
        "scenario": "small",
        "users": 300,
        "stock": 100,
        "sold": 100,
        "requests": 300,
        "answers": {"sold": 100, "sold_out": 200},
        "elapsed_seconds": 0.14,
        "max_ms": 139.6,
        "p50_ms": 79.6,
        "p99_ms": 138.4,
        "lock_wait_p50_ms": 3.0,
        "lock_wait_p99_ms": 20.0,
        "lock_node_average_ms": {"0": 1.0, "1": 2.0},
        "lock_node_p99_ms": {"0": 4.0, "1": 8.0},
        "series": {
            "started_at": "2026-11-27T00:00:00Z",
            "response_times": histogram((0..300).map(|user| 20_000 + user * 400)),
            "answered": {"width_us": 5_000, "slots": slots(30)},
            "asked": {"width_us": 1_000, "slots": [
                {"codes": {"sold": 100}}, {"codes": {"sold_out": 100}}, {"codes": {"sold_out": 100}},
            ]},
            "points": (0..300).map(point).collect::<Vec<_>>(),
            "lock_wait": [[0.005, 90.0], [0.05, 100.0], [null, 100.0]],
            "lock_nodes": {"0": [[0.001, 50.0], [0.005, 100.0], [null, 100.0]],
                           "1": [[0.001, 20.0], [0.005, 99.0], [null, 100.0]]},
        },
        "problems": [],
        "checks": [row("sold", "ok"), row("P99", "info")],
    })
}

fn slots(count: usize) -> Vec<Value> {
    let slot = |_| json!({"codes": {"sold": 4, "sold_out": 6}, "sizes": [[45, 8], [50, 2]], "slowest_us": 120_000});
    (0..count).map(slot).collect()
}

fn histogram(micros: impl Iterator<Item = u64>) -> Value {
    let mut times = flashsale_load::ResponseTimes::default();
    micros.for_each(|value| times.record(std::time::Duration::from_micros(value)));
    serde_json::to_value(times).unwrap()
}

/// Too many answers for a mark each.
fn large() -> Value {
    let mut report = small();
    report["requests"] = json!(30_000);
    report["series"]["points"] = json!([]);
    report["series"]["response_times"] = histogram((0..30_000).map(|number| 20_000 + number * 4));
    report
}

/// The same crowd; half of its orders are paid after the last purchase.
fn paid() -> Value {
    let mut report = small();
    let took = |user: u32| 20_000 + user * 400;
    let points = report["series"]["points"].as_array_mut().unwrap();
    points.extend((0..50).map(|user: u32| json!([user, 200_000 + user, 20_000, "paid"])));
    let times = (0..300).map(took).chain((0..50).map(|_| 20_000)).map(u64::from);
    report["series"]["response_times"] = histogram(times);
    report
}

/// Every text from outside is hostile.
fn hostile(mut report: Value) -> Value {
    for field in ["description", "scenario", "tool_version"] {
        report[field] = json!(HOSTILE);
    }
    report["verdict"] = json!("FAIL");
    report["wrong"] = json!([HOSTILE]);
    report["problems"] = json!([HOSTILE]);
    report["answers"] = json!({HOSTILE: 7, "sold": 100});
    report["lock_node_average_ms"] = json!({HOSTILE: 1.0});
    report["series"]["lock_nodes"] = json!({HOSTILE: [[0.001, 5.0], [null, 6.0]]});
    report["series"]["answered"]["slots"][3]["codes"] = json!({HOSTILE: 7});
    report["checks"][0] = json!(
        {"name": HOSTILE, "measured": HOSTILE, "target": HOSTILE, "status": "wrong", "rule": HOSTILE}
    );
    report
}

fn read(report: &Value) -> Report {
    serde_json::from_value(report.clone()).unwrap()
}

#[test]
fn texts_from_outside_cannot_become_markup() {
    for report in [small(), large()] {
        let page = page(&read(&hostile(report))).unwrap();
        assert!(!page.contains("<script") && !page.contains("<img"), "{page}");
        assert!(page.contains("&lt;script&gt;document.title"), "{page}");
        // Attributes: a quotation mark would end them.
        assert!(!page.contains("onerror=\""), "{page}");
    }
}

#[test]
fn a_small_crowd_has_no_lone_p99() {
    let small = page(&read(&small())).unwrap();
    assert!(small.contains("number 297 of 300 response times"), "the rule");
    assert!(!small.contains("<dt>P99</dt>"), "no figure among the first");
    assert!(small.contains("<dt>longest</dt>") && small.contains("<dt>last answer</dt>"));
    let large = page(&read(&large())).unwrap();
    assert!(large.contains("<dt>P99</dt>"));
}

const WINNERS: &str = "Winners by the order of asking";

#[test]
fn who_paid_after_the_purchase_is_a_winner() {
    let page = page(&read(&paid())).unwrap();
    assert!(page.contains(WINNERS));
    assert!(page.contains("100 of the 100 users who asked first bought one"), "{page}");
}

#[test]
fn nobody_asked_first_in_a_crowd_that_asks_at_once() {
    assert!(page(&read(&large())).unwrap().contains(WINNERS));
    let mut at_once = large();
    let codes = json!({"sold": 100, "sold_out": 200});
    at_once["series"]["asked"]["slots"] = json!([{"codes": codes}]);
    assert!(!page(&read(&at_once)).unwrap().contains(WINNERS));
    // Empty slots around it show no order either.
    at_once["series"]["asked"]["slots"] = json!([{}, {}, {"codes": codes}, {}]);
    assert!(!page(&read(&at_once)).unwrap().contains(WINNERS));
    let mut small_at_once = small();
    for point in small_at_once["series"]["points"].as_array_mut().unwrap() {
        point[1] = json!(0);
    }
    assert!(!page(&read(&small_at_once)).unwrap().contains(WINNERS));
}

#[test]
fn what_is_read_is_written_again() {
    for report in [small(), large(), hostile(small())] {
        let once = read(&report).json();
        let twice = read(&serde_json::from_str(&once).unwrap()).json();
        assert_eq!(once, twice);
    }
}

fn command(arguments: &[&str], log: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flashsale-load"))
        .arg("report")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may have refused its arguments already.
    let _ = command.stdin.take().unwrap().write_all(log.as_bytes());
    command.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn the_log_of_a_run_becomes_a_page_and_keeps_its_verdict() {
    let folder = tempfile::tempdir().unwrap();
    let html = folder.path().join("report.html");
    // Longer than the page.
    std::fs::write(&html, vec![b'x'; 1_000_000]).unwrap();
    let html = html.to_str().unwrap();
    let (passed, failed) = (small(), hostile(small()));
    // An earlier run in the same log, progress, and what a log collector puts around a line.
    let log = format!("{failed}\n   0.1 s  1/300 users done\nPASS\n[pod/load-x] {passed}\nbye\n");
    let output = command(&["--from", "-", "--html", html], &log);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), format!("PASS: wrote {html}\n"));
    let page = std::fs::read_to_string(html).unwrap();
    assert!(page.starts_with("<!DOCTYPE html>") && page.contains("300 users on 100 items"));
    assert!(page.ends_with("</html>"));

    let output = command(&["--from", "-"], &failed.to_string());
    assert_eq!(output.status.code(), Some(1), "FAIL");
    assert!(text(&output.stdout).contains("FAIL; wrong: "), "{}", text(&output.stdout));
}

#[test]
fn a_report_that_nobody_reads_is_an_error() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    std::fs::write(&log, small().to_string()).unwrap();
    let mut report = Command::new(env!("CARGO_BIN_EXE_flashsale-load"));
    let ended = report.args(["report", "--from"]).arg(log).stdout(writer).output().unwrap();
    assert_eq!(ended.status.code(), Some(2));
    let said = text(&ended.stderr);
    assert!(said.starts_with("error: stdout: cannot be written: "), "{said}");
}

#[test]
fn a_log_without_a_report_is_a_mistake_that_is_named() {
    let mut newer = small();
    newer["schema_version"] = json!(2);
    let mut damaged = small();
    damaged["series"]["response_times"] = json!("AAAA");
    for (log, expected) in [
        ("waiting: no sale\n".to_owned(), "has no report"),
        (newer.to_string(), "schema version 2"),
        (damaged.to_string(), "no HdrHistogram"),
    ] {
        let output = command(&["--from", "-"], &log);
        assert_eq!(output.status.code(), Some(2), "{expected}");
        let error = text(&output.stderr);
        assert!(error.starts_with("error: --from: ") && error.contains(expected), "{error}");
    }
    let output = command(&["--from", "-", "--html", "/nowhere/r.html"], &small().to_string());
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).starts_with("error: --html: cannot write /nowhere/r.html"));
}

/// A browser without a screen.
struct Window {
    client: Client,
    session: String,
    http: reqwest::Client,
}

impl Window {
    async fn open(driver: &Browser, file: &Path, width: u32) -> Self {
        let metrics = json!({"width": width, "height": 900, "pixelRatio": 2.0});
        let mut options = json!({"args": Browser::arguments()});
        options["args"].as_array_mut().unwrap().push(json!("--hide-scrollbars"));
        if width < 500 {
            options["mobileEmulation"] = json!({"deviceMetrics": metrics});
        } else {
            options["args"]
                .as_array_mut()
                .unwrap()
                .push(json!(format!("--window-size={width},900")));
        }
        let wanted =
            json!({"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}});
        let client = ClientBuilder::new(HttpConnector::new())
            .capabilities(wanted.as_object().unwrap().clone())
            .connect(&driver.url())
            .await
            .unwrap();
        client.goto(&format!("file://{}", file.display())).await.unwrap();
        let session = client.session_id().await.unwrap().unwrap();
        let session = format!("{}/session/{session}", driver.url());
        Self { client, session, http: reqwest::Client::new() }
    }

    async fn js(&self, expression: &str) -> Value {
        self.client.execute(&format!("return {expression};"), Vec::new()).await.unwrap()
    }

    async fn command(&self, path: &str, body: &Value) -> Value {
        let url = format!("{}/{path}", self.session);
        let answer = self.http.post(url).json(body).send().await.unwrap();
        answer.json::<Value>().await.unwrap()["value"].clone()
    }

    async fn media(&self, media: &str, scheme: &str) {
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        let body = json!({"cmd": "Emulation.setEmulatedMedia", "params": {"media": media, "features": features}});
        self.command("goog/cdp/execute", &body).await;
    }

    /// The darkness of the ground and of a text in a plot, as `rgb(...)`.
    async fn colors(&self) -> (Value, Value) {
        let ground = self.js("getComputedStyle(document.body).backgroundColor").await;
        let ink = self.js("getComputedStyle(document.querySelector('svg text')).fill").await;
        (ground, ink)
    }
}

#[tokio::test]
async fn a_browser_shows_the_page_on_a_phone_in_the_dark_and_on_paper() {
    let folder = tempfile::tempdir().unwrap();
    let driver = Browser::start().unwrap();
    for (name, report) in [("small", small()), ("large", large()), ("hostile", hostile(small()))] {
        let file = folder.path().join(format!("{name}.html"));
        std::fs::write(&file, page(&read(&report)).unwrap()).unwrap();
        for width in [360, 1280] {
            let window = Window::open(&driver, &file, width).await;
            assert_ne!(window.js("document.title").await, "hacked");
            assert_eq!(window.js("document.scripts.length + document.images.length").await, 0);
            assert_eq!(window.js("document.querySelectorAll('svg').length").await, 6, "{name}");
            // Nothing is loaded, and the policy had nothing to forbid.
            assert_eq!(window.js("performance.getEntriesByType('resource').length").await, 0);
            let log = window.command("se/log", &json!({"type": "browser"})).await;
            assert_eq!(log, json!([]), "{name}");
            let page_width = window.js("document.documentElement.scrollWidth").await;
            assert!(
                page_width.as_u64().unwrap() <= width.into(),
                "{name}: {page_width} of {width}"
            );
            // In the units of the screen, not of the drawing.
            let text_height = "document.querySelector('svg text').getBoundingClientRect().height";
            assert!(window.js(text_height).await.as_f64().unwrap() >= 9.0, "{name}");

            window.media("screen", "light").await;
            assert_eq!(
                window.colors().await,
                (json!("rgb(255, 255, 255)"), json!("rgb(27, 31, 36)"))
            );
            window.media("screen", "dark").await;
            assert_eq!(
                window.colors().await,
                (json!("rgb(15, 19, 24)"), json!("rgb(230, 237, 243)"))
            );
            window.media("print", "dark").await;
            assert_eq!(window.colors().await, (json!("rgb(255, 255, 255)"), json!("rgb(0, 0, 0)")));
            window.client.close().await.unwrap();
        }
    }
}

/// Pictures of reports for the docs: `REPORT_PICTURES=FOLDER` with HTML files, each of which gets a PNG beside it.
#[tokio::test]
async fn pictures_are_taken_where_they_are_asked_for() {
    let Ok(folder) = std::env::var("REPORT_PICTURES") else { return };
    let driver = Browser::start().unwrap();
    for entry in std::fs::read_dir(folder).unwrap() {
        let file = entry.unwrap().path();
        if file.extension().is_some_and(|extension| extension == "html") {
            let window = Window::open(&driver, &file, 1280).await;
            // Without the tables.
            let plots = "document.querySelector('.plots').getBoundingClientRect().bottom + 16";
            let height = window.js(&format!("Math.ceil({plots})")).await;
            let size =
                json!({"width": 1280, "height": height, "deviceScaleFactor": 1, "mobile": false});
            let body = json!({"cmd": "Emulation.setDeviceMetricsOverride", "params": size});
            window.command("goog/cdp/execute", &body).await;
            let picture = window.client.screenshot().await.unwrap();
            std::fs::write(file.with_extension("png"), picture).unwrap();
            window.client.close().await.unwrap();
        }
    }
}
