//! What every payment service has in common: it signs events, and they report the payment of an order.

use axum::http::HeaderMap;
use jiff::Timestamp;
use ledger::Price;
use ledger::orders::PlacedOrder;
use uuid::Uuid;

use super::error::PaymentError;

/// A payment service.
pub(super) trait PaymentProvider: Send + Sync + std::fmt::Debug {
    /// In paths, metrics and the database.
    fn name(&self) -> &'static str;

    /// Verifies the signature over the body as it was received, and reads the event.
    fn read(
        &self,
        headers: &HeaderMap,
        body: &[u8],
        now: Timestamp,
    ) -> Result<PaymentNotice, PaymentError>;
}

/// A verified event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PaymentNotice {
    /// The service's own id of the event: the same for each delivery.
    pub(super) event_id: String,
    /// The service's name of what happened.
    pub(super) kind: String,
    /// What it says about an order.
    pub(super) report: Option<PaymentReport>,
}

/// What an event says about an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PaymentReport {
    pub(super) order: OrderName,
    pub(super) what: PaymentFact,
    /// What the service calls the payment, or the refund.
    pub(super) reference: String,
    /// The payment whose money was given back, if it is a refund and the event says so.
    pub(super) refunded_payment: Option<String>,
    /// `None`: the event has none, or one in a currency that no price can have.
    pub(super) amount: Option<Price>,
}

impl PaymentReport {
    /// Whether the money that was given back may be that of the order. A buyer who paid twice gets one payment back,
    /// and has the order.
    pub(super) fn refunds_payment_of(&self, order: &PlacedOrder) -> bool {
        let payments = self.refunded_payment.as_ref().zip(order.payment_reference.as_ref());
        payments.is_none_or(|(refunded, paid)| refunded == paid)
    }
}

/// How an event names its order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum OrderName {
    /// By its id, as the shop gave it to the service.
    Id(Uuid),
    /// By the reference of the payment that paid it.
    Payment(String),
    /// By something that is no id of an order.
    Other,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PaymentFact {
    /// The money arrived.
    Paid,
    /// The money will not arrive.
    Failed,
    /// All of the money was given back.
    Refunded,
    /// A part of the money was given back, which orders cannot have.
    PartlyRefunded,
}
