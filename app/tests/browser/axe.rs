//! axe finds nothing on either page, in any state, in either language, in light and in dark colours.

use std::fs::read_to_string;
use std::sync::LazyLock;

use serde_json::{Value, json};

use super::{ENGLISH, KOREAN, Screen, Stage, Window, in_seconds, node_modules, of_admin};
use crate::common::{Database, SaleSpec};

static AXE: LazyLock<String> =
    LazyLock::new(|| read_to_string(node_modules().join("axe-core/axe.min.js")).unwrap());

const RUN: &str = "const done = arguments[arguments.length - 1]; \
    axe.run(document).then(({passes, violations}) => done({passes: passes.length, violations: \
    violations.map(({id, help, nodes}) => `${id}: ${help}: ${nodes.map((node) => node.html)}`)}), \
    (error) => done({violations: [String(error)]}));";

impl Window {
    /// Fails with what axe finds in this state of the page.
    async fn is_accessible(&self, state: &str) {
        if self.js("typeof axe === 'undefined'").await == true {
            self.client.execute(&AXE, Vec::new()).await.unwrap();
        }
        for scheme in ["light", "dark"] {
            self.colours(scheme).await;
            self.until("document.getAnimations().length === 0").await;
            let result = self.client.execute_async(RUN, Vec::new()).await.unwrap();
            assert_eq!(result["violations"], json!([]), "{state}, {scheme}");
            assert!(result["passes"].as_i64().unwrap() > 15, "{state}, {scheme}: {result}");
        }
        self.colours("light").await;
    }

    async fn submit(&self, dialog: &str, id: &str, password: &str, button: &str) {
        self.fill(&format!("#{dialog}-id"), id).await;
        self.fill(&format!("#{dialog}-password"), password).await;
        self.click(button).await;
    }
}

/// One buyer may have one console; of the two, one is left at the second look. Somebody else holds the headset.
fn products() -> Value {
    let price = json!({"amount": 5_900, "currency": "EUR"});
    json!([
        {"id": "1", "name": "Console", "stock": 2, "max_per_buyer": 1},
        {"id": "2", "name": "Game", "stock": 1_000_000, "price": price},
        {"id": "3", "name": "Headset", "stock": 1},
    ])
}

