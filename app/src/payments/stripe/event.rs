//! The events of Stripe's Checkout, as far as orders need them. Fields that are not read may be anything, because
//! Stripe adds fields without a new version of its API.

use std::collections::HashMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use uuid::Uuid;

use super::amount;
use crate::payments::error::PaymentError;
use crate::payments::provider::{OrderName, PaymentFact, PaymentNotice, PaymentReport};

/// The key of an order's id in `metadata`.
const ORDER_ID: &str = "order_id";
/// The longest id that is kept; Stripe's have 28 characters.
const LONGEST_ID: usize = 255;

#[derive(Deserialize)]
struct Event {
    id: String,
    #[serde(rename = "type")]
    kind: String,
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    object: Value,
}

/// <https://docs.stripe.com/api/checkout/sessions/object>
#[derive(Deserialize)]
struct Session {
    id: String,
    client_reference_id: Option<String>,
    metadata: Option<HashMap<String, String>>,
    amount_total: Option<i64>,
    currency: Option<String>,
    payment_status: String,
    payment_intent: Option<Reference>,
}

/// <https://docs.stripe.com/api/charges/object>
#[derive(Deserialize)]
struct Charge {
    id: String,
    metadata: Option<HashMap<String, String>>,
    amount_refunded: i64,
    /// All of it.
    refunded: bool,
    currency: String,
    payment_intent: Option<Reference>,
}

/// The id of another object, or the object itself where the endpoint expands it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Reference {
    Id(String),
    Object { id: String },
}

impl Reference {
    fn into_id(self) -> String {
        match self {
            Self::Id(id) | Self::Object { id } => id,
        }
    }
}

/// Reads an event whose signature was verified.
pub(super) fn read(body: &[u8]) -> Result<PaymentNotice, PaymentError> {
    let value: Value =
        serde_json::from_slice(body).map_err(|error| PaymentError::Json(error.to_string()))?;
    let Event { id, kind, data } = part("the event", value)?;
    if !(1..=LONGEST_ID).contains(&id.len()) || id.contains('\0') {
        let problem = "must have 1 to 255 bytes".to_owned();
        return Err(PaymentError::Field { field: "id", problem });
    }
    let report = match kind.as_str() {
        "checkout.session.completed" | "checkout.session.async_payment_succeeded" => {
            let session: Session = part("data.object", data.object)?;
            // The money is under way: another event follows.
            let is_paid = session.payment_status != "unpaid";
            if is_paid { session.report(PaymentFact::Paid) } else { None }
        }
        "checkout.session.async_payment_failed" => {
            part::<Session>("data.object", data.object)?.report(PaymentFact::Failed)
        }
        "charge.refunded" => part::<Charge>("data.object", data.object)?.report(),
        // `checkout.session.expired` too: the order's own hold says when it ends.
        _ => None,
    };
    Ok(PaymentNotice { event_id: id, kind, report })
}

fn part<T: DeserializeOwned>(field: &'static str, value: Value) -> Result<T, PaymentError> {
    serde_json::from_value(value)
        .map_err(|error| PaymentError::Field { field, problem: error.to_string() })
}

/// The first name that is an id, because a shop may use the other for a number of its own. `None`: the shop named
/// none, so it is no order of this sale.
fn order_name(
    reference: Option<String>,
    metadata: Option<HashMap<String, String>>,
) -> Option<OrderName> {
    let by_metadata = metadata.and_then(|mut metadata| metadata.remove(ORDER_ID));
    let given: Vec<String> = [reference, by_metadata].into_iter().flatten().collect();
    let id = given.iter().find_map(|name| Uuid::try_parse(name).ok());
    (!given.is_empty()).then(|| id.map_or(OrderName::Other, OrderName::Id))
}

impl Session {
    fn report(self, what: PaymentFact) -> Option<PaymentReport> {
        let order = order_name(self.client_reference_id, self.metadata)?;
        let amount = self.amount_total.zip(self.currency);
        let amount = amount.and_then(|(amount, currency)| amount::price(amount, &currency));
        let reference = self.payment_intent.map_or(self.id, Reference::into_id);
        Some(PaymentReport { order, what, reference, refunded_payment: None, amount })
    }
}

impl Charge {
    fn report(self) -> Option<PaymentReport> {
        let payment = self.payment_intent.map(Reference::into_id);
        let order = match (order_name(None, self.metadata), &payment) {
            (None | Some(OrderName::Other), Some(payment)) => OrderName::Payment(payment.clone()),
            (named, _) => named?,
        };
        let what = if self.refunded { PaymentFact::Refunded } else { PaymentFact::PartlyRefunded };
        let amount = amount::price(self.amount_refunded, &self.currency);
        Some(PaymentReport { order, what, reference: self.id, refunded_payment: payment, amount })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ORDER: &str = "0192d7a4-3b4f-7c60-9c0a-0f4c3b2a1d00";

    fn notice(kind: &str, object: &Value) -> Result<PaymentNotice, &'static str> {
        let event = json!({"id": "evt_1", "type": kind, "data": {"object": object}});
        read(event.to_string().as_bytes()).map_err(|error| error.code())
    }

