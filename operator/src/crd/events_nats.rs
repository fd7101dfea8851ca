//! The part of the spec about the stream of NATS that events of orders go to.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::common::SecretName;
use super::event_state::EventState;
use super::schema::rules;

/// Stream of NATS `JetStream`.
#[derive(JsonSchema, Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct EventNats {
    /// Servers, any of which can be connected to, such as `tls://nats.shop:4222`. `nats` uses TLS only if the server wants
    /// it, `tls` requires it.
    #[schemars(schema_with = "servers")]
    pub servers: Vec<String>,
    /// Subject that events are published to. A part between full stops can be `{state}`: the state that the order has come
    /// into.
    #[schemars(length(max = 255), regex(pattern = SUBJECT))]
    pub subject: String,
    /// Stream that must have the subject. Absent: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 255), regex(pattern = r"^[A-Za-z0-9_-]+$"))]
    pub stream: Option<String>,
    /// Secret of the log-in, with the keys `username` and `password`, or `token`, or `nkey` (seed of a user's key), or `creds`
    /// (credentials file). A change restarts the replicas, one at a time. Absent: no log-in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretName>,
    /// States whose events are published: those of orders, and `buyer_erased` when a pseudonym takes the buyer's place.
    /// Absent: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "set"))]
    pub states: Vec<EventState>,
    /// Secret whose key `ca.crt` has the certificates of authorities that are trusted beside the public ones. Absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorities_ref: Option<SecretName>,
}

/// Names, or the state, with full stops between them.
const SUBJECT: &str = r"^([A-Za-z0-9_-]+|\{state\})(\.([A-Za-z0-9_-]+|\{state\}))*$";
/// A scheme, a host, and an optional port.
const SERVER: &str = r"^(nats|tls)://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]))?$";

fn servers(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "minItems": 1,
        "maxItems": 16,
        "x-kubernetes-list-type": "set",
        "items": {
            "type": "string",
            "maxLength": 512,
            "x-kubernetes-validations": rules(&[(
                &format!("self.matches(r'{SERVER}')"),
                "events.nats.servers must be URLs such as nats://nats.shop:4222, with nats or tls and without user and \
                 path",
                None,
            )]),
        },
    })
}
