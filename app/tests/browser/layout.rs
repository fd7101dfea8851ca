//! Nothing moves by itself: cumulative layout shift (CLS), as browsers measure it.

use serde_json::json;

use super::{ENGLISH, KOREAN, Screen, Stage, Window, in_seconds};
use crate::common::{Database, SaleSpec};

/// Of good pages, says web.dev.
const LIMIT: f64 = 0.1;
/// Adds up what moves without the reader's doing.
const OBSERVE: &str = "window.shifts = []; new PerformanceObserver((list) => { \
    for (const shift of list.getEntries()) { \
        if (!shift.hadRecentInput) shifts.push({value: shift.value, \
            nodes: shift.sources.map(({node}) => node?.id || node?.className || node?.nodeName)}); \
    } }).observe({type: 'layout-shift', buffered: true});";

impl Window {
    /// Opens the page over a network that is slow enough to see it before the products arrive.
    async fn open_slowly(&self, path: &str) {
        self.devtools("Page.addScriptToEvaluateOnNewDocument", &json!({"source": OBSERVE})).await;
        let network = json!({"offline": false, "latency": 400, "downloadThroughput": -1, "uploadThroughput": -1});
        self.devtools("Network.enable", &json!({})).await;
        self.devtools("Network.emulateNetworkConditions", &network).await;
        self.open(path).await;
    }

    async fn has_hardly_moved(&self, what: &str) {
        // Two frames: what has moved is reported after it was painted.
        let painted = "requestAnimationFrame(() => requestAnimationFrame(arguments[0]))";
        self.client.execute_async(painted, Vec::new()).await.unwrap();
        let shifts = self.js("shifts").await;
        let values =
            shifts.as_array().unwrap().iter().map(|shift| shift["value"].as_f64().unwrap());
        let sum: f64 = values.sum();
        assert!(sum < LIMIT, "{what}: {sum} {shifts:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_moves_when_the_products_arrive() {
    let many: Vec<_> = (1..8)
        .map(|id| json!({"id": id.to_string(), "name": format!("Product {id}"), "stock": 100}))
        .collect();
    let ends_at = vec![("SALE_ENDS_AT", in_seconds(3600).to_string())];
    for (products, settings) in [(json!(many[..1]), Vec::new()), (json!(many), ends_at)] {
        let count = products.as_array().unwrap().len();
        let spec = SaleSpec { nodes: 1, products, settings, ..SaleSpec::on(Database::Sqlite) };
        let stage = Stage::set(spec).await;
        for screen in [Screen::Phone, Screen::Desktop] {
            for languages in [ENGLISH, KOREAN] {
                let window = stage.window_of(screen, languages).await;
                window.open_slowly("/").await;
                window.until("!document.body.classList.contains('loading')").await;
                let cards =
                    format!("document.querySelectorAll('[data-product]').length === {count}");
                window.until(&cards).await;
                let what = format!("{count} products, {screen:?}, {languages}");
                window.has_hardly_moved(&what).await;
                window.close().await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_button_stays_where_it_is_when_the_sale_opens_and_sells_out() {
    let settings = vec![("SALE_STARTS_AT", in_seconds(25).to_string())];
    let stage = Stage::set(SaleSpec { nodes: 1, settings, ..SaleSpec::on(Database::Sqlite) }).await;
    let window = stage.phone().await;
    window.open_slowly("/").await;
    window.until("document.querySelector('[data-product] button')?.disabled").await;
    let place =
        "JSON.stringify(document.querySelector('[data-product] button').getBoundingClientRect())";
    let before = window.js(place).await;
    window.until("!document.querySelector('[data-product] button').disabled").await;
    assert_eq!(window.js(place).await, before, "it is under the finger of a buyer who waits");
    stage.sale.buyer("ann").buy("1", 100, None).await.order();
    window.until("document.querySelector('[data-product] button').disabled").await;
    assert_eq!(window.js(place).await, before);
    window.has_hardly_moved("the start and the end").await;
    window.close().await;
}