    fn session(changes: &Value) -> Value {
        let mut session = json!({
            "id": "cs_1", "client_reference_id": ORDER, "metadata": {}, "amount_total": 49_900,
            "currency": "eur", "payment_status": "paid", "payment_intent": "pi_1",
        });
        let changes = changes.as_object().unwrap().clone();
        session.as_object_mut().unwrap().extend(changes);
        session
    }

    #[test]
    fn a_session_reports_the_payment_of_its_order() {
        let completed = "checkout.session.completed";
        let report = notice(completed, &session(&json!({}))).unwrap().report.unwrap();
        assert_eq!(report.order, OrderName::Id(ORDER.parse().unwrap()));
        assert_eq!((report.what, report.reference.as_str()), (PaymentFact::Paid, "pi_1"));
        assert_eq!(report.amount, amount::price(49_900, "eur"));
        let by_metadata = json!({"client_reference_id": null, "metadata": {"order_id": ORDER}});
        let report = notice(completed, &session(&by_metadata)).unwrap().report.unwrap();
        assert_eq!(report.order, OrderName::Id(ORDER.parse().unwrap()));
        for own_number in [
            json!({"metadata": {"order_id": "4711"}}),
            json!({"client_reference_id": "4711", "metadata": {"order_id": ORDER}}),
        ] {
            let report = notice(completed, &session(&own_number)).unwrap().report.unwrap();
            assert_eq!(report.order, OrderName::Id(ORDER.parse().unwrap()), "{own_number}");
        }
        let free = json!({"payment_intent": null, "amount_total": 0});
        assert_eq!(notice(completed, &session(&free)).unwrap().report.unwrap().reference, "cs_1");
        let expanded = json!({"payment_intent": {"id": "pi_2", "object": "payment_intent"}});
        let report = notice(completed, &session(&expanded)).unwrap().report.unwrap();
        assert_eq!(report.reference, "pi_2");
        let failed = "checkout.session.async_payment_failed";
        let report = notice(failed, &session(&json!({"payment_status": "unpaid"})));
        assert_eq!(report.unwrap().report.unwrap().what, PaymentFact::Failed);
    }

    #[test]
    fn what_is_no_payment_of_an_order_reports_nothing() {
        for (kind, object) in [
            ("checkout.session.completed", session(&json!({"payment_status": "unpaid"}))),
            ("checkout.session.completed", session(&json!({"client_reference_id": null}))),
            ("checkout.session.expired", session(&json!({}))),
            ("customer.created", json!({"id": "cus_1"})),
        ] {
            assert_eq!(notice(kind, &object).unwrap().report, None, "{kind}");
        }
    }

    #[test]
    fn a_refund_names_its_order_by_the_payment_or_by_metadata() {
        let charge = |metadata: Value, refunded: bool| {
            json!({"id": "ch_1", "metadata": metadata, "amount_refunded": 100, "currency": "eur",
                "refunded": refunded, "payment_intent": "pi_1"})
        };
        let report = notice("charge.refunded", &charge(json!({}), true)).unwrap().report.unwrap();
        assert_eq!(report.order, OrderName::Payment("pi_1".to_owned()));
        assert_eq!(report.what, PaymentFact::Refunded);
        let named = charge(json!({"order_id": ORDER}), false);
        let report = notice("charge.refunded", &named).unwrap().report.unwrap();
        assert_eq!(report.order, OrderName::Id(ORDER.parse().unwrap()));
        assert_eq!(report.what, PaymentFact::PartlyRefunded);
        assert_eq!(report.refunded_payment.as_deref(), Some("pi_1"));
        let own_number = charge(json!({"order_id": "4711"}), true);
        let report = notice("charge.refunded", &own_number).unwrap().report.unwrap();
        assert_eq!(report.order, OrderName::Payment("pi_1".to_owned()));
    }

    #[test]
    fn what_cannot_be_read_has_a_code() {
        let completed = "checkout.session.completed";
        let nobody = session(&json!({"client_reference_id": "order 7"}));
        assert_eq!(notice(completed, &nobody).unwrap().report.unwrap().order, OrderName::Other);
        let fractional = session(&json!({"amount_total": 499.5}));
        assert_eq!(notice(completed, &fractional).unwrap_err(), "invalid_request");
        assert_eq!(notice(completed, &json!({"id": "cs_1"})).unwrap_err(), "invalid_request");
        assert_eq!(read(b"{").unwrap_err().code(), "invalid_json");
        assert_eq!(read(b"[]").unwrap_err().code(), "invalid_request");
        let long = json!({"id": "x".repeat(256), "type": "t", "data": {"object": {}}});
        assert_eq!(read(long.to_string().as_bytes()).unwrap_err().code(), "invalid_request");
    }
}
