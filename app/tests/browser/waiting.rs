//! A place on the waiting list when answers come late, are refused or do not come.

use serde_json::{Value, json};

use super::{Held, Stage, Window};
use crate::common::{Database, SaleSpec, eventually, value};

const QUEUE: &str = "[data-product='1'] button.quiet";
const RESULT: &str = "[data-product='1'] .result";
/// Places are refused with a pause of two seconds, and `asked` has the times of the requests. `recover()` ends it.
const REFUSE: &str = "void ((real) => { window.asked = []; window.fetch = async (path, options) => { \
    if (options.method !== 'GET' || !path.endsWith('/waitlist')) return real(path, options); \
    window.asked.push(performance.now()); \
    return new Response('', {status: 503, headers: {'Retry-After': '2'}}); }; \
    window.recover = () => { window.fetch = real; }; })(window.fetch)";
/// The token of the session is one that the sale does not know.
const SPOIL_TOKEN: &str = "(() => { recover(); const session = JSON.parse(sessionStorage.session); \
    sessionStorage.session = JSON.stringify({...session, token: 'over'}); })()";

/// A sale whose units are all in an unpaid order, and a page on which Ann is logged in.
async fn sold_out() -> (Stage, Window) {
    let products = json!([{"id": "1", "name": "Console", "stock": 9}]);
    let spec = SaleSpec { nodes: 1, products, ..SaleSpec::on(Database::Sqlite) };
    let stage = Stage::set(spec).await;
    let order = json!({"items": [{"product_id": "1", "quantity": 9}]});
    stage.sale.buyer("bob").call("POST", "/v1/orders", Some(&order)).await.order();
    let window = stage.window().await;
    window.open("/").await;
    window.until_shows(QUEUE, "Wait for a unit").await;
    window.sign_up("ann").await;
    (stage, window)
}

impl Stage {
    async fn wait_for_a_unit(&self, buyer: &str) {
        let path = "/v1/products/1/waitlist";
        let waits = self.sale.buyer(buyer).call("POST", path, Some(&json!({}))).await;
        assert_eq!(waits.status, 201, "{waits:?}");
    }
}

impl Window {
    async fn join(&self) {
        self.click(QUEUE).await;
        self.until_shows(RESULT, "You wait.").await;
    }

    async fn leave(&self) {
        self.click(QUEUE).await;
        self.until_shows(QUEUE, "Wait for a unit").await;
    }

    /// The texts below the product and on its button.
    async fn says(&self) -> (Value, Value) {
        let text = |selector| format!("document.querySelector(\"{selector}\").textContent");
        (self.js(&text(RESULT)).await, self.js(&text(QUEUE)).await)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_the_waiting_list_is_not_told_of_a_turn_or_a_place_by_a_late_answer() {
    let (stage, window) = sold_out().await;
    let left = (json!(""), json!("Wait for a unit"));
    // The page asks for the place before Ann leaves, and the server answers after it.
    window.join().await;
    window.hold(Held::Request, "GET", "/waitlist").await;
    stage.wait_for_a_unit("carl").await;
    window.until("held > 0").await;
    window.leave().await;
    window.release().await;
    assert_eq!(window.says().await, left);

    // The server answers before Ann leaves, and the answer arrives after it.
    window.hold(Held::Answer, "GET", "/waitlist").await;
    window.join().await;
    stage.wait_for_a_unit("dave").await;
    window.until("held > 0").await;
    window.leave().await;
    window.release().await;
    assert_eq!(window.says().await, left);

    // The place is asked for after Ann left, and the answer to that is the later one.
    window.hold(Held::Answer, "DELETE", "/waitlist").await;
    window.join().await;
    window.click(QUEUE).await;
    window.until("held > 0").await;
    // Two, so that the count differs from the one before she joined and from the one with her.
    stage.wait_for_a_unit("erin").await;
    stage.wait_for_a_unit("frank").await;
    window.until_shows(QUEUE, "Wait for a unit").await;
    assert_eq!(window.says().await, left);
    window.release().await;
    assert_eq!(window.says().await, left);
    window.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_that_cannot_be_read_is_asked_for_after_a_pause_and_not_with_a_token_that_is_over()
{
    let (stage, window) = sold_out().await;
    window.join().await;
    window.js(REFUSE).await;
    stage.wait_for_a_unit("carl").await;
    window.until("asked.length > 1").await;
    let pause = window.js("asked[1] - asked[0]").await.as_f64().unwrap();
    // A timer may end a moment early.
    assert!(pause > 1990.0, "asked again after {pause} ms");

    window.js(SPOIL_TOKEN).await;
    window.until_shows("#account-reason", "Log in again").await;
    window.until_shows(RESULT, "Log in again").await;
    let refused = "flashsale_http_requests_total{method=\"GET\",route=\"/v1/products/{id}/waitlist\",status=\"401\"}";
    let once = async || value(&stage.sale.metrics().await, refused) == Some(1);
    eventually("the place was asked for once with that token", once).await;
    window.fill("#account-id", "ann").await;
    window.fill("#account-password", "correct horse").await;
    window.click("#do-log-in").await;
    window.until_shows(QUEUE, "Place 1 in line").await;
    window.close().await;
}
