//! The load job as a program: started with a scenario of its own, and the last line that it prints.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::cores::program;

/// Where the sale is.
#[derive(Debug)]
pub struct Target<'a> {
    pub url: String,
    /// The authority of a sale with `https`.
    pub ca_file: Option<std::path::PathBuf>,
    pub metrics_url: String,
    pub redis: Vec<String>,
    pub database_url: &'a str,
    pub secret: &'a str,
    pub product: &'a str,
}

/// What the load job says at the end.
#[derive(Debug, Deserialize)]
pub struct Outcome {
    pub verdict: String,
    pub users: u32,
    pub requests: u32,
    pub elapsed_seconds: f64,
    pub p99_ms: f64,
}

/// Runs a scenario, on one core if that is given.
///
/// # Errors
/// When the load job does not start, or the sale does not pass.
pub async fn run(
    load: &Path,
    core: Option<usize>,
    folder: &Path,
    scenario: &str,
    target: &Target<'_>,
) -> Result<Outcome> {
    let file = folder.join("scenario.yaml");
    std::fs::write(&file, scenario)?;
    let output = program(load, core)
        .args([OsStr::new("run"), "--targets".as_ref(), "report".as_ref()])
        .arg("--scenario-file")
        .arg(&file)
        .env("SALE_URL", &target.url)
        .envs(target.ca_file.as_ref().map(|file| ("SALE_CA_FILE", file)))
        .env("METRICS_URLS", &target.metrics_url)
        .env("REDIS_NODES", target.redis.join(","))
        .env("DATABASE_URL", target.database_url)
        .env("JWT_SECRET", target.secret)
        .env("PRODUCT_ID", target.product)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .with_context(|| format!("cannot start {}", load.display()))?;
    let (said, complaint) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let last = said.lines().last().unwrap_or_default();
    let outcome: Outcome = serde_json::from_str(last)
        .with_context(|| format!("the load job said\n{said}{complaint}"))?;
    let table = said.strip_suffix('\n').and_then(|said| said.strip_suffix(last)).unwrap_or(&said);
    ensure!(outcome.verdict == "PASS", "the load job said\n{table}");
    Ok(outcome)
}
