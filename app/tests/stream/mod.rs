//! A stream of a real NATS server, and what is in it.

use std::collections::HashMap;
use std::time::Duration;

use async_nats::jetstream::stream::Config;
use async_nats::jetstream::{self, Context};
use async_nats::{ConnectOptions, HeaderMap};
use serde_json::Value;
use testkit::NatsServer;

use crate::common::eventually;

pub const STREAM: &str = "ORDERS";
pub const SUBJECT: &str = "shop.orders.{state}";

/// An event in the stream.
#[derive(Debug, Clone)]
pub struct Stored {
    pub subject: String,
    pub headers: HeaderMap,
    pub event: Value,
}

impl Stored {
    pub fn id(&self) -> &str {
        self.event["id"].as_str().unwrap()
    }

    pub fn order(&self) -> &str {
        self.event["subject"].as_str().unwrap()
    }

    /// The type without its prefix.
    pub fn kind(&self) -> &str {
        self.event["type"].as_str().unwrap().strip_prefix("dev.flashsale.order.").unwrap()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap().as_str()
    }
}

/// The settings of a sale that publishes its events to this server.
pub fn settings(server: &NatsServer) -> Vec<(&'static str, String)> {
    vec![
        ("EVENTS_NATS_SERVERS", format!("nats://{}", server.address())),
        ("EVENTS_NATS_SUBJECT", SUBJECT.to_owned()),
    ]
}

pub async fn jetstream(server: &NatsServer, options: ConnectOptions) -> Context {
    jetstream::new(options.connect(server.address()).await.unwrap())
}

/// Makes the stream of all events.
pub async fn create(jetstream: &Context) {
    // Longer than a test.
    create_with(jetstream, Duration::from_hours(1)).await;
}

/// The same, which knows an event again for this long.
pub async fn create_with(jetstream: &Context, duplicate_window: Duration) {
    let subjects = vec!["shop.orders.>".to_owned()];
    let name = STREAM.to_owned();
    let config = Config { name, subjects, duplicate_window, ..Config::default() };
    jetstream.create_stream(config).await.unwrap();
}

/// All events, in their order.
pub async fn stored(jetstream: &Context) -> Vec<Stored> {
    let stream = jetstream.get_stream(STREAM).await.unwrap();
    let mut all = Vec::new();
    for sequence in 1..=stream.cached_info().state.last_sequence {
        let message = stream.get_raw_message(sequence).await.unwrap();
        let event = serde_json::from_slice(&message.payload).unwrap();
        let (subject, headers) = (message.subject.to_string(), message.headers);
        all.push(Stored { subject, headers, event });
    }
    all
}

/// The kinds of the events of each order.
pub fn kinds(stored: &[Stored]) -> HashMap<&str, Vec<&str>> {
    let mut kinds = HashMap::<&str, Vec<&str>>::new();
    for stored in stored {
        kinds.entry(stored.order()).or_default().push(stored.kind());
    }
    kinds
}

/// Waits until the stream has this many events.
pub async fn await_stored(jetstream: &Context, count: u64) -> Vec<Stored> {
    let what = format!("{count} events in the stream");
    eventually(&what, async || {
        let stream = jetstream.get_stream(STREAM).await;
        stream.is_ok_and(|stream| stream.cached_info().state.messages >= count)
    })
    .await;
    stored(jetstream).await
}
