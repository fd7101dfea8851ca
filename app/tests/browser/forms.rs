//! Forms of the administrators' page: what cannot be read is not sent, and nothing is sent twice.

use fantoccini::Locator;
use serde_json::json;

use super::{Stage, of_admin};
use crate::common::{Answer, SaleSpec};

/// `paths` has the path of each request of the page.
const LIST_REQUESTS: &str = "void ((real) => { window.paths = []; window.fetch = (path, options) => { \
    window.paths.push(path); return real(path, options); }; })(window.fetch)";
const SUBMIT_OFTEN: &str = "(() => { for (let i = 0; i < 6; i += 1) \
    document.querySelector('#gate-form').requestSubmit(); })()";

#[tokio::test(flavor = "multi_thread")]
async fn a_log_in_of_administrators_that_is_sent_often_is_one_attempt() {
    let products = json!([{"id": "1", "name": "Console", "stock": 9}]);
    let stage = Stage::set(SaleSpec { nodes: 1, ..of_admin(products) }).await;
    let window = stage.window().await;
    window.open("/admin").await;
    window.js(LIST_REQUESTS).await;
    window.fill("#gate-id", "root").await;
    window.fill("#gate-password", "wrong horse").await;
    window.js(SUBMIT_OFTEN).await;
    assert_eq!(window.js("paths").await, json!(["/v1/auth/login"]));
    window.until_shows("#gate-error", "Name or password is wrong.").await;
    let metrics = stage.sale.metrics().await;
    let log_ins = metrics.lines().filter(|line| line.starts_with("flashsale_log_ins_total{"));
    let sum: u64 =
        log_ins.map(|line| line.split(' ').next_back().unwrap().parse::<u64>().unwrap()).sum();
    assert_eq!(sum, 1, "{metrics}");
    // The form can be sent again.
    window.fill("#gate-password", "correct horse").await;
    window.click("#gate button").await;
    window.until_shows("#live", "Live").await;
    window.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_browser_cannot_read_is_not_taken_for_an_empty_field() {
    let products = json!([{"id": "1", "name": "Console", "stock": 9, "max_per_buyer": 1}]);
    let stage = Stage::set(SaleSpec { nodes: 1, ..of_admin(products) }).await;
    let window = stage.window().await;
    window.log_in_as_admin().await;
    let is_unreadable = |id: &str| {
        let field = format!("document.querySelector('{id}')");
        format!("{field}.validity.badInput && {field}.value === ''")
    };
    // An empty limit would be none.
    window.click("[data-product='1'] [data-does=change]").await;
    window.fill("#e-limit", "1e").await;
    window.until(&is_unreadable("#e-limit")).await;
    window.click("#edit-do").await;
    window.until_shows("#edit-error", "Most per buyer: 1 to").await;
    let invalid = "document.querySelector('#e-limit').getAttribute('aria-invalid')";
    assert_eq!(window.js(invalid).await, "true");
    let request = stage.sale.admin("root").request(0, "GET", "/v1/products");
    let listed = Answer::of(request.send().await.unwrap()).await;
    assert_eq!(listed.body[0]["max_per_buyer"], 1, "{listed:?}");
    window.click("#edit-close").await;
    window.click("[data-product='1'] [data-does=change]").await;
    assert_eq!(window.js(invalid).await, json!(null));
    window.fill("#e-limit", "2").await;
    window.click("#edit-do").await;
    window.until_shows("[data-product='1'] .facts", "2 per buyer").await;

    // Without the time, all orders would be found.
    window.js(LIST_REQUESTS).await;
    let from = window.client.find(Locator::Css("#o-from")).await.unwrap();
    from.send_keys("12").await.unwrap();
    window.until(&is_unreadable("#o-from")).await;
    for button in ["#orders-search", "#orders-export"] {
        window.click(button).await;
        window.until_shows("#orders-error", "Time: a date and a time").await;
    }
    let asked = "paths.some((path) => path.startsWith('/v1/admin/orders'))";
    assert_eq!(window.js(asked).await, false);
    // This search has no times.
    window.click("#orders-due").await;
    window.until_shows("#orders-none", "No order fits").await;
    assert_eq!(window.js("document.querySelector('#orders-error').hidden").await, true);
    window.close().await;
}
