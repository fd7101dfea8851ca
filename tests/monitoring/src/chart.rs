//! The chart's alerts, as helm renders them.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::{Value, json};
use testkit::cluster_programs;

use crate::cluster::OPERATOR_NAMESPACE;
use crate::programs::repository;

/// Seconds of a minute in [`Rules::in_seconds`].
const SHORT_MINUTE: u64 = 2;
/// No range is shorter: it must have several scrapes of the tests.
const SHORTEST_RANGE: u64 = 4;

/// A rule file of Prometheus.
#[derive(Debug, Clone)]
pub struct Rules(Value);

/// An alert.
#[derive(Debug, Clone, Deserialize)]
pub struct Alert {
    /// Its name.
    pub alert: String,
    /// Its condition.
    pub expr: String,
    /// How long the condition must hold, such as `72s`.
    #[serde(rename = "for")]
    pub wait: String,
}

impl Alert {
    /// Seconds for which the condition must hold.
    ///
    /// # Errors
    /// When it is no duration.
    pub fn wait_seconds(&self) -> Result<u64> {
        seconds(&self.wait)
    }

    /// Seconds of each range in the condition.
    ///
    /// # Errors
    /// When one is no duration.
    pub fn ranges(&self) -> Result<Vec<u64>> {
        let ranges = self.expr.split('[').skip(1).filter_map(|rest| rest.split_once(']'));
        ranges.map(|(range, _)| seconds(range)).collect()
    }
}

impl Rules {
    /// The alerts of a release `flashsale-operator` in `flashsale-system`.
    ///
    /// # Errors
    /// When helm fails.
    pub fn of_chart() -> Result<Self> {
        Self::rendered(&[])
    }

    /// The same with this `monitoring.interval`.
    ///
    /// # Errors
    /// When helm fails.
    pub fn at_interval(interval: &str) -> Result<Self> {
        Self::rendered(&["--set", &format!("monitoring.interval={interval}")])
    }

    fn rendered(values: &[&str]) -> Result<Self> {
        let own = cluster_programs().join("helm");
        let mut helm = Command::new(if own.exists() { own } else { PathBuf::from("helm") });
        helm.args(["template", "flashsale-operator"])
            .arg(repository().join("charts/flashsale-operator"))
            .args(["--namespace", OPERATOR_NAMESPACE, "--set", "monitoring.enabled=true"])
            .args(["--show-only", "templates/monitoring.yaml"])
            .args(values);
        let output = helm.output().context("cannot start helm")?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        for document in serde_norway::Deserializer::from_slice(&output.stdout) {
            let object = Value::deserialize(document)?;
            if object["kind"] == "PrometheusRule" {
                return Ok(Self(object["spec"].clone()));
            }
        }
        anyhow::bail!("the chart has no PrometheusRule")
    }

    /// The same for a sale of seconds: each `for` and each range of minutes is as many times two seconds, so a test sees an
    /// alert fire and resolve.
    ///
    /// # Errors
    /// When a rule has no condition.
    pub fn in_seconds(&self) -> Result<Self> {
        let mut rules = self.0.clone();
        let list = rules["groups"][0]["rules"].as_array_mut().context("no rules")?;
        for rule in list {
            let wait = seconds(rule["for"].as_str().unwrap_or("0s"))?;
            rule["for"] = json!(format!("{}s", wait * SHORT_MINUTE / 60));
            let mut expr = rule["expr"].as_str().context("no expression")?.to_owned();
            for range in [60, 300] {
                let short = (range * SHORT_MINUTE / 60).max(SHORTEST_RANGE);
                expr = expr.replace(&format!("[{range}s]"), &format!("[{short}s]"));
                expr = expr.replace(&format!(" offset {range}s"), &format!(" offset {short}s"));
            }
            rule["expr"] = json!(expr);
        }
        Ok(Self(rules))
    }

    /// The alerts.
    ///
    /// # Errors
    /// When a rule is none.
    pub fn alerts(&self) -> Result<Vec<Alert>> {
        Ok(serde_json::from_value(self.0["groups"][0]["rules"].clone())?)
    }

    /// The file. JSON is YAML.
    #[must_use]
    pub fn file(&self) -> String {
        self.0.to_string()
    }
}

fn seconds(duration: &str) -> Result<u64> {
    let (number, unit) = duration.split_at(duration.len() - 1);
    let factor = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => anyhow::bail!("{duration}: unknown unit"),
    };
    Ok(number.parse::<u64>().with_context(|| duration.to_owned())? * factor)
}
