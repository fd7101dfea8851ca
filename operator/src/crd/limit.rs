//! Whom `maxPerBuyer` limits.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Whom `maxPerBuyer` limits: the person for whom a claim of access tokens stands.
#[derive(JsonSchema, Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct LimitBy {
    /// Name of the claim, at the top level of access tokens, such as `person_id`. Its value is a text or a whole number. Tokens
    /// without it buy no product with `maxPerBuyer`, and get no coupon.
    #[schemars(
        length(min = 1, max = 128),
        regex(pattern = r"^[!-~]+$"),
        extend("x-kubernetes-validations" = super::schema::limit_claim_rules())
    )]
    pub claim: String,
}
