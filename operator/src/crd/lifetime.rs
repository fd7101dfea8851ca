//! The part of the spec about how long data and pods live: deletion policy and hibernation.

use kube::core::Duration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schema;

/// What becomes of a sale's orders when the sale is deleted.
#[derive(JsonSchema, Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
pub enum DeletionPolicy {
    /// The volume and the Secret of the sale's own database are kept and labelled `flashsale.dev/retained`. The volume of
    /// its backups is kept too.
    #[default]
    Retain,
    /// The volumes and the Secret are deleted with the sale, and so are all orders and backups.
    Delete,
}

/// When the sale has no pods. Its data stay.
#[derive(JsonSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = schema::hibernation_rules()))]
pub struct Hibernation {
    /// When the pods end. `Never` wakes a sale that hibernates.
    pub mode: HibernationMode,
    /// Time from `endsAt` to hibernation, with mode `AfterEnd`. At least the longest `holdFor`, unless `strategy` is
    /// `Atomic`. Open holds delay it further, and for an hour so do events that were not delivered. Absent: 1h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::hibernation_delay")]
    pub delay: Option<Duration>,
}

/// When the pods of a sale end.
#[derive(JsonSchema, Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub enum HibernationMode {
    /// The pods run.
    Never,
    /// The pods end when the sale has been over for `delay` and nothing is unfinished. An open sale is not affected.
    AfterEnd,
    /// The pods end now, even if the sale is open.
    Now,
}
