//! How a scenario runs on a cluster, as data.

use serde::{Deserialize, Serialize};

/// The Job of a scenario, and the sale that it needs.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct JobSpec {
    /// A manifest of a sale that fits
    pub sale: String,
    /// Pods that share the users
    pub pods: u32,
    /// Time limit of the Job; it grows if its users come for a longer time than the scenario's
    pub minutes: u32,
    /// Memory limit of a pod
    pub memory: String,
    /// What somebody must do during the run; `cargo xtask demo` and `kubectl flashsale load --meanwhile run` do it
    pub meanwhile: Vec<Step>,
    /// More for the head of the manifest
    pub note: String,
}

impl Default for JobSpec {
    fn default() -> Self {
        Self {
            sale: String::new(),
            pods: 1,
            minutes: 3,
            memory: "512Mi".to_owned(),
            meanwhile: Vec::new(),
            note: String::new(),
        }
    }
}

/// A command to run while the users buy.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Since the first user
    pub after_seconds: f64,
    /// Absent: once
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every_seconds: Option<f64>,
    /// A line for a shell, with kubectl; the variables `NAMESPACE` and `SALE` name the sale
    pub command: String,
}

impl JobSpec {
    /// Time limit of the Job in seconds.
    #[must_use]
    pub fn deadline_seconds(&self) -> u64 {
        u64::from(self.minutes) * 60
    }
}

impl Step {
    /// The command for a sale, as a person would type it.
    #[must_use]
    pub fn for_sale(&self, namespace: &str, sale: &str) -> String {
        self.command.replace("$NAMESPACE", namespace).replace("$SALE", sale)
    }
}
