//! Events of orders, sent to systems outside.
//!
//! The ledger writes an event in the transaction that changes an order. One replica at a time, by a lease in the
//! database, sends what is there and deletes what was taken. So each event arrives at least once. It does not know
//! Redis: events go out while the lock's nodes are away.

mod attempt;
mod backoff;
mod cloud_event;
mod config;
mod delivery;
mod nats;
mod nats_config;
mod queue;
mod signature;
mod sink;
mod tls;
mod webhook;

pub(crate) use cloud_event::kind;
pub use config::{EventsConfig, WebhookConfig, WebhookUrl};
pub(crate) use delivery::Delivery;
pub use nats_config::{NatsConfig, NatsLogin, NatsServer, NatsSubject, StreamName};
pub use signature::SigningKey;
