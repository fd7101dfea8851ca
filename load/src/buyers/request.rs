//! What buyers send, and what the answers mean. Knows the API, but no user.

use http::{Method, StatusCode};
use load_scenarios::{FollowUp, Kind};
use serde::Deserialize;
use serde_json::json;

use crate::http::{Answer, Call};

/// What the sale made of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// Of the order, or of the issue of a coupon
    pub id: String,
    /// Units of each product
    pub quantity: i64,
    /// State of the order
    pub state: String,
}

/// The answer to one attempt.
#[derive(Debug, PartialEq, Eq)]
pub enum Reply {
    Done(Receipt),
    /// Final: the rules of the sale refuse the purchase.
    Declined(String),
    /// Final: the request itself is refused.
    Refused(String),
    /// Nothing was sold; retry.
    Busy(String),
    /// The result is unknown; a retry with the same idempotency key reveals it.
    Lost(String),
}

/// The state of an order that waits for its payment.
const PENDING: &str = "pending";

/// Codes of final refusals by the rules of the sale.
const DECLINED: [&str; 3] = ["sold_out", "limit_reached", "coupon_exhausted"];
/// Codes of a sale or a coupon outside of its times. Before the start the answer says when to ask again; after the end it
/// is final.
const CLOSED: [&str; 2] = ["sale_not_open", "coupon_not_open"];

#[derive(Deserialize)]
struct Purchased {
    order_id: String,
    quantity: i64,
}

#[derive(Deserialize)]
struct Placed {
    order_id: String,
    state: String,
    items: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    product_id: String,
    quantity: i64,
}

#[derive(Deserialize)]
struct Issued {
    issue_id: String,
}

#[derive(Deserialize)]
struct Problem {
    code: String,
}

/// The request for units of each product, or for a coupon.
pub fn purchase(kind: Kind, products: &[String], quantity: u32) -> Call {
    let first = products.first().map(String::as_str).unwrap_or_default();
    let items = |key: &str| -> Vec<serde_json::Value> {
        products.iter().map(|id| json!({key: id, "quantity": quantity})).collect()
    };
    match kind {
        Kind::Purchase => {
            Call::post("/v1/purchases", &json!({"product_id": first, "quantity": quantity}))
        }
        Kind::Order => Call::post("/v1/orders", &json!({"items": items("product_id")})),
        Kind::Coupon => {
            Call { method: Method::POST, path: format!("/v1/coupons/{first}/issue"), body: None }
        }
        Kind::Distributed | Kind::Fair => {
            let name = if kind == Kind::Fair { "fair" } else { "distributed" };
            let path = format!("/v1/stocks/locks/{name}");
            let call = Call::post(path, &json!({"orders": items("product")}));
            Call { method: Method::PATCH, ..call }
        }
    }
}

/// The meaning of an answer to [`purchase`].
pub fn purchase_reply(kind: Kind, answer: &Answer, products: &[String]) -> Reply {
    let body = &answer.body;
    let receipt = || match kind {
        Kind::Purchase => {
            let Purchased { order_id: id, quantity } = serde_json::from_slice(body).ok()?;
            Some(Receipt { id, quantity, state: "confirmed".to_owned() })
        }
        Kind::Coupon => {
            let Issued { issue_id: id } = serde_json::from_slice(body).ok()?;
            Some(Receipt { id, quantity: 1, state: "issued".to_owned() })
        }
        Kind::Order | Kind::Distributed | Kind::Fair => placed(body, products),
    };
    reply(answer, receipt)
}

/// What happens to the order of this id.
pub fn follow_up(kind: FollowUp, order: &str) -> Call {
    let payment = |result: &str| {
        let report = json!({"result": result, "reference": format!("load-{order}")});
        Call::post(format!("/v1/orders/{order}/payment"), &report)
    };
    match kind {
        FollowUp::Pay => payment("paid"),
        FollowUp::Fail => payment("failed"),
        FollowUp::Cancel => {
            let path = format!("/v1/orders/{order}/cancel");
            Call { method: Method::POST, path, body: None }
        }
        FollowUp::Expire => Call::get(format!("/v1/orders/{order}")),
    }
}

/// The meaning of an answer to [`follow_up`].
pub fn follow_up_reply(kind: FollowUp, answer: &Answer, products: &[String]) -> Reply {
    let order = || placed(&answer.body, products);
    let waits = |order: Receipt| order.state == PENDING;
    if kind == FollowUp::Expire && answer.status == StatusCode::OK && order().is_some_and(waits) {
        return Reply::Busy(PENDING.to_owned());
    }
    reply(answer, || order().filter(|order| order.state == kind.state()))
}

