//! Purchases and orders on the sale page when answers come late or not at all, and when buyers take turns in a tab.

use serde_json::{Value, json};

use super::{Held, Stage, Window};
use crate::common::{Database, SaleSpec};

const BUY: &str = "[data-product='1'] form button";
const RESULT: &str = "[data-product='1'] .result";
const LEFT: &str = "[data-product='1'] .left";
/// Purchases of the products 1 and 2 are made, and their answers are lost.
const LOSE_ANSWERS: &str = "void ((real) => { window.fetch = async (path, options) => { \
    const answer = await real(path, options); \
    if (/product_id\":\"[12]\"/.test(options.body)) throw new Error('lost'); \
    return answer; }; })(window.fetch)";
/// Purchases are refused for a moment, until `sells` is set.
const REFUSE: &str = "void ((real) => { window.fetch = async (path, options) => { \
    if (path === '/v1/purchases' && !window.sells) return new Response('', {status: 503}); \
    return real(path, options); }; })(window.fetch)";
/// Of a page that is loaded while the sale does not answer: as long as the session has `away`.
const AWAY: &str = "{ const real = window.fetch; \
    const isAway = () => sessionStorage.getItem('away'); \
    window.fetch = (path, options) => (isAway() ? Promise.reject(new Error('away')) : real(path, options)); \
    window.EventSource = class extends EventTarget { static CLOSED = 2; readyState = 2; \
        constructor() { super(); setTimeout(() => this.dispatchEvent(new Event('error'))); } close() {} }; }";

/// A sale with a single node.
async fn stage(products: Value) -> Stage {
    Stage::set(SaleSpec { nodes: 1, products, ..SaleSpec::on(Database::Sqlite) }).await
}

/// Logs this buyer in, in the page's storage only.
fn set_session(buyer: &str, token: &str) -> String {
    let session = json!({"id": buyer, "token": token}).to_string();
    format!("sessionStorage.setItem('session', {})", json!(session))
}

