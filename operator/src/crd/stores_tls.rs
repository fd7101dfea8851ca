//! The part of the spec about TLS between the app and its stores.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::common::SecretName;
use super::schema::rules;

/// Mode of `stores.tls`, in a rule on the object.
const MODE: &str = "(has(self.spec.stores.tls) ? self.spec.stores.tls.mode : 'Disabled')";

/// TLS to the Redis nodes and to the sale's own database.
#[derive(JsonSchema, Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = secret_rules()))]
pub struct StoresTls {
    /// Origin of the certificates. It can be changed while the sale hibernates, and before its parts are created.
    pub mode: StoresTlsMode,
    /// Secret with `tls.crt`, `tls.key` and `ca.crt`, in cert-manager's layout. Required with mode `Secret`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretName>,
}

/// Origin of the certificates of the Redis nodes and of the sale's own database.
#[derive(JsonSchema, Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub enum StoresTlsMode {
    /// Connections are plain text.
    Disabled,
    /// The operator makes the certificates and renews them, in the Secret `<name>-stores-tls`.
    Managed,
    /// The Secret of `secretRef` holds them.
    Secret,
}

fn secret_rules() -> Value {
    rules(&[(
        "(self.mode == 'Secret') == has(self.secretRef)",
        "stores.tls.secretRef is required with stores.tls.mode: Secret, and must be absent with other modes",
        Some(".secretRef"),
    )])
}

/// The rule that no pod meets one that speaks another protocol.
pub(super) fn mode_rule() -> (String, &'static str) {
    let before = MODE.replace("self", "oldSelf");
    (
        format!(
            "{MODE} == {before} || !has(self.status) || !has(self.status.redis) || \
             self.status.phase == 'Hibernated'"
        ),
        "stores.tls.mode can't be changed while the sale has pods: first set hibernation.mode: Now and wait for the \
         phase Hibernated",
    )
}
