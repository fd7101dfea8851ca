//! A waiting list of this release while replicas of the release before, which know of none, sell and give units back.

use std::collections::HashMap;

use futures::future::join_all;
use serde_json::json;

use super::releases::Release::{self, Before, This};
use super::releases::{Releases, SHOP, order_of};
use crate::common::{Database, eventually};

const LIST: &str = "/v1/products/1/waitlist";

/// By buyer.
type Orders = HashMap<&'static str, String>;

async fn joins(releases: &Releases, who: &str, units: i64, place: i64) {
    let wish = json!({"quantity": units});
    let answer = releases.send(This, who, ("POST", LIST), Some(&wish), None).await;
    assert_eq!((answer.0, &answer.1["position"]), (201, &json!(place)), "{answer:?}");
}

/// 0: the buyer does not wait.
async fn place(releases: &Releases, who: &str) -> i64 {
    let (status, answer) = releases.send(This, who, ("GET", LIST), None, None).await;
    if status == 404 {
        assert_eq!(answer["code"], "not_waiting");
        return 0;
    }
    answer["position"].as_i64().unwrap()
}

/// Waits until this release has served a buyer. Returns the order.
async fn served(releases: &Releases, who: &str, units: i64) -> String {
    eventually(&format!("{who} is served"), async || place(releases, who).await == 0).await;
    let (_, listed) = releases.send(This, who, ("GET", "/v1/orders"), None, None).await;
    let order = &listed["orders"][0];
    let found = (&order["state"], &order["items"][0]["quantity"]);
    assert_eq!(found, (&json!("pending"), &json!(units)), "{who}: {listed}");
    assert!(order["expires_at"].is_string(), "{order}");
    order["order_id"].as_str().unwrap().to_owned()
}

async fn end_hold(releases: &Releases, order: &str) {
    let end = format!("UPDATE orders SET expires_at_ms = 1 WHERE id = '{order}'");
    assert_eq!(releases.sale.execute(&end).await, 1);
}

async fn waiting(releases: &Releases) -> Vec<Option<String>> {
    releases.sale.query("SELECT buyer FROM waitlist ORDER BY place").await
}

/// What the release before gives back is on sale; this one hands it out to who waits, in their order.
async fn units_of_the_release_before_reach_who_waits(releases: &mut Releases, orders: &mut Orders) {
    releases.turn_to(Before).await;
    orders.insert("carl", releases.ordered(Before, "carl", 1).await);
    orders.insert("dave", releases.bought(Before, "dave", 1, "first").await);
    releases.turn_to(This).await;
    orders.insert("ann", releases.ordered(This, "ann", 2).await);
    orders.insert("amy", releases.ordered(This, "amy", 1).await);
    for (who, units, place) in [("bob", 1, 1), ("dan", 1, 2), ("eve", 2, 3)] {
        joins(releases, who, units, place).await;
    }
    releases.turn_to(Before).await;
    releases.cancel(Before, "carl", &orders["carl"]).await;
    let failed = json!({"result": "failed"});
    let answer = releases.change(Before, SHOP, &orders["dave"], "payment", &failed).await;
    assert_eq!((answer.0, &answer.1["state"]), (200, &json!("payment_failed")), "{answer:?}");
    releases.turn_to(This).await;
    for who in ["bob", "dan"] {
        orders.insert(who, served(releases, who, 1).await);
    }
    assert_eq!(place(releases, "eve").await, 1);
    releases.left(0).await;
}

/// To the release before, what the list gave is an order like another one.
async fn orders_of_the_list_are_changed_by_the_release_before(
    releases: &mut Releases,
    orders: &mut Orders,
) {
    releases.turn_to(Before).await;
    assert_eq!(releases.state(Before, "bob", &orders["bob"]).await, "pending");
    releases.pay(Before, &orders["bob"]).await;
    releases.cancel(Before, "dan", &orders["dan"]).await;
    // Eve waits for two units, so anybody may have this one.
    orders.insert("gus", releases.bought(Before, "gus", 1, "first").await);
    releases.turn_to(This).await;
    end_hold(releases, &orders["ann"]).await;
    orders.insert("eve", served(releases, "eve", 2).await);
    assert_eq!(releases.state(This, "ann", &orders["ann"]).await, "expired");
    releases.left(0).await;
}

/// Nobody is served by the release before alone, and the list stays as it is.
async fn the_list_is_left_alone_after_a_rollback(releases: &mut Releases, orders: &mut Orders) {
    joins(releases, "hal", 1, 1).await;
    joins(releases, "ida", 1, 2).await;
    releases.roll_back().await;
    releases.cancel(Before, "eve", &orders["eve"]).await;
    releases.left(2).await;
    orders.insert("ida", releases.bought(Before, "ida", 2, "first").await);
    releases.left(0).await;
    releases.cancel(Before, "gus", &orders["gus"]).await;
    releases.left(1).await;
    assert_eq!(waiting(releases).await, ["hal", "ida"].map(|who| Some(who.to_owned())));
}

