//! Prices, refunds and the waiting list on the pages.

use serde_json::{Value, json};

use super::{ENGLISH, LATER, Screen, Stage, of_admin};
use crate::common::{Database, SaleSpec};

const QUEUE: &str = "[data-product='1'] button.quiet";
const RESULT: &str = "[data-product='1'] .result";

#[tokio::test(flavor = "multi_thread")]
async fn prices_are_written_as_the_reader_writes_them() {
    let product = |id: &str, amount: i64, currency: &str| json!({"id": id, "name": id, "stock": 9, "price": {"amount": amount, "currency": currency}});
    // Browsers write the Iraqi dinar without decimal places, ISO 4217 has three.
    let products = json!([
        product("1", 49_900, "EUR"),
        product("2", 49_900, "JPY"),
        product("3", 49_900, "IQD")
    ]);
    let spec = SaleSpec { nodes: 1, products, ..SaleSpec::on(Database::Sqlite) };
    let stage = Stage::set(spec).await;
    for (languages, euros) in [(ENGLISH, "€499.00"), ("ko-KR,ko", "€499.00")] {
        let window = stage.window_of(Screen::Desktop, languages).await;
        window.open("/").await;
        window.until_shows("[data-product='1'] .price", euros).await;
        window.until_shows("[data-product='2'] .price", "49,900").await;
        window.until_shows("[data-product='3'] .price", "49.900").await;
        window.close().await;
    }
    let window = stage.window().await;
    window.open("/").await;
    window.sign_up("ann").await;
    window.fill("[data-product='1'] input", "2").await;
    window.click("[data-product='1'] form button").await;
    window.until_shows("#order-list", "€998.00").await;
    window.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_a_price_is_held_until_it_is_paid_and_what_has_none_is_bought() {
    let price = json!({"amount": 49_900, "currency": "EUR"});
    let products = json!([
        {"id": "1", "name": "Console", "stock": 1, "price": price},
        {"id": "2", "name": "Game", "stock": 1, "price": price},
        {"id": "3", "name": "Sticker", "stock": 1},
    ]);
    let spec = SaleSpec { nodes: 1, products, ..SaleSpec::on(Database::Sqlite) };
    let stage = Stage::set(spec).await;
    let (ann, admin) = (stage.sale.buyer("ann"), stage.sale.admin("root"));
    let window = stage.window().await;
    window.open("/").await;
    window.sign_up("ann").await;
    let buy = |id: u8| format!("[data-product='{id}'] form button");
    let result = |id: u8| format!("[data-product='{id}'] .result");
    window.click(&buy(3)).await;
    window.until_shows(&result(3), "Yours! One unit is bought.").await;
    window.until_shows("#order-list .state", "Confirmed").await;

    // The buyer pays in another tab and comes back to this one.
    window.click(&buy(2)).await;
    window.until_shows(&result(2), "Units are held for you. Pay in time.").await;
    window.until_shows("#order-list .held", "Held for").await;
    let held = ann.call("GET", "/v1/orders", None).await.body["orders"][0].clone();
    assert_eq!((&held["state"], &held["items"][0]["product_id"]), (&json!("pending"), &json!("2")));
    let path = format!("/v1/orders/{}/payment", held["order_id"].as_str().unwrap());
    let paid = admin.call("POST", &path, Some(&json!({"result": "paid"}))).await;
    assert_eq!(paid.status, 200, "{paid:?}");
    window.js("document.dispatchEvent(new Event('visibilitychange'))").await;
    window.until_shows(&result(2), "Paid").await;

    // Nobody pays for the last console, and the page says by itself that it is for sale again.
    window.click(&buy(1)).await;
    window.until_shows(RESULT, "Units are held for you. Pay in time.").await;
    window.until_shows("#order-list .held", "Held for").await;
    window.until_shows(&buy(1), "Sold out").await;
    assert_eq!(stage.sale.end_all_holds().await, 1);
    window.until_shows(&buy(1), "Buy now").await;
    window.js(LATER).await;
    window.until_shows(RESULT, "Not paid in time").await;
    window.until_shows("#order-list .over", "Not paid in time").await;
    window.until_shows("[data-product='1'] .left", "1\nof 1 left").await;
    let listed = ann.call("GET", "/v1/orders", None).await.body;
    let states = listed["orders"].as_array().unwrap().iter().map(|order| &order["state"]);
    assert_eq!(states.collect::<Vec<&Value>>(), ["expired", "paid", "confirmed"]);
    window.click(&buy(1)).await;
    window.until_shows(RESULT, "Units are held for you. Pay in time.").await;
    window.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_buyer_waits_and_is_told_when_it_is_the_turn() {
    let products = json!([{"id": "1", "name": "Console", "stock": 1}]);
    let spec = SaleSpec { nodes: 1, products, ..SaleSpec::on(Database::Sqlite) };
    let stage = Stage::set(spec).await;
    let bob = stage.sale.buyer("bob");
    let body = json!({"items": [{"product_id": "1"}]});
    let held = bob.call("POST", "/v1/orders", Some(&body)).await.order().to_owned();
    let window = stage.window().await;
    window.open("/").await;
    window.until_shows(QUEUE, "Wait for a unit").await;
    window.sign_up("ann").await;
    window.click(QUEUE).await;
    window.until_shows(QUEUE, "Place 1 in line").await;
    window.click(QUEUE).await;
    window.until_shows(QUEUE, "Wait for a unit").await;
    window.click(QUEUE).await;
    window.until_shows(RESULT, "You wait.").await;
    // The place is still known after a reload.
    window.client.refresh().await.unwrap();
    window.until_shows(QUEUE, "Place 1 in line").await;
    bob.call("POST", &format!("/v1/orders/{held}/cancel"), None).await;
    window.until_shows(RESULT, "It is your turn").await;
    window.until_shows("#order-list", "Held for").await;
    window.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_administrator_records_a_refund() {
    let price = json!({"amount": 49_900, "currency": "EUR"});
    let products = json!([{"id": "1", "name": "Console", "stock": 2, "price": price}]);
    let stage = Stage::set(SaleSpec { nodes: 1, ..of_admin(products) }).await;
    let bought = stage.sale.buyer("ann").buy("1", 1, None).await;
    let path = format!("/v1/orders/{}/payment", bought.order());
    stage.sale.admin("root").call("POST", &path, Some(&json!({"result": "paid"}))).await;
    let window = stage.window().await;
    window.log_in_as_admin().await;
    window.until_shows("[data-product='1'] .facts", "€499.00").await;
    window.click("#orders-search").await;
    window.until_shows("#orders-found", "€499.00").await;
    window.click("#orders-found button").await;
    window.until_shows("#refund-text", "ann, €499.00").await;
    window.fill("#r-reference", "r1").await;
    window.click("#r-back").await;
    window.click("#refund-do").await;
    window.until_shows("#orders-found", "Refunded").await;
    window.until_shows("[data-product='1']", "2 left").await;
    window.click("#orders-due").await;
    window.until_shows("#orders-none", "No order fits").await;
    window.click("#payments-show").await;
    window.until_shows("#payments-none", "No payment needs you").await;
    // The price of a product is changed.
    window.click("[data-product='1'] [data-does=change]").await;
    window.fill("#e-price", "0").await;
    window.click("#edit-do").await;
    window.until_shows("#edit-error", "Price: 1 to").await;
    window.fill("#e-price", "39900").await;
    window.fill("#e-currency", "usd").await;
    window.click("#edit-do").await;
    window.until_shows("[data-product='1'] .facts", "$399.00").await;
    window.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_administrator_puts_units_on_sale_again_whose_money_was_given_back_before() {
    let products = json!([{"id": "1", "name": "Console", "stock": 2}]);
    let stage = Stage::set(SaleSpec { nodes: 1, ..of_admin(products) }).await;
    let bought = stage.sale.buyer("ann").buy("1", 1, None).await;
    let root = stage.sale.admin("root");
    for (call, body) in [("payment", json!({"result": "paid"})), ("refund", json!({}))] {
        let path = format!("/v1/orders/{}/{call}", bought.order());
        let answer = root.call("POST", &path, Some(&body)).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    let window = stage.window().await;
    window.log_in_as_admin().await;
    window.until_shows("[data-product='1']", "1 left").await;
    window.click("#orders-search").await;
    window.until_shows("#orders-found button", "Put the units on sale again").await;
    window.click("#orders-found button").await;
    window.until_shows("#refund-text", "The money was given back").await;
    window.until("!document.querySelector('#r-reference').checkVisibility()").await;
    window.until_shows("#refund-do", "Put the units on sale again").await;
    window.click("#refund-do").await;
    window.until("!document.querySelector('#orders-found button')").await;
    window.until_shows("#orders-found", "Refunded").await;
    window.until_shows("[data-product='1']", "2 left").await;
    window.close().await;
}
