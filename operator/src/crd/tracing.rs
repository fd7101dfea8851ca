//! The part of the spec about traces of the purchase API.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::schema::{OBJECT_NAME, rules};

/// Traces that the replicas export.
#[derive(JsonSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct AppTracing {
    /// URL of a collector that takes OTLP over HTTP, such as `http://otel-collector.monitoring:4318`. Spans are posted to
    /// `/v1/traces` below it.
    #[schemars(schema_with = "endpoint")]
    pub endpoint: String,
    /// Share of the requests that are traced, from 0 to 1. The `traceparent` header of a request decides instead if it
    /// has one. Default: 0.01.
    #[serde(default = "AppTracing::default_sampling_ratio")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub sampling_ratio: f64,
    /// Headers of each export, usually a key of the collector. Replicas read the Secret when they start, and do without it
    /// if it is missing. Absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub headers_secret_ref: Option<HeadersSecret>,
}

impl AppTracing {
    fn default_sampling_ratio() -> f64 {
        0.01
    }
}

/// Key of a Secret in the sale's namespace.
#[derive(JsonSchema, Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct HeadersSecret {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT_NAME))]
    pub name: String,
    /// Key whose value is `name=value` pairs, separated by commas, with percent-encoded values. Default: headers.
    #[serde(default = "HeadersSecret::default_key")]
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^(\.?[-A-Za-z0-9_][-.A-Za-z0-9_]*)$")
    )]
    pub key: String,
}

impl HeadersSecret {
    fn default_key() -> String {
        "headers".to_owned()
    }
}

/// A scheme, a host, an optional port and an optional path.
const URL: &str = r"^https?://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]))?(/[A-Za-z0-9._~/-]*)?$";

fn endpoint(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "maxLength": 255,
        "x-kubernetes-validations": rules(&[(
            &format!("self.matches(r'{URL}')"),
            "app.tracing.endpoint must be a URL such as http://otel-collector.monitoring:4318, with http or https \
             and without user, query and fragment",
            None,
        )]),
    })
}
