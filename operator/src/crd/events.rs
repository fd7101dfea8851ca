//! The part of the spec about events of orders.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::common::SecretName;
use super::event_state::EventState;
use super::events_nats::EventNats;
use super::schema::{OBJECT_NAME, rules};

/// Systems that receive an event for each change of an order.
#[derive(JsonSchema, Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules(&[(
    "has(self.webhook) || has(self.nats)", "events needs webhook or nats, or both", None,
)])))]
pub struct OrderEvents {
    /// Receiver of a request for each event, by the Standard Webhooks rules. Absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<EventWebhook>,
    /// Stream of NATS `JetStream` that stores a message for each event. Absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nats: Option<EventNats>,
}

/// Receiver of webhooks.
#[derive(JsonSchema, Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct EventWebhook {
    /// URL that events are posted to. Redirects are not followed.
    #[schemars(schema_with = "url")]
    pub url: String,
    /// Key of the signatures. A change restarts the replicas, one at a time.
    pub secret_ref: WebhookKey,
    /// States whose events are sent: those of orders, and `buyer_erased` when a pseudonym takes the buyer's place. Absent:
    /// all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "set"))]
    pub states: Vec<EventState>,
    /// Secret whose key `ca.crt` has the certificates of authorities that are trusted beside the public ones. Absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorities_ref: Option<SecretName>,
}

/// Key of a Secret in the sale's namespace.
#[derive(JsonSchema, Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct WebhookKey {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT_NAME))]
    pub name: String,
    /// Key whose value is `whsec_` and 24 to 64 bytes in base64; two of them, separated by a blank, while the key changes.
    #[serde(default = "WebhookKey::default_key")]
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^(\.?[-A-Za-z0-9_][-.A-Za-z0-9_]*)$")
    )]
    pub key: String,
}

impl WebhookKey {
    fn default_key() -> String {
        "webhook-key".to_owned()
    }
}

/// A scheme, a host, an optional port, and an optional path with a query.
const URL: &str = r"^https?://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]))?(/[A-Za-z0-9._~/%?=&+,:;@!*-]*)?$";

fn url(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "maxLength": 1024,
        "x-kubernetes-validations": rules(&[(
            &format!("self.matches(r'{URL}')"),
            "events.webhook.url must be a URL such as https://shop.example/events, with http or https and without \
             user and fragment",
            None,
        )]),
    })
}
