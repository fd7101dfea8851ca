//! Browsers that look at a sale of their own, and more tests of the pages: languages, layout, axe and Lighthouse;
//! answers that come late or not at all.

mod axe;
mod forms;
mod languages;
mod layout;
mod lighthouse;
mod money;
mod purchases;
mod waiting;

use std::path::{Path, PathBuf};

use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use testkit::Browser;
use tokio::sync::{Mutex, MutexGuard};

use crate::common::{Answer, Database, SaleSpec, TestSale, eventually};

/// Browsers are heavy: all of a small machine's processors for each test.
static TURN: Mutex<()> = Mutex::const_new(());

/// A sale, and browsers that look at it.
pub struct Stage {
    pub sale: TestSale,
    driver: Browser,
    _turn: MutexGuard<'static, ()>,
}

/// One browser with a profile of its own.
pub struct Window {
    pub client: Client,
    /// Its session at the driver.
    session: String,
    site: String,
    http: reqwest::Client,
}

/// A screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Screen {
    Desktop,
    Phone,
}

/// The languages of a browser that prefers English, and of one that prefers Korean.
pub const ENGLISH: &str = "en-US,en";
pub const KOREAN: &str = "ko-KR,ko";

/// Lets the page's clock go on by ten minutes, as long as units are held.
pub const LATER: &str =
    "void ((now) => { flash.clock.now = () => now() + 600000; })(flash.clock.now)";

/// What `Window::hold` holds back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// It is not sent.
    Request,
    /// The server has answered, the page does not know.
    Answer,
}

/// Arguments: whether answers are held back, the method, the end of the path.
const HOLD: &str = "const [answers, method, ending] = arguments; \
    const real = window.realFetch ??= window.fetch; \
    const released = new Promise((done) => { window.release = done; }); \
    Object.assign(window, {held: 0, taken: 0}); \
    const hold = () => { window.held += 1; return released; }; \
    window.fetch = async (path, options) => { \
        if (options.method !== method || !path.endsWith(ending)) return real(path, options); \
        if (!answers) await hold(); \
        try { \
            const answer = await real(path, options); \
            const text = await answer.text(); \
            if (answers) await hold(); \
            return {status: answer.status, headers: answer.headers, text: async () => text}; \
        } finally { \
            setTimeout(() => { window.taken += 1; }); \
        } };";

/// A sale with an administrator.
pub fn of_admin(products: Value) -> SaleSpec {
    let settings = vec![
        ("ADMIN_ID", "root".to_owned()),
        ("ADMIN_PASSWORD", "correct horse".to_owned()),
        ("HOSTNAME", "black-friday-app-7c9d8-x2k4q".to_owned()),
    ];
    SaleSpec { products, settings, ..SaleSpec::on(Database::Sqlite) }
}

/// The time in this number of seconds.
pub fn in_seconds(seconds: i64) -> jiff::Timestamp {
    jiff::Timestamp::now() + jiff::SignedDuration::from_secs(seconds)
}

/// The modules of axe and Lighthouse, which `cargo xtask test` installs.
fn node_modules() -> PathBuf {
    let own = || Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser/node_modules");
    let folder = std::env::var_os("FLASHSALE_NODE_MODULES").map_or_else(own, PathBuf::from);
    let missing = "is missing: run `cargo xtask test unit`, or `npm ci` in app/tests/browser";
    assert!(folder.is_dir(), "{} {missing}", folder.display());
    folder
}

impl Stage {
    pub async fn set(spec: SaleSpec) -> Self {
        let turn = TURN.lock().await;
        Self { sale: TestSale::start(spec).await, driver: Browser::start().unwrap(), _turn: turn }
    }

    /// Two orders that nobody has paid: the hold of the first is over.
    pub async fn place_unpaid(&self, buyer: &str, product: &str) {
        let buyer = self.sale.buyer(buyer);
        let body = json!({"items": [{"product_id": product}]});
        let place = async || {
            let placed = buyer.call("POST", "/v1/orders", Some(&body)).await;
            placed.order().to_owned()
        };
        let over = place().await;
        let end = format!("UPDATE orders SET expires_at_ms = 1 WHERE id = '{over}'");
        self.sale.execute(&end).await;
        let path = format!("/v1/orders/{over}");
        let state = async || buyer.call("GET", &path, None).await.body["state"].clone();
        eventually("the hold is over", async || state().await == "expired").await;
        place().await;
    }

    /// Buys a unit and reports its payment.
    pub async fn sell(&self, buyer: &str, product: &str) {
        let bought = self.sale.buyer(buyer).buy(product, 1, None).await;
        let path = format!("/v1/orders/{}/payment", bought.order());
        let report = json!({"result": "paid"});
        let paid = self.sale.admin("root").call("POST", &path, Some(&report)).await;
        assert_eq!(paid.status, 200, "{paid:?}");
    }

    /// A payment that an administrator must look at.
    pub async fn report_wrong_payment(&self) {
        let event = "INSERT INTO payment_events \
            (id, provider, event_id, kind, amount, currency, outcome, received_at_ms) \
            VALUES ('0192d7a4-3b4f-7c60-9c0a-0f4c3b2a1d00', 'stripe', 'evt_1', \
            'checkout.session.completed', 58999, 'KRW', 'payment_amount', 1764201600000)";
        assert_eq!(self.sale.execute(event).await, 1);
    }

