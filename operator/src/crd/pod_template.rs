//! Changes to the pods of a part that users declare.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Affinity, Container, EnvVar, PodSecurityContext, SecurityContext, Toleration,
    TopologySpreadConstraint, Volume, VolumeMount,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::{Resources, SecretName};
use super::pod_schema as schema;
use super::strict::Strict;

// Specs hold it in a `Box`: it is large, and the futures of a reconcile hold a spec on their stack.
/// Changes to the pods of a part. Values that the operator sets are refused, or replaced where the field says so.
#[derive(JsonSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PodTemplate {
    /// More labels of the pods.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::labels")]
    pub labels: BTreeMap<String, String>,
    /// More annotations of the pods.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::annotations")]
    pub annotations: BTreeMap<String, String>,
    /// Labels of the machines that the pods can run on.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::labels")]
    pub node_selector: BTreeMap<String, String>,
    /// Affinity as in a pod. The terms of `redis.spread` are added to `podAntiAffinity`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::affinity")]
    pub affinity: Option<Strict<Affinity>>,
    /// Tolerations as in a pod.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::tolerations")]
    pub tolerations: Vec<Strict<Toleration>>,
    /// Topology spread constraints as in a pod. Without a `labelSelector`, a constraint counts the pods of this part. It
    /// replaces the operator's constraint with the same `topologyKey`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::topology_spread_constraints")]
    pub topology_spread_constraints: Vec<Strict<TopologySpreadConstraint>>,
    /// Priority class of the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::object_name")]
    pub priority_class_name: Option<String>,
    /// Service account of the pods. Its token is not mounted. Absent: `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::object_name")]
    pub service_account_name: Option<String>,
    /// Secrets for pulling the image, in addition to `spec.imagePullSecrets`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub image_pull_secrets: Vec<SecretName>,
    /// Security context of the pods. Declared fields replace the operator's, the others stay. For pods without fixed user
    /// ids, set `spec.podUser`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::open_object")]
    pub pod_security_context: Option<Strict<PodSecurityContext>>,
    /// Security context of the operator's container. Declared fields replace the operator's, the others stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::open_object")]
    pub container_security_context: Option<Strict<SecurityContext>>,
    /// More environment variables of the operator's container.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::env")]
    pub env: Vec<Strict<EnvVar>>,
    /// More volumes of the pods.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::volumes")]
    pub volumes: Vec<Strict<Volume>>,
    /// Mounts of these volumes in the operator's container.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::volume_mounts")]
    pub volume_mounts: Vec<Strict<VolumeMount>>,
    /// More containers of the pods, as in a pod, beside the operator's. They can mount `volumes` of this template and need a
    /// security context of their own. A pod is ready when all of its containers are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::containers")]
    pub containers: Vec<Strict<Container>>,
    /// Init containers of the pods, as in a pod. With `restartPolicy: Always` they are sidecars, which start before the
    /// operator's container and end after it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::containers")]
    pub init_containers: Vec<Strict<Container>>,
    /// Seconds from the request to stop until the container is killed. Absent: 15 for Redis, 60 for the database, 30
    /// for the app and the seed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 5, max = 3600))]
    pub termination_grace_period_seconds: Option<i64>,
}

/// Job that puts the declared stock in place.
#[derive(JsonSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct SeedJob {
    /// Requests and limits of the Job. Absent: those of the app.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// Changes to the pods of the Job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::seed_template::<PodTemplate>")]
    pub pod_template: Option<Box<PodTemplate>>,
}

/// User and group ids of the pods.
#[derive(JsonSchema, Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
pub enum PodUser {
    /// The operator sets them: 999 for Redis and the database, 65532 for the app and the seed.
    #[default]
    Fixed,
    /// The operator sets none, so the platform assigns them, as `OpenShift` does. Elsewhere, the images' own users apply.
    Platform,
}

/// Spread of the Redis nodes over machines and zones.
#[derive(JsonSchema, Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Spread {
    /// Spread over machines. `Required`: one node per machine; a node without a free machine stays pending. `Preferred`:
    /// one node per machine where possible. `Disabled`: no rule.
    #[serde(default = "Spread::default_hosts")]
    pub hosts: SpreadMode,
    /// Spread over zones, by the label `topology.kubernetes.io/zone`. `Required`: no zone has two nodes more than another
    /// (2, 2, 1 over three zones), and machines without the label are not used. `Preferred`: the same where possible.
    /// `Disabled`: no rule. With three zones or more, the quorum of five nodes survives the loss of one.
    #[serde(default = "Spread::default_zones")]
    pub zones: SpreadMode,
}

/// Strictness of a spread.
#[derive(JsonSchema, Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub enum SpreadMode {
    /// No rule.
    Disabled,
    /// The scheduler prefers it.
    Preferred,
    /// A pod that breaks it stays pending.
    Required,
}

impl Spread {
    fn default_hosts() -> SpreadMode {
        SpreadMode::Preferred
    }

    fn default_zones() -> SpreadMode {
        SpreadMode::Disabled
    }
}

impl Default for Spread {
    fn default() -> Self {
        Self { hosts: Self::default_hosts(), zones: Self::default_zones() }
    }
}
