//! A system that gets events, whatever its protocol.

use axum::body::Bytes;
use ledger::events::{OrderEvent, Sink};

use super::attempt::AttemptError;
use super::cloud_event::CloudEvent;
use super::nats::Nats;
use super::webhook::Webhook;

/// A connection to one system.
pub(super) struct SinkClient {
    /// As the ledger knows it.
    pub(super) sink: Sink,
    source: String,
    protocol: Protocol,
}

/// How events are sent.
enum Protocol {
    Webhook(Box<Webhook>),
    Nats(Box<Nats>),
}

impl SinkClient {
    pub(super) fn webhook(source: String, states: Vec<String>, webhook: Webhook) -> Self {
        let sink = Sink { name: "webhook", states };
        Self { sink, source, protocol: Protocol::Webhook(Box::new(webhook)) }
    }

    pub(super) fn nats(source: String, states: Vec<String>, nats: Nats) -> Self {
        let sink = Sink { name: "nats", states };
        Self { sink, source, protocol: Protocol::Nats(Box::new(nats)) }
    }

    /// Sends an event and waits until the system has it.
    pub(super) async fn send(&self, event: &OrderEvent) -> Result<(), AttemptError> {
        let sent = CloudEvent::new(&self.source, event);
        let body = serde_json::to_vec(&sent).map_err(|error| AttemptError::of(&error))?;
        let body = Bytes::from(body);
        match &self.protocol {
            Protocol::Webhook(webhook) => webhook.send(&sent.id, body).await,
            Protocol::Nats(nats) => nats.send(&sent.id, &event.state, body).await,
        }
    }
}