async fn sale_at(name: &'static str, seconds: i64) -> Stage {
    let settings = vec![(name, in_seconds(seconds).to_string())];
    let products = products();
    Stage::set(SaleSpec { nodes: 1, products, settings, ..SaleSpec::on(Database::Sqlite) }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn axe_finds_nothing_before_and_after_the_sale() {
    for (setting, seconds, button) in
        [("SALE_STARTS_AT", 3600, "scheduled"), ("SALE_ENDS_AT", -5, "ended")]
    {
        let stage = sale_at(setting, seconds).await;
        for languages in [ENGLISH, KOREAN] {
            for screen in [Screen::Desktop, Screen::Phone] {
                let window = stage.window_of(screen, languages).await;
                window.open("/").await;
                window.until("document.querySelector('[data-product] button')?.disabled").await;
                window.is_accessible(button).await;
                window.close().await;
            }
        }
    }
}

const BUY: &str = "[data-product='1'] form button";
const RESULT: &str = "document.querySelector(\"[data-product='1'] .result\")";
const PRICE: &str = "[data-product='2'] .price";
const QUEUE: &str = "[data-product='3'] button.quiet";
const WAITS: &str =
    "document.querySelector(\"[data-product='3'] .result\").dataset.kind === 'wait'";
const INVITE_CODE: &str = "code-of-the-buyers";

async fn sale_page(stage: &Stage, screen: Screen, languages: &str, buyer: &str) {
    let headset = json!({"items": [{"product_id": "3"}]});
    stage.sale.buyer("holder").call("POST", "/v1/orders", Some(&headset)).await.order();
    stage.place_unpaid(buyer, "2").await;
    let window = stage.window_of(screen, languages).await;
    window.open("/").await;
    window.until("document.querySelector('#live').dataset.state === 'on'").await;
    window.until_shows(PRICE, "59.00").await;
    window.until(&format!("document.querySelector(\"{QUEUE}\").checkVisibility()")).await;
    window.is_accessible("open").await;

    window.click(BUY).await;
    window.until("document.querySelector('#account').open").await;
    window.is_accessible("the log-in").await;
    window.submit("account", buyer, "wrong horse", "#do-log-in").await;
    window.until("document.querySelector('#account-error').innerText").await;
    window.is_accessible("a wrong log-in").await;
    window.submit("account", buyer, "correct horse", "#do-sign-up").await;
    window.until("document.querySelector('#account-invite').checkVisibility()").await;
    window.is_accessible("asked for an invite code").await;
    window.fill("#account-code", INVITE_CODE).await;
    window.submit("account", buyer, "correct horse", "#do-sign-up").await;
    window.until(&format!("{RESULT}.dataset.kind === 'good'")).await;
    window.until("document.querySelectorAll('#order-list li').length === 3").await;
    window.until("document.querySelector('#order-list .held')").await;
    window.until("document.querySelector('#order-list .over')").await;
    window.is_accessible("bought, held and expired").await;

    window.click(QUEUE).await;
    window.until(WAITS).await;
    window.click(BUY).await;
    window.until(&format!("{RESULT}.dataset.kind === 'bad'")).await;
    window.is_accessible("refused, and on a waiting list").await;
    let other = stage.sale.buyer(&format!("faster-{buyer}"));
    other.buy("1", 1, None).await.order();
    window.until(&format!("document.querySelector(\"{BUY}\").disabled")).await;
    window.is_accessible("sold out").await;

    window.devtools("Network.enable", &json!({})).await;
    window.devtools("Network.setBlockedURLs", &json!({"urls": ["*/v1/*"]})).await;
    window.client.refresh().await.unwrap();
    window.until("!document.querySelector('#notice').hidden").await;
    window.is_accessible("no answer").await;
    window.client.clone().close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn axe_finds_nothing_while_buyers_buy() {
    for (screen, languages) in [(Screen::Desktop, ENGLISH), (Screen::Phone, KOREAN)] {
        let products = products();
        let settings =
            vec![("SIGN_UP", "Invited".to_owned()), ("INVITE_CODES", INVITE_CODE.to_owned())];
        let spec = SaleSpec { nodes: 1, products, settings, ..SaleSpec::on(Database::Sqlite) };
        sale_page(&Stage::set(spec).await, screen, languages, "ann").await;
    }
}

async fn administration(stage: &Stage, screen: Screen, languages: &str) {
    let window = stage.window_of(screen, languages).await;
    window.open("/admin").await;
    window.until("document.querySelector('#gate').checkVisibility()").await;
    window.is_accessible("the gate").await;
    window.submit("gate", "root", "wrong horse", "#gate button").await;
    window.until("!document.querySelector('#gate-error').hidden").await;
    window.is_accessible("a wrong log-in").await;
    window.submit("gate", "root", "correct horse", "#gate button").await;
    window.until("document.querySelector('[data-product]')").await;
    window.is_accessible("the board").await;
    window.fill("#o-id", "no id").await;
    window.click("#orders-search").await;
    window.until("!document.querySelector('#orders-error').hidden").await;
    window.is_accessible("a wrong search").await;
    window.fill("#o-id", "").await;
    window.fill("#o-buyer", "nobody").await;
    window.click("#orders-search").await;
    window.until("!document.querySelector('#orders-none').hidden").await;
    window.fill("#o-buyer", "").await;
    window.click("#orders-search").await;
    window.until("document.querySelector('#orders-found li')").await;
    window.click("#audit-show").await;
    window.until("document.querySelector('#audit-found li')").await;
    window.click("#payments-show").await;
    window.until("document.querySelector('#payments-found li')").await;
    window.is_accessible("orders, payments and the audit log").await;
    window.click("#orders-found button").await;
    window.until_shows("#refund-text", "59.00").await;
    window.is_accessible("a refund").await;
    window.click("#refund-close").await;

    window.click("#new").await;
    window.is_accessible("a new product").await;
    window.fill("#e-id", "a b").await;
    window.fill("#e-stock", "7").await;
    window.fill("#e-name", "Headset").await;
    window.click("#edit-do").await;
    window.until("document.querySelector('#e-id').getAttribute('aria-invalid')").await;
    window.is_accessible("a wrong product").await;
    window.click("#edit-close").await;
    window.click("[data-product='2'] [data-does=restock]").await;
    window.fill("#e-add", "5").await;
    window.is_accessible("a restock").await;
    window.click("#edit-do").await;
    window.until("!document.querySelector('#notice').hidden").await;
    window.is_accessible("restocked").await;
    window.click("[data-product='2'] [data-does=delete]").await;
    window.is_accessible("a deletion").await;
    window.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn axe_finds_nothing_on_the_administration() {
    let stage = Stage::set(SaleSpec { nodes: 1, ..of_admin(products()) }).await;
    stage.sell("ann", "2").await;
    stage.report_wrong_payment().await;
    let restock = json!({"add": 1});
    stage.sale.admin("root").call("POST", "/v1/products/2/restock", Some(&restock)).await;
    for (screen, languages) in [(Screen::Phone, ENGLISH), (Screen::Desktop, KOREAN)] {
        administration(&stage, screen, languages).await;
    }
}