/// The next roll-out serves the list. Ida has as many as she may by then, so her turn passes her by.
async fn the_list_is_served_again(releases: &mut Releases, orders: &mut Orders) {
    releases.turn_to(This).await;
    orders.insert("hal", served(releases, "hal", 1).await);
    assert_eq!(place(releases, "ida").await, 1);
    releases.left(0).await;
    releases.refund(&orders["bob"], true).await;
    assert_eq!(place(releases, "ida").await, 0);
    let (_, listed) = releases.send(This, "ida", ("GET", "/v1/orders"), None, None).await;
    assert_eq!(listed["orders"].as_array().map(Vec::len), Some(1), "{listed}");
    releases.left(1).await;
}

async fn the_list_outlives_both_releases(database: Database) {
    let mut releases = Releases::start(database, "Locked", 5).await;
    let mut orders = Orders::new();
    units_of_the_release_before_reach_who_waits(&mut releases, &mut orders).await;
    orders_of_the_list_are_changed_by_the_release_before(&mut releases, &mut orders).await;
    the_list_is_left_alone_after_a_rollback(&mut releases, &mut orders).await;
    the_list_is_served_again(&mut releases, &mut orders).await;
    let expected = [
        ("carl", "pending cancelled"),
        ("dave", "confirmed payment_failed"),
        ("ann", "pending expired"),
        ("amy", "pending"),
        ("bob", "pending paid refunded"),
        ("dan", "pending cancelled"),
        ("gus", "confirmed cancelled"),
        ("eve", "pending cancelled"),
        ("ida", "confirmed"),
        ("hal", "pending"),
    ];
    releases.assert_events(&expected.map(|(who, kinds)| (orders[who].as_str(), kinds))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_list_is_served_beside_the_release_before_and_after_a_rollback() {
    the_list_outlives_both_releases(Database::Postgres).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_list_is_served_after_each_release_in_sqlite() {
    the_list_outlives_both_releases(Database::Sqlite).await;
}

/// Buys a unit whenever there is one, and cancels it, again and again. Returns all orders, which are cancelled.
async fn hammers(
    releases: &Releases,
    who: &str,
    (buys_at, cancels_at): (Release, Release),
    first: String,
) -> Vec<String> {
    let (mut open, mut orders) = (Some(first.clone()), vec![first]);
    for round in 0..20 {
        if let Some(order) = open.take() {
            releases.cancel(cancels_at, who, &order).await;
        }
        let answer = releases.buy(buys_at, who, 1, &round.to_string()).await;
        if answer.0 == 409 {
            assert_eq!(answer.1["code"], "sold_out", "{answer:?}");
            continue;
        }
        let order = order_of(&answer);
        orders.push(order.clone());
        open = Some(order);
    }
    if let Some(order) = open {
        releases.cancel(cancels_at, who, &order).await;
    }
    orders
}

/// They may be faster than who waits, where the release before gives units back; but in the end all who wait are served.
#[tokio::test(flavor = "multi_thread")]
async fn who_waits_is_served_once_while_others_buy_and_cancel_at_both_releases() {
    const HAMMERERS: [(&str, (Release, Release)); 4] = [
        ("one", (Before, Before)),
        ("two", (Before, Before)),
        ("three", (Before, This)),
        ("four", (This, Before)),
    ];
    let releases = Releases::start(Database::Postgres, "Locked", 5).await;
    let ann = releases.ordered(This, "ann", 1).await;
    let mut first = Vec::new();
    for (who, (buys_at, _)) in HAMMERERS {
        first.push(releases.bought(buys_at, who, 1, "first").await);
    }
    for (who, place) in [("bob", 1), ("dan", 2), ("eve", 3)] {
        joins(&releases, who, 1, place).await;
    }
    let hammering = HAMMERERS.into_iter().zip(first);
    let hammering = hammering.map(|((who, at), first)| hammers(&releases, who, at, first));
    let (hammered, ()) = tokio::join!(join_all(hammering), end_hold(&releases, &ann));

    let mut expected = vec![(ann, "pending expired")];
    for who in ["bob", "dan", "eve"] {
        expected.push((served(&releases, who, 1).await, "pending"));
    }
    expected.extend(hammered.into_iter().flatten().map(|order| (order, "confirmed cancelled")));
    releases.left(2).await;
    assert!(waiting(&releases).await.is_empty());
    let expected: Vec<(&str, &str)> =
        expected.iter().map(|(order, kinds)| (order.as_str(), *kinds)).collect();
    releases.assert_events(&expected).await;
}
