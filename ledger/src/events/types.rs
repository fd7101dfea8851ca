//! Events, their sinks, and what is asked of both.

use std::time::Duration;

use uuid::Uuid;

use crate::money::Price;
use crate::orders::{OrderLine, amount};

/// The state of an event that tells that a pseudonym has taken the buyer's place.
pub const BUYER_ERASED: &str = "buyer_erased";

/// A receiver of events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sink {
    /// Its name.
    pub name: &'static str,
    /// The states whose events it receives; empty: all.
    pub states: Vec<String>,
}

/// A change of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderEvent {
    /// Higher than that of an earlier event of the same order. No other event has it.
    pub number: i64,
    /// What the order became: a state of an order, or [`BUYER_ERASED`].
    pub state: String,
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
    /// Attempts that failed.
    pub attempts: i64,
    /// The order.
    pub order: EventOrder,
}

/// The order of an event. Beside the id, it is read when the event is sent, so an erased buyer has the pseudonym.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventOrder {
    /// In order of time.
    pub id: Uuid,
    /// Who bought.
    pub buyer: String,
    /// By product.
    pub lines: Vec<OrderLine>,
    /// The price of a unit of each line, as it was when the order was placed.
    pub prices: Vec<Option<Price>>,
    /// What the payment service calls the payment.
    pub payment_reference: Option<String>,
    /// When its hold ends or ended, in milliseconds since 1970.
    pub expires_at_ms: Option<i64>,
    /// What the payment service calls the refund.
    pub refund_reference: Option<String>,
    /// Whether its units are back in stock. Units that come back after a refund without them are an event of their own.
    pub units_back: bool,
}

impl EventOrder {
    /// What it costs; `None`: it has no price.
    #[must_use]
    pub fn amount(&self) -> Option<Price> {
        amount(&self.lines, &self.prices)
    }
}

/// An attempt that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The event.
    pub number: i64,
    /// What went wrong.
    pub error: String,
    /// The time until the next attempt.
    pub retry_in: Duration,
    /// How long after the first failed attempt the event is given up.
    pub give_up_after: Duration,
}

/// Whether a sink gets events.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct SinkStatus {
    /// Its name.
    pub name: String,
    /// When it answered that it is gone, in milliseconds since 1970; `None`: it gets events.
    pub disabled_at_ms: Option<i64>,
}

/// The events of a sink.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct SinkCounts {
    /// The sink's name.
    pub name: String,
    /// As [`SinkStatus::disabled_at_ms`].
    pub disabled_at_ms: Option<i64>,
    /// Events that it does not have yet.
    pub pending: i64,
    /// Events that were given up.
    pub dead: i64,
    /// The age of the oldest pending event, in milliseconds; 0: there is none.
    pub lag_ms: i64,
    /// Why the last attempt of a pending event failed; `None`: none has failed.
    pub error: Option<String>,
}

/// An event that was given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadEvent {
    /// As [`OrderEvent::number`].
    pub number: i64,
    /// The sink's name.
    pub sink: String,
    /// The order.
    pub order_id: Uuid,
    /// As [`OrderEvent::state`].
    pub state: String,
    /// As [`OrderEvent::at_ms`].
    pub at_ms: i64,
    /// Attempts that failed.
    pub attempts: i64,
    /// What went wrong last.
    pub error: String,
    /// When it was given up, in milliseconds since 1970.
    pub dead_at_ms: i64,
}

/// Selects events that were given up.
#[derive(Debug, Clone, Default)]
pub struct DeadSearch {
    /// Of this sink.
    pub sink: Option<String>,
    /// The list begins after this number.
    pub after: i64,
    /// The longest list.
    pub limit: i64,
}

/// Which events are sent again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Replay {
    /// The event of an order with this number.
    One(Uuid, i64),
    /// All that were given up for a sink.
    All(String),
}
