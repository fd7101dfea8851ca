//! Times and thresholds of the probes. The commands and the paths stay the operator's.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::schema::rules;

/// Times and thresholds of one probe.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ProbeTimes {
    /// Seconds between two probes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub period_seconds: Option<i32>,
    /// Seconds after which a probe without an answer has failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<i32>,
    /// Failures in a row after which the kubelet acts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_threshold: Option<i32>,
}

/// Probes of a Redis node or of the sale's own database.
#[derive(JsonSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
pub struct StoreProbes {
    /// How long a started server may take until it answers; a Redis node, until it votes. Then the kubelet restarts it.
    /// Raise the threshold for large volumes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "store_startup")]
    pub startup: Option<ProbeTimes>,
    /// How soon a server that does not answer is not ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "store_readiness")]
    pub readiness: Option<ProbeTimes>,
    /// How soon a server that does not answer is restarted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "store_liveness")]
    pub liveness: Option<ProbeTimes>,
}

/// Probes of a replica of the purchase API.
#[derive(JsonSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
pub struct AppProbes {
    /// How soon a replica without a quorum or database at its start, or without an answer, gets no requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "app_readiness")]
    pub readiness: Option<ProbeTimes>,
    /// How soon a replica that does not answer is restarted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "app_liveness")]
    pub liveness: Option<ProbeTimes>,
}

/// What the operator sets where nothing is declared, and what may be declared.
#[derive(Clone, Copy, Debug)]
pub struct ProbeBounds {
    /// Default and maximum of the period. The minimum is 1.
    pub period: (i32, i32),
    /// Default and minimum of the time-out. The maximum is 60.
    pub timeout: (i32, i32),
    /// Default and maximum of the threshold. The minimum is 1.
    pub failures: (i32, i32),
    /// Least product of period and threshold, with the reason.
    patience: Option<(i32, &'static str)>,
}

const BUSY: &str = "a restart does not help a server that is busy";

/// Startup of a store: two minutes.
pub const STORE_STARTUP: ProbeBounds = ProbeBounds {
    period: (1, 10),
    timeout: (2, 2),
    failures: (120, 3600),
    patience: Some((120, "a restarted Redis node waits for its vote for up to 90s")),
};
/// Readiness of a store: it fails 20 to 35 seconds after the last reply. A machine under load starts the command late, so
/// it has some seconds.
pub const STORE_READINESS: ProbeBounds =
    ProbeBounds { period: (10, 60), timeout: (5, 2), failures: (3, 10), patience: None };
/// Liveness of a store: three minutes without a reply. A restart helps a frozen server only; a busy one would lose its
/// time.
pub const STORE_LIVENESS: ProbeBounds = ProbeBounds {
    period: (30, 300),
    timeout: (10, 2),
    failures: (6, 60),
    patience: Some((60, BUSY)),
};
/// Readiness of a replica.
pub const APP_READINESS: ProbeBounds =
    ProbeBounds { period: (2, 60), timeout: (2, 1), failures: (2, 10), patience: None };
/// Liveness of a replica. Slow to act: a restart does not restore an unavailable node, and it drops the queue.
pub const APP_LIVENESS: ProbeBounds = ProbeBounds {
    period: (10, 300),
    timeout: (2, 1),
    failures: (6, 60),
    patience: Some((60, BUSY)),
};

impl ProbeBounds {
    fn schema(&self) -> Schema {
        let Self { period, timeout, failures, .. } = *self;
        let number = |what: &str, default: i32, bounds: (i32, i32)| {
            json_schema!({
                "type": "integer",
                "format": "int32",
                "description": format!("{what} Absent: {default}."),
                "minimum": bounds.0,
                "maximum": bounds.1,
            })
        };
        let mut schema = json_schema!({
            "type": "object",
            "properties": {
                "periodSeconds": number("Seconds between two probes.", period.0, (1, period.1)),
                "timeoutSeconds":
                    number("Seconds after which a probe without an answer has failed.", timeout.0, (timeout.1, 60)),
                "failureThreshold":
                    number("Failures in a row after which the kubelet acts.", failures.0, (1, failures.1)),
            },
        });
        if let Some((seconds, reason)) = self.patience {
            let or_default = |field: &str, default: i32| {
                format!("(has(self.{field}) ? self.{field} : {default})")
            };
            let (period, failures) =
                (or_default("periodSeconds", period.0), or_default("failureThreshold", failures.0));
            let rule = format!("{period} * {failures} >= {seconds}");
            let message = format!(
                "periodSeconds times failureThreshold must be at least {seconds}: {reason}"
            );
            schema.insert("x-kubernetes-validations".to_owned(), rules(&[(&rule, &message, None)]));
        }
        schema
    }
}

fn store_startup(_: &mut SchemaGenerator) -> Schema {
    STORE_STARTUP.schema()
}

fn store_readiness(_: &mut SchemaGenerator) -> Schema {
    STORE_READINESS.schema()
}

fn store_liveness(_: &mut SchemaGenerator) -> Schema {
    STORE_LIVENESS.schema()
}

fn app_readiness(_: &mut SchemaGenerator) -> Schema {
    APP_READINESS.schema()
}

fn app_liveness(_: &mut SchemaGenerator) -> Schema {
    APP_LIVENESS.schema()
}
