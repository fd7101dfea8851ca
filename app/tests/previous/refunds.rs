//! Refunds while both releases run, and what the release before makes of refunded orders, beside this one and alone.

use serde_json::{Value, json};

use super::releases::Release::{Before, This};
use super::releases::{Releases, SHOP, order_of};
use crate::common::{Database, eventually};

/// To the release before, ann's order is cancelled, because its units are back, and carl's is paid. It changes neither.
async fn are_final_to_the_release_before(releases: &Releases, back: &str, kept: &str) {
    assert_eq!(releases.state(Before, "ann", back).await, "cancelled");
    assert_eq!(releases.state(Before, "carl", kept).await, "paid");
    let (paid, failed) =
        (json!({"result": "paid", "reference": "p1"}), json!({"result": "failed"}));
    for (order, what, body, status, state) in [
        (back, "cancel", &Value::Null, 200, "cancelled"),
        (back, "payment", &paid, 409, "cancelled"),
        (back, "payment", &failed, 409, "cancelled"),
        (kept, "cancel", &Value::Null, 409, "paid"),
        (kept, "payment", &paid, 200, "paid"),
        (kept, "payment", &failed, 409, "paid"),
    ] {
        let answer = releases.change(Before, SHOP, order, what, body).await;
        assert_eq!((answer.0, &answer.1["state"]), (status, &json!(state)), "{what} {body}");
    }
    let again = releases.buy(Before, "ann", 2, "first").await;
    assert_eq!(order_of(&again), back, "the key stands for the order still");
}

/// The release before knows that this many units are left.
async fn knows(releases: &Releases, units: i64) {
    eventually("the release before knows the stock", async || {
        let path = ("GET", "/v1/products/1/stock");
        releases.send(Before, "anybody", path, None, None).await.1["remaining"] == units
    })
    .await;
}

async fn refused(releases: &Releases, who: &str, code: &str) {
    let answer = releases.buy(Before, who, 1, "refused").await;
    assert_eq!((answer.0, &answer.1["code"]), (409, &json!(code)), "{answer:?}");
}

async fn refunds_are_understood(database: Database, strategy: &str) {
    let mut releases = Releases::start(database, strategy, 5).await;
    releases.turn_to(Before).await;
    let ann = releases.bought(Before, "ann", 2, "first").await;
    let bob = releases.bought(Before, "bob", 1, "first").await;
    releases.pay(Before, &bob).await;
    releases.turn_to(This).await;
    let carl = releases.bought(This, "carl", 2, "first").await;
    releases.pay(This, &ann).await;
    releases.turn_to(Before).await;
    releases.pay(Before, &carl).await;
    releases.left(0).await;
    releases.turn_to(This).await;
    releases.refund(&ann, true).await;
    releases.refund(&carl, false).await;
    releases.left(2).await;

    releases.turn_to(Before).await;
    knows(&releases, 2).await;
    are_final_to_the_release_before(&releases, &ann, &carl).await;
    refused(&releases, "carl", "limit_reached").await;
    let again = releases.bought(Before, "ann", 2, "again").await;
    refused(&releases, "dan", "sold_out").await;
    releases.left(0).await;

    releases.roll_back().await;
    are_final_to_the_release_before(&releases, &ann, &carl).await;
    releases.left(0).await;
    releases.cancel(Before, "ann", &again).await;
    let frank = releases.bought(Before, "frank", 1, "first").await;
    releases.left(1).await;

    releases.turn_to(This).await;
    for (who, order) in [("ann", &ann), ("carl", &carl)] {
        assert_eq!(releases.state(This, who, order).await, "refunded");
    }
    let paid = json!({"result": "paid", "reference": "p1"});
    let repeated = releases.change(This, SHOP, &ann, "payment", &paid).await;
    assert_eq!((repeated.0, &repeated.1["state"]), (200, &json!("refunded")), "{repeated:?}");
    // Carl's units come back after all. They count for no limit from then on.
    releases.refund(&carl, true).await;
    releases.left(3).await;
    let last = releases.bought(This, "carl", 2, "last").await;
    releases.left(1).await;
    let expected = [
        (&ann, "confirmed paid refunded"),
        (&bob, "confirmed paid"),
        (&carl, "confirmed paid refunded refunded"),
        (&again, "confirmed cancelled"),
        (&frank, "confirmed"),
        (&last, "confirmed"),
    ];
    releases.assert_events(&expected.map(|(order, kinds)| (order.as_str(), kinds))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refunded_orders_are_final_to_both_releases_and_their_units_are_right() {
    refunds_are_understood(Database::Postgres, "Locked").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refunded_orders_are_final_to_both_releases_where_redis_decides() {
    refunds_are_understood(Database::Postgres, "Atomic").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refunded_orders_are_final_to_each_release_in_sqlite() {
    refunds_are_understood(Database::Sqlite, "Locked").await;
}
