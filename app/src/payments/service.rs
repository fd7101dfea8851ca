//! Applies the events of payment services to orders, each once.
//!
//! The change of an order is a statement with a condition on its state, so an event that is delivered twice, even at
//! the same moment, changes it once. What became of the event is recorded after that: an event that was applied
//! and not recorded is found to be applied when it comes again.

use std::sync::Arc;

use axum::http::HeaderMap;
use jiff::Timestamp;
use ledger::orders::{Change, PlacedOrder};
use ledger::{Ledger, PaymentEvent};
use sale::{OrderError, PurchaseError, Sale};
use tracing::warn;
use uuid::Uuid;

use super::error::PaymentError;
use super::provider::{OrderName, PaymentFact, PaymentNotice, PaymentProvider, PaymentReport};
use super::stripe::{self, Stripe};
use crate::metrics::Metrics;

/// The codes of problems that another delivery does not solve by itself.
const RECORDED: [&str; 3] = ["payment_amount", "unknown_order", "order_state"];

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The order is as the event says, by this delivery or another report.
    Applied,
    /// An earlier delivery was applied or ignored.
    Replayed,
    /// It is about no order of the sale, or says nothing new about one.
    Ignored,
    /// A part of the money was given back, which an order cannot have: an administrator sees it.
    PartialRefund,
}

impl Outcome {
    /// All outcomes.
    pub const ALL: [Self; 4] = [Self::Applied, Self::Replayed, Self::Ignored, Self::PartialRefund];

    /// In answers, metrics and the database.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Replayed => "replayed",
            Self::Ignored => "ignored",
            Self::PartialRefund => "partial_refund",
        }
    }
}

/// An event that was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// The service's own id of the event.
    pub event_id: String,
    /// What became of it.
    pub outcome: Outcome,
}

/// Takes the events of payment services.
#[derive(Debug)]
pub struct Payments {
    sale: Arc<Sale>,
    ledger: Ledger,
    metrics: Arc<Metrics>,
    stripe: Option<Arc<Stripe>>,
}

impl Payments {
    /// `stripe`: if the sale takes payments by it.
    #[must_use]
    pub fn new(
        sale: Arc<Sale>,
        ledger: Ledger,
        metrics: Arc<Metrics>,
        stripe: Option<Arc<Stripe>>,
    ) -> Self {
        let codes =
            PaymentError::CODES.iter().chain(&OrderError::CODES).chain(&PurchaseError::CODES);
        let outcomes = Outcome::ALL.map(Outcome::name);
        metrics.know_payment_outcomes(stripe::NAME, outcomes.iter().chain(codes).copied());
        Self { sale, ledger, metrics, stripe }
    }

    /// Takes an event of Stripe.
    ///
    /// # Errors
    /// See [`PaymentError`]; no order was changed.
    pub async fn receive_from_stripe(
        &self,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<Received, PaymentError> {
        let provider = self.stripe.as_deref().map(|stripe| stripe as &dyn PaymentProvider);
        let received = match provider {
            Some(provider) => self.receive(provider, headers, body).await,
            None => Err(PaymentError::NotConfigured(stripe::NAME)),
        };
        let outcome = match &received {
            Ok(received) => received.outcome.name(),
            Err(error) => error.code(),
        };
        self.metrics.payment_event(stripe::NAME, outcome);
        received
    }

    async fn receive(
        &self,
        provider: &dyn PaymentProvider,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<Received, PaymentError> {
        let notice = provider.read(headers, body, Timestamp::now())?;
        let PaymentNotice { event_id, kind, report } = notice;
        let answer = |outcome| Received { event_id: event_id.clone(), outcome };
        let Some(report) = report else { return Ok(answer(Outcome::Ignored)) };
        let known = self.ledger.payment_event(provider.name(), &event_id).await?;
        if known.is_some_and(|known| known.is_done()) {
            return Ok(answer(Outcome::Replayed));
        }
        let (order, result) = match self.find(&report.order).await {
            Ok(order) => (Some(order.id), self.apply(order, &report).await),
            Err(error) => (None, Err(error)),
        };
        let outcome = match &result {
            Ok(outcome) => outcome.name(),
            Err(error) => {
                let code = error.code();
                warn!(event_id, kind, %error, "an event of a payment changed nothing");
                if !RECORDED.contains(&code) {
                    // It will be delivered again.
                    return result.map(answer);
                }
                code
            }
        };
        let event = PaymentEvent {
            id: Uuid::now_v7(),
            provider: provider.name().to_owned(),
            event_id: event_id.clone(),
            kind,
            order_id: order,
            reference: Some(report.reference.clone()),
            amount: report.amount.map(|amount| amount.amount),
            currency: report.amount.map(|amount| amount.currency.code().to_owned()),
            outcome: outcome.to_owned(),
            received_at_ms: Timestamp::now().as_millisecond(),
            resolved_at_ms: None,
        };
        self.ledger.record_payment_event(&event).await?;
        result.map(answer)
    }

    async fn find(&self, name: &OrderName) -> Result<PlacedOrder, PaymentError> {
        match name {
            OrderName::Id(id) => Ok(self.sale.order_of_any(*id).await?),
            OrderName::Other => Err(OrderError::Unknown.into()),
            OrderName::Payment(reference) => {
                let order = self.ledger.placed_by_payment(reference).await?;
                Ok(order.ok_or(OrderError::Unknown)?)
            }
        }
    }

    async fn apply(
        &self,
        order: PlacedOrder,
        report: &PaymentReport,
    ) -> Result<Outcome, PaymentError> {
        let reference = Some(report.reference.clone());
        let change = match report.what {
            PaymentFact::Paid => Change::Pay { reference },
            PaymentFact::Failed => Change::FailPayment { reference },
            // Whether the units come back is for an administrator to say.
            PaymentFact::Refunded => Change::Refund { reference, units_back: false },
            PaymentFact::PartlyRefunded => return Ok(Outcome::PartialRefund),
        };
        let expected = order.amount();
        // A payment that failed takes no money.
        if report.what != PaymentFact::Failed && (expected.is_none() || report.amount != expected) {
            return Err(PaymentError::Amount { reported: report.amount, expected });
        }
        if report.what == PaymentFact::Refunded && !report.refunds_payment_of(&order) {
            return Err(OrderError::State(order.state).into());
        }
        match Box::pin(self.sale.report_change(order, change)).await {
            Ok(_) => Ok(Outcome::Applied),
            // The order was paid in another way, or is over: nobody lost money.
            Err(OrderError::State(_)) if report.what == PaymentFact::Failed => Ok(Outcome::Ignored),
            Err(error) => Err(error.into()),
        }
    }
}
