//! Events as `CloudEvents` 1.0, in the structured JSON format.

use ledger::events::{BUYER_ERASED, OrderEvent};
use serde::Serialize;
use uuid::Uuid;

use crate::times::{created_at, rfc3339};

/// The media type of an event.
pub(super) const MEDIA_TYPE: &str = "application/cloudevents+json";
/// In front of the state that the order has come into.
const TYPE_PREFIX: &str = "dev.flashsale.order.";

/// An event as it is sent, again and again the same, except that an erased buyer has a pseudonym, and that the units of a
/// refunded order may have come back meanwhile.
#[derive(Serialize)]
pub(super) struct CloudEvent<'a> {
    specversion: &'static str,
    /// No other event of the sale has it.
    pub(super) id: String,
    source: &'a str,
    #[serde(rename = "type")]
    pub(super) kind: String,
    /// The order.
    subject: String,
    time: String,
    datacontenttype: &'static str,
    /// By an extension of `CloudEvents`: events of an order are in order of these texts.
    sequence: String,
    data: Data<'a>,
}

/// The order.
#[derive(Serialize)]
struct Data<'a> {
    order_id: Uuid,
    /// Absent when only the buyer has changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'a str>,
    buyer: &'a str,
    items: Vec<Item<'a>>,
    /// What it costs, in the smallest unit of the currency.
    #[serde(skip_serializing_if = "Option::is_none")]
    amount: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    currency: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payment_reference: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
    /// Only of a refund.
    #[serde(skip_serializing_if = "Option::is_none")]
    refund_reference: Option<&'a str>,
    /// Only of a refund: whether the units are in stock again.
    #[serde(skip_serializing_if = "Option::is_none")]
    units_back: Option<bool>,
}

#[derive(Serialize)]
struct Item<'a> {
    product_id: &'a str,
    quantity: i64,
}

/// The id of an event.
pub(super) fn id(event: &OrderEvent) -> String {
    // Without a full stop, which separates the parts of what is signed.
    format!("{}-{}", event.order.id, event.number)
}

/// The `type` of an event of this state.
pub(crate) fn kind(state: &str) -> String {
    format!("{TYPE_PREFIX}{state}")
}

/// The `source` of the events of a sale.
pub(super) fn source(sale: &str) -> String {
    format!("/sales/{sale}")
}

impl<'a> CloudEvent<'a> {
    pub(super) fn new(source: &'a str, event: &'a OrderEvent) -> Self {
        let OrderEvent { number, state, at_ms, order, .. } = event;
        // What came after the event is no part of it.
        let is_unpaid = matches!(state.as_str(), "pending" | "confirmed" | "expired");
        let is_refund = state == "refunded";
        let items = order
            .lines
            .iter()
            .map(|line| Item { product_id: &line.product_id, quantity: line.quantity });
        let amount = order.amount();
        let data = Data {
            order_id: order.id,
            state: (state != BUYER_ERASED).then_some(state),
            buyer: &order.buyer,
            items: items.collect(),
            amount: amount.map(|price| price.amount),
            currency: amount.map(|price| price.currency.code()),
            payment_reference: order.payment_reference.as_deref().filter(|_| !is_unpaid),
            created_at: created_at(order.id),
            expires_at: order.expires_at_ms.and_then(rfc3339),
            refund_reference: order.refund_reference.as_deref().filter(|_| is_refund),
            units_back: is_refund.then_some(order.units_back),
        };
        Self {
            specversion: "1.0",
            id: id(event),
            source,
            kind: kind(state),
            subject: order.id.to_string(),
            time: rfc3339(*at_ms).unwrap_or_default(),
            datacontenttype: "application/json",
            sequence: format!("{number:020}"),
            data,
        }
    }
}

#[cfg(test)]
mod tests {
    use ledger::events::EventOrder;
    use ledger::orders::OrderLine;
    use ledger::{Currency, Price};
    use serde_json::json;

    use super::*;

    fn event(state: &str) -> OrderEvent {
        let order = EventOrder {
            id: "0192d7a4-3b4f-7c60-9c0a-0f4c3b2a1d00".parse().unwrap(),
            buyer: "ann".to_owned(),
            lines: vec![OrderLine { product_id: "1".to_owned(), quantity: 2 }],
            prices: vec![Some(Price { amount: 4_999, currency: Currency::of("EUR").unwrap() })],
            payment_reference: Some("p1".to_owned()),
            expires_at_ms: None,
            refund_reference: Some("r1".to_owned()),
            units_back: true,
        };
        let state = state.to_owned();
        OrderEvent { number: 7, state, at_ms: 1_795_737_600_123, attempts: 0, order }
    }

    #[test]
    fn an_event_has_the_attributes_of_cloudevents() {
        let (event, source) = (event("paid"), source("shop/black-friday"));
        let sent = serde_json::to_value(CloudEvent::new(&source, &event)).unwrap();
        let expected = json!({
            "specversion": "1.0",
            "id": "0192d7a4-3b4f-7c60-9c0a-0f4c3b2a1d00-7",
            "source": "/sales/shop/black-friday",
            "type": "dev.flashsale.order.paid",
            "subject": "0192d7a4-3b4f-7c60-9c0a-0f4c3b2a1d00",
            "time": "2026-11-27T00:00:00.123Z",
            "datacontenttype": "application/json",
            "sequence": "00000000000000000007",
            "data": {
                "order_id": "0192d7a4-3b4f-7c60-9c0a-0f4c3b2a1d00",
                "state": "paid",
                "buyer": "ann",
                "items": [{"product_id": "1", "quantity": 2}],
                "amount": 9998,
                "currency": "EUR",
                "payment_reference": "p1",
                "created_at": "2024-10-29T09:38:37.519Z",
            },
        });
        assert_eq!(sent, expected);
    }

    #[test]
    fn an_event_has_no_later_payment_or_refund_and_an_erasure_no_state() {
        let data = |state: &str| {
            let event = event(state);
            serde_json::to_value(CloudEvent::new("/", &event)).unwrap()["data"].clone()
        };
        for unpaid in ["confirmed", "expired"] {
            assert_eq!(data(unpaid).get("payment_reference"), None);
        }
        assert_eq!(data(BUYER_ERASED).get("state"), None);
        for unrefunded in ["paid", "cancelled", BUYER_ERASED] {
            let data = data(unrefunded);
            let refund = (data.get("refund_reference"), data.get("units_back"));
            assert_eq!(refund, (None, None), "{unrefunded}");
        }
        let refunded = data("refunded");
        assert_eq!(
            (&refunded["refund_reference"], &refunded["units_back"]),
            (&json!("r1"), &json!(true))
        );
    }
}
