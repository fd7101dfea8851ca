//! Lighthouse on phone and desktop.
//!
//! Its performance score depends on the machine, so it is judged only where `LIGHTHOUSE_PERFORMANCE` says how high it
//! must be (`cargo xtask test lighthouse`). What the score is made of and does not depend on the machine is always judged.

use std::process::Stdio;

use serde_json::{Value, json};
use tokio::process::Command;

use super::{ENGLISH, KOREAN, Screen, Stage, Window, node_modules, of_admin};
use crate::common::SaleSpec;

/// In percent.
const LEAST: f64 = 95.0;
/// Bytes over the network of a whole page, its first live event included.
const MOST_BYTES: f64 = 24_000.0;

impl Window {
    /// Lighthouse's report on a page, made with this browser.
    async fn lighthouse(&self, path: &str, screen: Screen) -> Value {
        let capabilities = self.client.capabilities().unwrap();
        let address = capabilities["goog:chromeOptions"]["debuggerAddress"].as_str().unwrap();
        let (_, port) = address.rsplit_once(':').unwrap();
        let folder = tempfile::tempdir().unwrap();
        let report = folder.path().join("report.json");
        let mut lighthouse = Command::new("node");
        lighthouse
            .arg(node_modules().join("lighthouse/cli/index.js"))
            .arg(format!("{}{path}", self.site))
            .args(["--port", port, "--quiet", "--no-enable-error-reporting", "--output=json"])
            .arg("--only-categories=performance,accessibility,best-practices")
            .arg("--output-path")
            .arg(&report)
            .args((screen == Screen::Desktop).then_some("--preset=desktop"))
            .env("HOME", folder.path())
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let output = lighthouse.output().await.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap()
    }
}

/// In percent.
fn score(report: &Value, category: &str) -> f64 {
    100.0 * report["categories"][category]["score"].as_f64().unwrap()
}

/// What costs points in a category.
fn failed(report: &Value, category: &str) -> Vec<String> {
    let audits = report["categories"][category]["auditRefs"].as_array().unwrap().iter();
    let audits = audits.filter(|audit| audit["weight"].as_f64().is_some_and(|weight| weight > 0.0));
    let audits = audits.map(|audit| &report["audits"][audit["id"].as_str().unwrap()]);
    let failed = audits.filter(|audit| audit["score"].as_f64().is_some_and(|score| score < 1.0));
    failed.map(|audit| format!("{} {}", audit["id"], audit["displayValue"])).collect()
}

fn number(report: &Value, audit: &str) -> f64 {
    report["audits"][audit]["numericValue"].as_f64().unwrap()
}

fn judge(name: &str, report: &Value) {
    assert_eq!(report["runtimeError"], Value::Null, "{name}");
    let performance = score(report, "performance");
    eprintln!(
        "{name}: performance {performance:.0}, accessibility {:.0}, best practices {:.0}; first content {:.0} ms, \
         largest {:.0} ms, blocked {:.0} ms, shift {:.3}, {:.0} bytes",
        score(report, "accessibility"),
        score(report, "best-practices"),
        number(report, "first-contentful-paint"),
        number(report, "largest-contentful-paint"),
        number(report, "total-blocking-time"),
        number(report, "cumulative-layout-shift"),
        number(report, "total-byte-weight"),
    );
    for category in ["accessibility", "best-practices"] {
        let failed = failed(report, category);
        assert!(score(report, category) >= LEAST, "{name}: {category}: {failed:?}");
    }
    assert!(number(report, "cumulative-layout-shift") < 0.1, "{name}");
    assert!(number(report, "total-byte-weight") < MOST_BYTES, "{name}");
    assert_eq!(report["audits"]["uses-text-compression"]["score"], 1, "{name}");
    // The style must be there before anything is painted; scripts must not hold it up.
    let blocking = report["audits"]["render-blocking-resources"]["details"]["items"].as_array();
    for item in blocking.into_iter().flatten() {
        let url = item["url"].as_str().unwrap();
        assert!(url.contains("/app.css"), "{name}: {url}");
    }
    if let Ok(least) = std::env::var("LIGHTHOUSE_PERFORMANCE") {
        let failed = failed(report, "performance");
        assert!(performance >= least.parse().unwrap(), "{name}: performance: {failed:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lighthouse_is_content_with_both_pages_on_phone_and_desktop() {
    let products: Vec<Value> = (1..8)
        .map(|id| json!({"id": id.to_string(), "name": format!("Product {id}"), "stock": 100}))
        .collect();
    let stage = Stage::set(SaleSpec { nodes: 1, ..of_admin(json!(products)) }).await;
    for (path, screen, languages) in [
        ("/", Screen::Phone, KOREAN),
        ("/", Screen::Desktop, ENGLISH),
        ("/admin", Screen::Phone, ENGLISH),
        ("/admin", Screen::Desktop, KOREAN),
    ] {
        // Lighthouse sets the screen itself.
        let window = stage.window_of(Screen::Desktop, languages).await;
        let report = window.lighthouse(path, screen).await;
        judge(&format!("{path} on {screen:?}, {languages}"), &report);
        window.client.clone().close().await.unwrap();
    }
}