/// An order of exactly these products, the same quantity of each.
fn placed(body: &[u8], products: &[String]) -> Option<Receipt> {
    let Placed { order_id: id, state, items } = serde_json::from_slice(body).ok()?;
    let quantity = items.first()?.quantity;
    let complete = items.len() == products.len()
        && items
            .iter()
            .all(|item| item.quantity == quantity && products.contains(&item.product_id));
    complete.then_some(Receipt { id, quantity, state })
}

fn reply(answer: &Answer, receipt: impl FnOnce() -> Option<Receipt>) -> Reply {
    let status = answer.status;
    if matches!(status, StatusCode::OK | StatusCode::CREATED) {
        return receipt().map_or_else(|| Reply::Lost("unreadable_answer".to_owned()), Reply::Done);
    }
    let problem = serde_json::from_slice(&answer.body).map(|Problem { code }| code);
    let code = problem.unwrap_or_else(|_| format!("http_{}", status.as_u16()));
    if CLOSED.contains(&code.as_str()) {
        return if answer.retry_after.is_zero() {
            Reply::Declined(code)
        } else {
            Reply::Busy(code)
        };
    }
    Reply::of_problem(status, code)
}

impl Reply {
    fn of_problem(status: StatusCode, code: String) -> Self {
        if status.is_server_error() {
            Self::Lost(code)
        } else if DECLINED.contains(&code.as_str()) {
            Self::Declined(code)
        } else if matches!(
            status,
            StatusCode::LOCKED
                | StatusCode::TOO_MANY_REQUESTS
                | StatusCode::REQUEST_TIMEOUT
                | StatusCode::TOO_EARLY
        ) {
            Self::Busy(code)
        } else {
            Self::Refused(code)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn tells_final_answers_from_those_worth_another_try() {
        let answer = |status: u16, code: &str| {
            Reply::of_problem(StatusCode::from_u16(status).unwrap(), code.to_owned())
        };
        for code in DECLINED {
            assert_eq!(answer(409, code), Reply::Declined(code.to_owned()));
        }
        assert_eq!(answer(423, "lock_timeout"), Reply::Busy("lock_timeout".to_owned()));
        for code in ["quorum_unavailable", "database_unavailable", "overloaded"] {
            assert_eq!(answer(503, code), Reply::Lost(code.to_owned()));
        }
        assert_eq!(answer(500, "http_500"), Reply::Lost("http_500".to_owned()));
        for (status, code) in [(401, "token_expired"), (404, "unknown_product")] {
            assert_eq!(answer(status, code), Reply::Refused(code.to_owned()));
        }
    }

    #[test]
    fn buyers_wait_for_the_start_and_accept_the_end() {
        for code in CLOSED {
            let asked_to_wait = |retry_after| {
                let body = json!({ "code": code }).to_string().into_bytes();
                let answer = Answer { status: StatusCode::FORBIDDEN, retry_after, body };
                purchase_reply(Kind::Purchase, &answer, &["1".to_owned()])
            };
            assert_eq!(asked_to_wait(Duration::from_secs(1)), Reply::Busy(code.to_owned()));
            assert_eq!(asked_to_wait(Duration::ZERO), Reply::Declined(code.to_owned()));
        }
    }

    #[test]
    fn an_order_has_all_products_or_is_unreadable() {
        let products = ["A".to_owned(), "B".to_owned()];
        let reply = |body: &str| {
            let body = body.as_bytes().to_vec();
            let answer = Answer { status: StatusCode::OK, retry_after: Duration::ZERO, body };
            purchase_reply(Kind::Fair, &answer, &products)
        };
        let whole = r#"{"order_id":"x","state":"confirmed","items":[{"product_id":"A","quantity":2},{"product_id":"B","quantity":2}]}"#;
        let receipt = Receipt { id: "x".to_owned(), quantity: 2, state: "confirmed".to_owned() };
        assert_eq!(reply(whole), Reply::Done(receipt));
        for wrong in [whole.replace('B', "C"), whole.replace(":2}]", ":1}]"), "{}".to_owned()] {
            assert_eq!(reply(&wrong), Reply::Lost("unreadable_answer".to_owned()), "{wrong}");
        }
    }

    #[test]
    fn requests_are_those_of_the_api() {
        let products = ["A".to_owned(), "B".to_owned()];
        let text =
            |call: Call| format!("{} {} {}", call.method, call.path, call.body.unwrap_or_default());
        assert_eq!(
            text(purchase(Kind::Distributed, &products, 1)),
            r#"PATCH /v1/stocks/locks/distributed {"orders":[{"product":"A","quantity":1},{"product":"B","quantity":1}]}"#
        );
        assert_eq!(text(purchase(Kind::Coupon, &products, 1)), "POST /v1/coupons/A/issue ");
        assert_eq!(
            text(follow_up(FollowUp::Fail, "x")),
            r#"POST /v1/orders/x/payment {"reference":"load-x","result":"failed"}"#
        );
        assert_eq!(text(follow_up(FollowUp::Cancel, "x")), "POST /v1/orders/x/cancel ");
    }
}
