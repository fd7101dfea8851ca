//! Stripe, as the sale sees it: signed events of its Checkout.

use std::fmt::Write as _;
use std::time::SystemTime;

use anyhow::Result;
use hmac::{Hmac, KeyInit, Mac};
use reqwest::Client;
use serde_json::{Value, json};
use sha2::Sha256;

/// What the events are signed with.
pub(crate) const SECRET: &str = "whsec_of_the_tests_of_monitoring";

/// An event of the Checkout Session of an order; `cents` is the amount.
pub(crate) fn session(id: &str, kind: &str, order: &str, cents: i64) -> Value {
    let session = json!({
        "id": format!("cs_of_{order}"), "client_reference_id": order, "payment_intent": payment(order),
        "payment_status": "paid", "amount_total": cents, "currency": "eur",
    });
    json!({ "id": id, "type": kind, "data": { "object": session } })
}

/// The event that all money of an order was given back.
pub(crate) fn refund(id: &str, order: &str, cents: i64) -> Value {
    let charge = json!({
        "id": format!("ch_of_{order}"), "payment_intent": payment(order),
        "refunded": true, "amount_refunded": cents, "currency": "eur",
    });
    json!({ "id": id, "type": "charge.refunded", "data": { "object": charge } })
}

fn payment(order: &str) -> String {
    format!("pi_of_{order}")
}

/// Delivers an event to a replica. What the replica answers is its own.
pub(crate) async fn deliver(http: &Client, api: &str, event: &Value) -> Result<()> {
    let body = event.to_string();
    let request = http.post(format!("{api}/v1/payments/stripe"));
    let request = request.header("Stripe-Signature", signature(&body)?);
    request.header("Content-Type", "application/json").body(body).send().await?;
    Ok(())
}

/// HMAC-SHA-256 over the time and the body.
fn signature(body: &str) -> Result<String> {
    let time = SystemTime::UNIX_EPOCH.elapsed()?.as_secs();
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes())?;
    mac.update(format!("{time}.{body}").as_bytes());
    let mut header = format!("t={time},v1=");
    for byte in mac.finalize().into_bytes() {
        write!(header, "{byte:02x}")?;
    }
    Ok(header)
}
