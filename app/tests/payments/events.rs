//! Events of Stripe, with the fields that its documentation has: only some of them are read.

use serde_json::{Value, json};

/// An event as Stripe documents it, with the fields of a Checkout Session.
pub fn session(event_id: &str, kind: &str, order: &str, amount: i64) -> Value {
    json!({
        "id": event_id,
        "object": "event",
        "api_version": "2026-09-30.clover",
        "created": 1_764_201_600,
        "data": {"object": {
            "id": format!("cs_of_{order}"),
            "object": "checkout.session",
            "amount_subtotal": amount,
            "amount_total": amount,
            "client_reference_id": order,
            "currency": "eur",
            "customer_details": {"email": "ann@example.com", "name": null},
            "livemode": false,
            "metadata": {},
            "mode": "payment",
            "payment_intent": format!("pi_of_{order}"),
            "payment_status": "paid",
            "status": "complete",
            "total_details": {"amount_discount": 0, "amount_shipping": 0, "amount_tax": 0},
        }},
        "livemode": false,
        "pending_webhooks": 1,
        "request": {"id": null, "idempotency_key": null},
        "type": kind,
    })
}

pub fn completed(event_id: &str, order: &str, amount: i64) -> Value {
    session(event_id, "checkout.session.completed", order, amount)
}

pub fn refunded(event_id: &str, order: &str, amount: i64, all: bool) -> Value {
    json!({
        "id": event_id,
        "object": "event",
        "data": {"object": {
            "id": format!("ch_of_{order}"),
            "object": "charge",
            "amount": amount,
            "amount_captured": amount,
            "amount_refunded": if all { amount } else { 100 },
            "currency": "eur",
            "metadata": {},
            "payment_intent": format!("pi_of_{order}"),
            "refunded": all,
            "status": "succeeded",
        }},
        "type": "charge.refunded",
    })
}
