//! Types that several parts of the spec share: volumes, Secret references, requests and limits.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schema;

/// A volume for each pod.
#[derive(JsonSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Storage {
    /// Such as `1Gi`.
    #[serde(default = "Storage::default_size")]
    #[schemars(schema_with = "schema::size")]
    pub size: Quantity,
    /// Absent: the cluster's default class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = schema::OBJECT_NAME))]
    pub class_name: Option<String>,
}

impl Storage {
    fn default_size() -> Quantity {
        Quantity("1Gi".to_owned())
    }
}

impl Default for Storage {
    fn default() -> Self {
        Self { size: Self::default_size(), class_name: None }
    }
}

/// A key of a Secret in the sale's namespace.
#[derive(JsonSchema, Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct SecretKey {
    /// The Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = schema::OBJECT_NAME))]
    pub name: String,
    /// Its key that holds `postgres://user:password@host:port/database`.
    #[serde(default = "SecretKey::default_key")]
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^(\.?[-A-Za-z0-9_][-.A-Za-z0-9_]*)$")
    )]
    pub key: String,
}

impl SecretKey {
    fn default_key() -> String {
        "uri".to_owned()
    }
}

/// A Secret in the sale's namespace.
#[derive(JsonSchema, Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub struct SecretName {
    /// The Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = schema::OBJECT_NAME))]
    pub name: String,
}

/// Requests and limits of a container.
#[derive(JsonSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
pub struct Resources {
    /// What the scheduler reserves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<Amounts>,
    /// What it may use at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Amounts>,
}

/// CPU and memory.
#[derive(JsonSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
pub struct Amounts {
    /// Such as `100m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::quantity")]
    pub cpu: Option<Quantity>,
    /// Such as `64Mi`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::quantity")]
    pub memory: Option<Quantity>,
}
