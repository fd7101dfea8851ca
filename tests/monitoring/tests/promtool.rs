//! The chart's alerts in `promtool`: their form, and over time by the files of `rules/`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use flashsale_monitoring::{Rules, Version, promtool, repository};
use serde::Deserialize;
use tempfile::TempDir;

/// Of `rules/`: Debian 12's promtool cannot write native histograms.
const NATIVE: &str = "native.yaml";

/// The part of a file of `rules/` that says what is expected.
#[derive(Deserialize)]
struct File {
    tests: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    #[serde(default)]
    alert_rule_test: Vec<Expected>,
}

#[derive(Deserialize)]
struct Expected {
    alertname: String,
    #[serde(default)]
    exp_alerts: Vec<serde_json::Value>,
}

fn files() -> Result<Vec<PathBuf>> {
    let folder = std::fs::read_dir(repository().join("tests/monitoring/rules"))?;
    let mut files: Vec<_> = folder.map(|file| Ok(file?.path())).collect::<Result<_>>()?;
    files.sort();
    ensure!(!files.is_empty(), "no files");
    Ok(files)
}

/// A folder with the rendered rules, which the files refer to, and the files.
fn folder() -> Result<TempDir> {
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("rules.yaml"), Rules::of_chart()?.file())?;
    std::fs::write(folder.path().join("rules_1m.yaml"), Rules::at_interval("1m")?.file())?;
    for file in files()? {
        let name = file.file_name().context("a file without a name")?;
        std::fs::copy(&file, folder.path().join(name))?;
    }
    Ok(folder)
}

#[test]
fn the_rules_are_well_formed() -> Result<()> {
    let folder = folder()?;
    let alerts = Rules::of_chart()?.alerts()?.len();
    for version in Version::ALL {
        let said = promtool(version, folder.path(), &["check", "rules", "rules.yaml"], "")?;
        ensure!(said.contains(&format!("{alerts} rules found")), "{said}");
    }
    Ok(())
}

#[test]
fn alerts_fire_when_they_should_and_only_then() -> Result<()> {
    let folder = folder()?;
    for version in Version::ALL {
        for file in files()? {
            let name = file.file_name().context("a file without a name")?.to_string_lossy();
            if name != NATIVE || version == Version::Three {
                promtool(version, folder.path(), &["test", "rules", &name], "")?;
            }
        }
    }
    Ok(())
}

/// What happens once stays in a range for nearly as long as the range is. It must not look as if it went on.
#[test]
fn alerts_that_wait_do_so_for_longer_than_their_range() -> Result<()> {
    let mut compared = 0;
    for interval in ["500ms", "15s", "30s", "1m", "2m"] {
        for alert in Rules::at_interval(interval)?.alerts()? {
            let (wait, ranges) = (alert.wait_seconds()?, alert.ranges()?);
            // One event is enough for an alert that does not wait.
            let too_long = ranges.iter().find(|range| wait > 0 && **range >= wait);
            ensure!(too_long.is_none(), "{interval}: {} waits {wait} s: {ranges:?}", alert.alert);
            compared += ranges.len();
        }
    }
    ensure!(compared > 0, "no alert has a range");
    Ok(())
}

#[test]
fn each_alert_has_a_case_in_which_it_fires_and_one_in_which_it_is_silent() -> Result<()> {
    let mut seen: BTreeMap<String, (bool, bool)> = BTreeMap::new();
    for file in files()? {
        let text = std::fs::read_to_string(&file)?;
        let file: File =
            serde_norway::from_str(&text).with_context(|| file.display().to_string())?;
        for expected in file.tests.into_iter().flat_map(|case| case.alert_rule_test) {
            let (fires, silent) = seen.entry(expected.alertname).or_default();
            if expected.exp_alerts.is_empty() {
                *silent = true;
            } else {
                *fires = true;
            }
        }
    }
    let alerts: BTreeSet<_> =
        Rules::of_chart()?.alerts()?.into_iter().map(|alert| alert.alert).collect();
    let both: BTreeSet<_> = seen
        .iter()
        .filter(|(_, both)| **both == (true, true))
        .map(|(name, _)| name.clone())
        .collect();
    ensure!(
        both == alerts,
        "without both cases, or unknown: {:?}",
        alerts.symmetric_difference(&both).collect::<Vec<_>>()
    );
    Ok(())
}

#[test]
fn each_alert_has_a_paragraph_in_the_runbook() -> Result<()> {
    let runbook = std::fs::read_to_string(repository().join("docs/OPERATIONS.md"))?;
    for alert in Rules::of_chart()?.alerts()? {
        let heading = format!("\n### {}\n", alert.alert);
        let (_, below) = runbook
            .split_once(&heading)
            .with_context(|| format!("docs/OPERATIONS.md has no {heading}"))?;
        let below = below.trim_start();
        ensure!(!below.is_empty() && !below.starts_with('#'), "{heading} has no paragraph");
    }
    Ok(())
}
