//! The sale page and the administration's in a real Chromium.
//! With `PAGE_SCREENSHOTS` a folder, it leaves pictures there.

#[path = "browser/mod.rs"]
mod browser;

use std::cell::OnceCell;
use std::time::Instant;

use serde_json::json;

use crate::common::{Database, SaleSpec, eventually};
use browser::{LATER, Stage, Window, in_seconds, of_admin};

const BUY: &str = "[data-product='1'] form button";
const RESULT: &str = "[data-product='1'] .result";
const LEFT: &str = "[data-product='1'] .left";

#[tokio::test(flavor = "multi_thread")]
async fn two_buyers_race_for_the_last_item_and_each_sees_the_right_result() {
    let products = json!([{"id": "1", "name": "Console", "stock": 1, "max_per_buyer": 1}]);
    let spec = SaleSpec { products, ..SaleSpec::on(Database::Postgres) };
    let stage = Stage::set(spec).await;
    let (ann, bob) = tokio::join!(stage.window(), stage.window());
    for (window, name) in [(&ann, "ann"), (&bob, "bob")] {
        window.open("/").await;
        window.until_shows(LEFT, "1").await;
        window.until_shows("#live", "Live").await;
        window.sign_up(name).await;
        // Whether a reload would be needed to see the rest.
        window.js("window.neverReloaded = true").await;
    }
    // Held until both have asked: the two are decided by the sale, not by who clicked first.
    for node in &stage.sale.nodes[..3] {
        node.pause().unwrap();
    }
    tokio::join!(ann.click(BUY), bob.click(BUY));
    tokio::join!(ann.until_shows(RESULT, ""), bob.until_shows(RESULT, ""));
    for node in &stage.sale.nodes[..3] {
        node.resume().unwrap();
    }
    let decided = format!("!/moment|crowded/.test(document.querySelector(\"{RESULT}\").innerText)");
    tokio::join!(ann.until(&decided), bob.until(&decided));
    tokio::join!(ann.until_shows(LEFT, "0\nof 1 left"), bob.until_shows(LEFT, "0\nof 1 left"));
    tokio::join!(ann.until_shows(BUY, "Sold out"), bob.until_shows(BUY, "Sold out"));

    let mut results = Vec::new();
    for window in [&ann, &bob] {
        assert_eq!(window.js("window.neverReloaded").await, true);
        let text = window.js(&format!("document.querySelector(\"{RESULT}\").innerText")).await;
        let orders = window.js("document.querySelectorAll('#order-list li').length").await;
        results.push((text.as_str().unwrap().to_owned(), orders.as_i64().unwrap()));
    }
    results.sort();
    let [sold_out, bought] = &results[..] else { unreachable!() };
    assert_eq!(*sold_out, ("Sold out. Somebody was faster.".to_owned(), 0));
    assert_eq!(*bought, ("Yours! One unit is bought.".to_owned(), 1));
    assert_eq!(stage.sale.sold().await[0]["sold"], 1);
    ann.picture("race-ann").await;
    bob.picture("race-bob").await;
    ann.close().await;
    bob.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_logged_in_is_asked_and_then_buys_what_was_clicked() {
    let stage = Stage::set(SaleSpec { nodes: 1, ..SaleSpec::on(Database::Sqlite) }).await;
    let window = stage.window().await;
    window.open("/").await;
    window.until_shows(LEFT, "100").await;
    window.fill("[data-product='1'] input", "3").await;
    window.click(BUY).await;
    window.fill("#account-id", "ann").await;
    window.fill("#account-password", "correct horse").await;
    window.click("#do-log-in").await;
    window.until_shows("#account-error", "Name or password is wrong.").await;
    window.click("#do-sign-up").await;
    window.until_shows(RESULT, "Yours! 3 units are bought.").await;
    window.until_shows("#order-list", "3 × Console").await;
    window.until_shows(LEFT, "97").await;

    window.click("#log-out").await;
    window.until("document.querySelector('#orders').hidden").await;
    window.click("#log-in").await;
    window.fill("#account-id", "ann").await;
    window.fill("#account-password", "battery staple").await;
    window.click("#do-sign-up").await;
    window.until_shows("#account-error", "exists already").await;
    window.fill("#account-password", "correct horse").await;
    window.click("#do-log-in").await;
    window.until_shows("#who", "ann").await;
    window.client.refresh().await.unwrap();
    window.until_shows("#who", "ann").await;
    assert_eq!(stage.sale.sold().await[0]["sold"], 3, "a log-in alone buys nothing");
    window.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purchase_goes_on_by_itself_through_trouble_and_a_reload_and_is_made_once() {
    let settings = vec![("LOCK_WAIT_SECONDS", "0.3".to_owned())];
    let stage = Stage::set(SaleSpec { settings, ..SaleSpec::on(Database::Sqlite) }).await;
    let window = stage.window().await;
    window.open("/").await;
    window.sign_up("ann").await;
    for node in &stage.sale.nodes[..3] {
        node.pause().unwrap();
    }
    window.click(BUY).await;
    window.until_shows(RESULT, "Trying again by itself").await;
    let key = window.js("JSON.parse(sessionStorage.getItem('wishes'))[0].key").await;
    window.client.refresh().await.unwrap();
    window.until_shows(RESULT, "Trying again by itself").await;
    assert_eq!(window.js("JSON.parse(sessionStorage.getItem('wishes'))[0].key").await, key);
    for node in &stage.sale.nodes[..3] {
        node.resume().unwrap();
    }
    window.until_shows(RESULT, "Yours!").await;
    let ann = stage.sale.buyer("ann");
    let again = OnceCell::new();
    eventually("the nodes answer", async || {
        let answer = ann.buy("1", 1, Some(key.as_str().unwrap())).await;
        answer.status == 201 && again.set(answer).is_ok()
    })
    .await;
    let again = again.into_inner().unwrap();
    assert_eq!(again.headers["idempotent-replayed"], "true", "it was bought under that key");
    assert_eq!(stage.sale.sold().await[0]["sold"], 1);
    window.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unpaid_order_counts_down_and_its_unit_comes_back_on_the_page() {
    let products = json!([{"id": "1", "name": "Console", "stock": 1, "hold_seconds": 300}]);
    let spec = SaleSpec { nodes: 1, products, ..SaleSpec::on(Database::Sqlite) };
    let stage = Stage::set(spec).await;
    let window = stage.window().await;
    window.open("/").await;
    window.sign_up("ann").await;
    let body = json!({"items": [{"product_id": "1"}]});
    let ann = stage.sale.buyer("ann");
    assert_eq!(ann.call("POST", "/v1/orders", Some(&body)).await.status, 201);
    window.client.refresh().await.unwrap();
    window.until_shows("#order-list .held", "Held for 4:").await;
    window.until_shows("#order-list .state", "Pending").await;
    window.until_shows(BUY, "Sold out").await;
    let held = "document.querySelector('#order-list .held').innerText";
    let before = window.js(held).await;
    window.until(&format!("{held} !== {before}")).await;
    assert_eq!(stage.sale.end_all_holds().await, 1);
    window.until_shows(LEFT, "1\nof 1 left").await;
    window.js(LATER).await;
    window.until_shows("#order-list .state", "Not paid in time").await;
    window.until("!document.querySelector('#order-list .held')").await;
    window.close().await;
}

/// A sale that starts this number of seconds from now, and a browser whose clock is a day ahead.
async fn sale_in(seconds: i64) -> (Stage, Window, jiff::Timestamp) {
    let starts_at = in_seconds(seconds);
    let settings = vec![("SALE_STARTS_AT", starts_at.to_string())];
    let spec = SaleSpec { nodes: 1, settings, ..SaleSpec::on(Database::Sqlite) };
    let stage = Stage::set(spec).await;
    let window = stage.window().await;
    let source = "{ const now = Date.now; Date.now = () => now() + 86400000; }";
    window.devtools("Page.addScriptToEvaluateOnNewDocument", &json!({"source": source})).await;
    window.open("/").await;
    (stage, window, starts_at)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_countdown_goes_by_the_servers_clock() {
    let (_stage, window, starts_at) = sale_in(3600).await;
    window.until_shows("#headline", "Almost there.").await;
    window.until_shows("#countdown", "seconds").await;
    let units =
        "[...document.querySelectorAll('#countdown b')].map((unit) => Number(unit.innerText))";
    let shown: Vec<i64> = serde_json::from_value(window.js(units).await).unwrap();
    let shown = shown.iter().zip([86400, 3600, 60, 1]).map(|(unit, seconds)| unit * seconds);
    let off = shown.sum::<i64>() - (starts_at - jiff::Timestamp::now()).get_seconds();
    assert!((0..5).contains(&off), "{off} s more than there are");
    assert_eq!(window.js(&format!("document.querySelector(\"{BUY}\").disabled")).await, true);
    window.picture("countdown").await;
    window.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sale_opens_on_the_page_when_the_server_says_so_without_a_reload() {
    let (_stage, window, starts_at) = sale_in(12).await;
    window.until_shows("#headline", "It’s on.").await;
    assert!(jiff::Timestamp::now() >= starts_at);
    window.until(&format!("!document.querySelector(\"{BUY}\").disabled")).await;
    window.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_scrolls_sideways_on_a_phone() {
    let long = "The limited collector’s edition with an unbreakableverylongwordinthemiddleofit";
    let spec = of_admin(json!([
        {"id": "1", "name": "Console", "stock": 100, "max_per_buyer": 1},
        {"id": "2", "name": long, "stock": 1_000_000_000},
    ]));
    let stage = Stage::set(spec).await;
    let window = stage.phone().await;
    let fits = "document.documentElement.scrollWidth <= innerWidth && innerWidth === 360";
    window.open("/").await;
    window.until_shows(LEFT, "100").await;
    assert_eq!(window.js(fits).await, true);
    window.click("#log-in").await;
    assert_eq!(window.js(fits).await, true);
    window.picture("phone-log-in").await;
    window.click("#account-close").await;
    window.sign_up(&"x".repeat(64)).await;
    window.click(BUY).await;
    window.until_shows("#order-list", "1 × Console").await;
    assert_eq!(window.js(fits).await, true);
    window.js("window.scrollTo(0, 0)").await;
    window.picture("phone").await;

    window.open("/admin").await;
    window.until_shows("#gate", "administrator").await;
    window.log_in_as_admin().await;
    window.until_shows("[data-product='2']", "left").await;
    assert_eq!(window.js(fits).await, true);
    window.picture("phone-admin").await;
    window.click("#new").await;
    assert_eq!(window.js(fits).await, true);
    window.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn administrators_see_sales_as_they_happen_and_manage_products() {
    let spec = of_admin(json!([
        {"id": "1", "name": "Console", "stock": 100, "max_per_buyer": 100},
        {"id": "2", "name": "Game", "stock": 40},
    ]));
    let stage = Stage::set(spec).await;
    let (window, shop) = tokio::join!(stage.window(), stage.window());
    shop.open("/").await;
    window.log_in_as_admin().await;
    window.until_shows("[data-product='1']", "100 left").await;
    let buyer = stage.sale.buyer("ann");
    let started = Instant::now();
    for _ in 0..60 {
        buyer.buy("1", 1, None).await.order();
    }
    window.until_shows("[data-product='1']", "40 left").await;
    window.until_shows("#sold", "60").await;
    window.until_shows("#nodes", "5 of 5").await;
    window.until("document.querySelector('#p99').innerText.endsWith('ms')").await;
    // As long as the sales are in the span that the rate is of.
    if started.elapsed().as_secs() < 5 {
        assert_ne!(window.js("document.querySelector('#rate').innerText").await, "0");
    }
    window
        .until("document.querySelector('#line').getAttribute('points').split(' ').length > 6")
        .await;
    window.picture("admin").await;

    window.click("#new").await;
    window.fill("#e-id", "a b").await;
    window.fill("#e-stock", "7").await;
    window.fill("#e-name", "Headset").await;
    window.click("#edit-do").await;
    window.until("document.querySelector('#e-id').getAttribute('aria-invalid')").await;
    window.fill("#e-id", "headset").await;
    window.click("#edit-do").await;
    window.until_shows("[data-product='headset']", "7 left").await;
    shop.until_shows("[data-product='headset']", "Headset").await;
    window.click("[data-product='headset'] [data-does=restock]").await;
    window.fill("#e-add", "5").await;
    window.picture("admin-restock").await;
    window.click("#edit-do").await;
    window.until_shows("[data-product='headset']", "12 left").await;
    window.click("[data-product='headset'] [data-does=change]").await;
    window.fill("#e-name", "Great headset").await;
    window.click("#edit-do").await;
    shop.until_shows("[data-product='headset']", "Great headset").await;
    shop.until_shows("[data-product='headset']", "12").await;
    let named = "[...document.querySelectorAll('input')].every((input) => input.labels.length)";
    assert_eq!((window.js(named).await, shop.js(named).await), (json!(true), json!(true)));
    shop.picture("desktop").await;
    shop.dark().await;
    shop.picture("desktop-dark").await;
    window.click("[data-product='headset'] [data-does=delete]").await;
    window.click("#edit-do").await;
    window.until("!document.querySelector(\"[data-product='headset']\")").await;
    shop.until("!document.querySelector(\"[data-product='headset']\")").await;

    // A buyer's account is shown nothing.
    shop.sign_up("bob").await;
    shop.open("/admin").await;
    shop.until_shows("#gate-error", "buyer").await;
    window.close().await;
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn administrators_search_orders_and_read_the_audit_log() {
    let stage = Stage::set(of_admin(json!([{"id": "1", "name": "Console", "stock": 100}]))).await;
    for _ in 0..60 {
        stage.sale.buyer("ann").buy("1", 1, None).await.order();
    }
    let bought = stage.sale.buyer("bob").buy("1", 2, None).await.order().to_owned();
    let window = stage.window().await;
    window.log_in_as_admin().await;
    window.until("document.querySelector('[data-product]')").await;
    let count = |list: &str| format!("document.querySelectorAll('#{list}-found li').length");
    window.click("#orders-search").await;
    window.until(&format!("{} === 50", count("orders"))).await;
    window.click("#orders-more").await;
    window.until(&format!("{} === 61", count("orders"))).await;
    window.until("document.querySelector('#orders-more').hidden").await;
    window.fill("#o-buyer", "bob").await;
    window.click("#orders-search").await;
    window.until(&format!("{} === 1", count("orders"))).await;
    window.until_shows("#orders-found", &bought).await;
    window.until_shows("#orders-found", "2 × 1").await;
    window.until_shows("#orders-found", "Confirmed").await;
    // The file goes to the browser's downloads, which are seen here by the name of the file.
    let save =
        "void (HTMLAnchorElement.prototype.click = function () { window.saved = this.download; })";
    window.js(save).await;
    window.click("#orders-export").await;
    window.until("window.saved === 'orders.csv'").await;
    window.fill("#o-id", "no id").await;
    window.click("#orders-search").await;
    window.until_shows("#orders-error", "not allowed").await;

    window.click("[data-product='1'] [data-does=restock]").await;
    window.fill("#e-add", "5").await;
    window.click("#edit-do").await;
    window.until_shows("#notice", "restocked").await;
    window.click("#audit-show").await;
    window.until_shows("#audit-found", "restock_product").await;
    window.until_shows("#audit-found", "export_orders").await;
    window.fill("#a-actor", "nobody").await;
    window.click("#audit-show").await;
    window.until("!document.querySelector('#audit-none').hidden").await;
    window.picture("admin-orders").await;
    // Who logs out leaves nothing behind.
    window.click("#log-out").await;
    window.until(&format!("{} === 0", count("orders"))).await;
    window.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invited_buyer_is_asked_for_the_code() {
    let settings =
        vec![("SIGN_UP", "Invited".to_owned()), ("INVITE_CODES", "code-of-ann".to_owned())];
    let spec = SaleSpec { nodes: 1, settings, ..SaleSpec::on(Database::Sqlite) };
    let stage = Stage::set(spec).await;
    let window = stage.window().await;
    window.open("/").await;
    window.until_shows(LEFT, "100").await;
    window.click(BUY).await;
    window.until("document.querySelector('#account').open").await;
    assert_eq!(window.js("document.querySelector('#account-invite').hidden").await, true);
    window.fill("#account-id", "ann").await;
    window.fill("#account-password", "correct horse").await;
    window.click("#do-sign-up").await;
    window.until_shows("#account-error", "invite code").await;
    window.fill("#account-code", "code-of-ann").await;
    window.click("#do-sign-up").await;
    window.until_shows(RESULT, "Yours!").await;
    window.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_policy_forbids_what_the_page_did_not_bring() {
    let stage = Stage::set(SaleSpec { nodes: 1, ..SaleSpec::on(Database::Sqlite) }).await;
    let window = stage.window().await;
    window.open("/").await;
    window.until_shows("#live", "Live").await;
    assert_eq!(window.complaints().await, Vec::<String>::new());
    let markup =
        "(() => { try { document.body.innerHTML = '<b>'; } catch { return 'refused'; } })()";
    assert_eq!(window.js(markup).await, "refused");
    let image = "document.body.append(Object.assign(new Image(), {src: 'http://127.0.0.1:1/'}))";
    window.js(image).await;
    let script = "(() => { const s = document.createElement('script'); \
        try { s.text = 'window.evil = 1'; document.body.append(s); } catch { } return !window.evil; })()";
    assert_eq!(window.js(script).await, true);
    let told = async || window.complaints().await.iter().any(|m| m.contains("Content Security"));
    eventually("the console tells of what was forbidden", told).await;
    window.client.clone().close().await.unwrap();
}