    pub async fn window(&self) -> Window {
        self.window_of(Screen::Desktop, ENGLISH).await
    }

    pub async fn phone(&self) -> Window {
        self.window_of(Screen::Phone, ENGLISH).await
    }

    /// A browser with this screen whose reader prefers these languages.
    pub async fn window_of(&self, screen: Screen, languages: &str) -> Window {
        let preferences = json!({"intl.accept_languages": languages});
        let mut options = match screen {
            Screen::Desktop => json!({"args": ["--window-size=1280,860"]}),
            Screen::Phone => {
                let metrics = json!({"width": 360, "height": 740, "pixelRatio": 2.0});
                json!({"args": [], "mobileEmulation": {"deviceMetrics": metrics}})
            }
        };
        options["prefs"] = preferences;
        let arguments = options["args"].as_array_mut().unwrap();
        arguments.extend(Browser::arguments().map(Value::from));
        let wanted = json!({
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL"},
        });
        let client = ClientBuilder::new(HttpConnector::new())
            .capabilities(wanted.as_object().unwrap().clone())
            .connect(&self.driver.url())
            .await
            .unwrap();
        let session = client.session_id().await.unwrap().unwrap();
        Window {
            client,
            session: format!("{}/session/{session}", self.driver.url()),
            site: self.sale.replicas[0].api.clone(),
            http: self.sale.client.clone(),
        }
    }
}

impl Window {
    pub async fn open(&self, path: &str) {
        self.client.goto(&format!("{}{path}", self.site)).await.unwrap();
    }

    pub async fn js(&self, expression: &str) -> Value {
        self.client.execute(&format!("return {expression};"), Vec::new()).await.unwrap()
    }

    /// From now on requests of this method to paths with this end are held back: `held` counts them on the page,
    /// `release()` lets them go, and `taken` counts those whose answer the page has dealt with.
    pub async fn hold(&self, what: Held, method: &str, ending: &str) {
        let arguments = vec![json!(what == Held::Answer), json!(method), json!(ending)];
        self.client.execute(HOLD, arguments).await.unwrap();
    }

    /// Lets go what is held back, and waits until the page has dealt with an answer.
    pub async fn release(&self) {
        self.js("release()").await;
        self.until("taken > 0").await;
    }

    pub async fn until(&self, expression: &str) {
        let so = async || self.js(&format!("Boolean({expression})")).await == true;
        eventually(expression, so).await;
    }

    /// Waits until an element that is visible has this text within.
    pub async fn until_shows(&self, selector: &str, text: &str) {
        let element = format!("document.querySelector({})", json!(selector));
        let text = json!(text);
        self.until(&format!(
            "{element}?.checkVisibility() && {element}.innerText.includes({text})"
        ))
        .await;
    }

    pub async fn click(&self, selector: &str) {
        self.until(&format!("document.querySelector({})?.checkVisibility()", json!(selector)))
            .await;
        self.client.find(Locator::Css(selector)).await.unwrap().click().await.unwrap();
    }

    pub async fn fill(&self, selector: &str, text: &str) {
        let input = self.client.find(Locator::Css(selector)).await.unwrap();
        input.clear().await.unwrap();
        input.send_keys(text).await.unwrap();
    }

    /// Creates an account on the page, which logs in with it.
    pub async fn sign_up(&self, name: &str) {
        self.click("#log-in").await;
        self.fill("#account-id", name).await;
        self.fill("#account-password", "correct horse").await;
        self.click("#do-sign-up").await;
        self.until_shows("#who", name).await;
    }

    pub async fn log_in_as_admin(&self) {
        self.open("/admin").await;
        self.fill("#gate-id", "root").await;
        self.fill("#gate-password", "correct horse").await;
        self.click("#gate button").await;
        self.until_shows("#live", "Live").await;
    }

    /// A command of the driver that the standard does not have.
    pub async fn command(&self, path: &str, body: &Value) -> Value {
        let url = format!("{}/{path}", self.session);
        let answer = self.http.post(url).json(body).send().await.unwrap();
        Answer::of(answer).await.body["value"].clone()
    }

    /// What the console says of scripts that failed and of what the policy forbade.
    pub async fn complaints(&self) -> Vec<String> {
        let log = self.command("se/log", &json!({"type": "browser"})).await;
        let log = log.as_array().unwrap().iter();
        log.filter(|entry| entry["source"] != "network")
            .map(|entry| entry["message"].to_string())
            .collect()
    }

    pub async fn picture(&self, name: &str) {
        let Ok(folder) = std::env::var("PAGE_SCREENSHOTS") else { return };
        self.until("document.getAnimations().length === 0").await;
        let picture = self.client.screenshot().await.unwrap();
        std::fs::write(format!("{folder}/{name}.png"), picture).unwrap();
    }

    pub async fn dark(&self) {
        self.colours("dark").await;
    }

    async fn colours(&self, scheme: &str) {
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        self.devtools("Emulation.setEmulatedMedia", &json!({"features": features})).await;
    }

    /// A command of Chromium's own protocol.
    pub async fn devtools(&self, command: &str, parameters: &Value) {
        self.command("goog/cdp/execute", &json!({"cmd": command, "params": parameters})).await;
    }

    pub async fn close(self) {
        assert_eq!(self.complaints().await, Vec::<String>::new());
        self.client.close().await.unwrap();
    }
}