impl Window {
    async fn reload(&self) {
        self.client.refresh().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn purchases_of_several_products_at_once_keep_their_keys_over_a_reload() {
    let products =
        ["1", "2", "3"].map(|id| json!({"id": id, "name": format!("Product {id}"), "stock": 9}));
    let stage = stage(json!(products)).await;
    let window = stage.window().await;
    window.open("/").await;
    window.sign_up("ann").await;
    window.js(LOSE_ANSWERS).await;
    let result = |id: &str| format!("[data-product='{id}'] .result");
    for (id, text) in [("1", "Trying again"), ("2", "Trying again"), ("3", "Yours!")] {
        window.click(&format!("[data-product='{id}'] form button")).await;
        window.until_shows(&result(id), text).await;
    }
    let wishes = window.js("JSON.parse(sessionStorage.getItem('wishes'))").await;
    let wishes = wishes.as_array().unwrap();
    assert_eq!(wishes.len(), 2, "the third one is over: {wishes:?}");
    window.reload().await;
    let ann = stage.sale.buyer("ann");
    for (id, wish) in ["1", "2"].into_iter().zip(wishes) {
        window.until_shows(&result(id), "Yours!").await;
        assert_eq!(wish["id"], id);
        let again = ann.buy(id, 1, wish["key"].as_str()).await;
        assert_eq!(again.headers["idempotent-replayed"], "true", "{id}: bought under that key");
    }
    for product in stage.sale.sold().await.as_array().unwrap() {
        assert_eq!(product["sold"], 1, "{product}");
    }
    assert_eq!(window.js("sessionStorage.getItem('wishes')").await, "[]");
    window.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_whose_answer_was_lost_is_found_under_its_key_when_its_hold_is_over() {
    let price = json!({"amount": 49_900, "currency": "EUR"});
    let stage = stage(json!([{"id": "1", "name": "Console", "stock": 1, "price": price}])).await;
    let window = stage.window().await;
    window.open("/").await;
    window.sign_up("ann").await;
    window.js(LOSE_ANSWERS).await;
    window.click(BUY).await;
    window.until_shows(RESULT, "Trying again").await;
    window.until_shows(LEFT, "0\nof 1 left").await;
    assert_eq!(stage.sale.end_all_holds().await, 1);
    window.until_shows(LEFT, "1\nof 1 left").await;
    window.reload().await;
    window.until_shows(RESULT, "Not paid in time").await;
    let listed = stage.sale.buyer("ann").call("GET", "/v1/orders", None).await;
    assert_eq!(listed.body["orders"].as_array().unwrap().len(), 1, "{listed:?}");
    assert_eq!(window.js("sessionStorage.getItem('wishes')").await, "[]");
    window.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_buyer_is_shown_or_bought_after_the_log_out() {
    let stage = stage(json!([{"id": "1", "name": "Console", "stock": 9}])).await;
    let window = stage.window().await;
    window.open("/").await;
    window.sign_up("ann").await;
    // Her orders arrive late.
    window.hold(Held::Answer, "GET", "/v1/orders").await;
    window.click(BUY).await;
    window.until_shows(RESULT, "Yours!").await;
    window.until("held > 0").await;
    window.click("#log-out").await;
    window.release().await;
    assert_eq!(window.js("document.querySelector('#orders').hidden").await, true);
    assert_eq!(window.js("document.querySelectorAll('#order-list li').length").await, 0);

    // Her purchase waits for its next attempt when Bob takes over.
    let (ann, bob) = (stage.sale.buyer("ann"), stage.sale.buyer("bob"));
    window.js(&set_session("ann", &ann.token)).await;
    window.reload().await;
    window.until_shows("#who", "ann").await;
    window.js(REFUSE).await;
    window.click(BUY).await;
    window.until_shows(RESULT, "Trying again").await;
    let take_over = set_session("bob", &bob.token);
    window
        .js(&format!(
            "(() => {{ document.querySelector('#log-out').click(); {take_over}; window.sells = true; }})()"
        ))
        .await;
    window.until_shows(BUY, "Buy now").await;
    let listed = bob.call("GET", "/v1/orders", None).await;
    assert_eq!(listed.body["orders"], json!([]), "she clicked, he did not");
    bob.buy("1", 1, None).await.order();

    // Her token is over, and Carl logs in instead of her.
    window.js(&set_session("ann", "over")).await;
    window.reload().await;
    window.until_shows("#who", "ann").await;
    window.click(BUY).await;
    window.until_shows("#account-reason", "Your log-in is over").await;
    window.fill("#account-id", "carl").await;
    window.fill("#account-password", "correct horse").await;
    window.click("#do-sign-up").await;
    window.until_shows("#who", "carl").await;
    assert_eq!(window.js("sessionStorage.getItem('wishes')").await, "[]");
    let listed = stage.sale.buyer("carl").call("GET", "/v1/orders", None).await;
    assert_eq!(listed.body["orders"], json!([]));

    // The administration logs buyers out.
    let kept = "['session', 'wishes', 'bought', 'joined']";
    window.js(&format!("{kept}.forEach((name) => sessionStorage[name] ??= '[]')")).await;
    window.open("/admin").await;
    window.until_shows("#gate-error", "buyer").await;
    let is_empty = format!("{kept}.every((name) => sessionStorage.getItem(name) === null)");
    assert_eq!(window.js(&is_empty).await, true);
    window.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_was_loaded_while_the_sale_was_away_goes_on_when_it_is_back() {
    let products = json!([
        {"id": "1", "name": "Console", "stock": 9},
        {"id": "2", "name": "Game", "stock": 1},
    ]);
    let stage = stage(products).await;
    let (ann, bob) = (stage.sale.buyer("ann"), stage.sale.buyer("bob"));
    bob.call("POST", "/v1/orders", Some(&json!({"items": [{"product_id": "2"}]}))).await.order();
    let waits = ann.call("POST", "/v1/products/2/waitlist", Some(&json!({}))).await;
    assert_eq!(waits.status, 201, "{waits:?}");
    ann.buy("1", 2, None).await.order();
    let window = stage.window().await;
    window.open("/").await;
    let wishes = json!([{"id": "1", "quantity": 3, "key": "interrupted"}]).to_string();
    let kept = format!(
        "({}, sessionStorage.wishes = {}, sessionStorage.joined = '[\"2\"]', sessionStorage.away = 'true')",
        set_session("ann", &ann.token),
        json!(wishes),
    );
    window.js(&kept).await;
    let source = json!({"source": AWAY});
    window.devtools("Page.addScriptToEvaluateOnNewDocument", &source).await;
    window.reload().await;
    window.until_shows("#notice", "does not answer yet").await;
    window.js("sessionStorage.removeItem('away')").await;
    window.until_shows(RESULT, "Yours! 3 units are bought.").await;
    window.until_shows("[data-product='2'] button.quiet", "Place 1 in line").await;
    window.until_shows("#order-list", "2 × Console").await;
    window.until_shows("#order-list", "3 × Console").await;
    let again = ann.buy("1", 3, Some("interrupted")).await;
    assert_eq!(again.headers["idempotent-replayed"], "true");
    window.close().await;
}
