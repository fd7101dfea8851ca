//! The part of the spec about scheduled backups of a sale's own database.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::{Resources, Storage};

// The spec holds it in a `Box`, for the reason that `PodTemplate` names.
/// Scheduled dumps of the sale's own database.
#[derive(JsonSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Backup {
    /// Times of the dumps, in UTC and in the format of cron: `0 3 * * *`, or `@daily`.
    #[schemars(length(min = 1, max = 100), regex(pattern = r"^(@[a-z]+|\S+( +\S+){4})$"))]
    pub schedule: String,
    /// Number of dumps to keep. Older ones are deleted when a new one is complete.
    #[serde(default = "Backup::default_keep")]
    #[schemars(range(min = 1, max = 365))]
    pub keep: i32,
    /// Volume of the dumps, the claim `<name>-backups`. It needs space for one dump more than `keep`. Absent: 1Gi of the
    /// default storage class. The size can be raised if the storage class expands volumes; other changes are refused.
    #[serde(default)]
    pub storage: Storage,
    /// Requests and limits of the Job. CPU without either requests 50m, memory 64Mi.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// Whether no dump is started for now.
    #[serde(default)]
    pub suspend: bool,
}

impl Backup {
    fn default_keep() -> i32 {
        7
    }
}
