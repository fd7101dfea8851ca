//! A replica of each release on one sale, and calls to either of them.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{previous, ready, seed, start};
use crate::common::process::Process;
use crate::common::{Database, PATIENCE, TestSale, eventually};
use crate::receiver::Receiver;

/// The administrator.
pub const SHOP: &str = "shop";
/// What one buyer may have.
const LIMIT: i64 = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Release {
    Before,
    This,
}

struct Replica {
    process: Process,
    runs: bool,
}

impl Replica {
    async fn run(&mut self, sale: &TestSale) {
        if !self.runs {
            self.process.start_again(sale);
            self.runs = true;
        }
        ready(sale, &self.process).await;
    }

    fn stop(&mut self) {
        if self.runs {
            self.process.kill();
            self.runs = false;
        }
    }
}

/// A sale of one product that the release before began, on the tables of this one.
pub struct Releases {
    pub sale: TestSale,
    receiver: Receiver,
    stock: i64,
    before: Replica,
    this: Replica,
    /// `SQLite` has one replica.
    in_turn: bool,
}

impl Releases {
    /// A replica of this release serves; that of the release before, too, if there may be two.
    pub async fn start(database: Database, strategy: &str, stock: i64) -> Self {
        let receiver = Receiver::start().await;
        let sale = start(database, strategy, &receiver).await;
        let (old, new) = (previous(), Path::new(env!("CARGO_BIN_EXE_flashsale-app")));
        let product = json!({"id": "1", "name": "Console", "stock": stock, "max_per_buyer": LIMIT});
        let mut products = json!([product]);
        seed(&old, &sale, &products);
        let mut before = Replica { process: Process::start_program(&sale, &old), runs: true };
        before.run(&sale).await;
        let in_turn = database == Database::Sqlite;
        if in_turn {
            before.stop();
        }
        products[0]["price"] = json!({"amount": 500, "currency": "EUR"});
        seed(new, &sale, &products);
        let mut this = Replica { process: Process::start(&sale), runs: true };
        this.run(&sale).await;
        Self { sale, receiver, stock, before, this, in_turn }
    }

    /// From now on the replica of this release serves: beside the other one, or in its place.
    pub async fn turn_to(&mut self, release: Release) {
        let Self { sale, before, this, in_turn, .. } = self;
        let (replica, other) = match release {
            Release::Before => (before, this),
            Release::This => (this, before),
        };
        if *in_turn {
            other.stop();
        }
        replica.run(sale).await;
    }

    /// The image is rolled back: the release before serves alone, and has just started.
    pub async fn roll_back(&mut self) {
        self.this.stop();
        self.before.stop();
        self.before.run(&self.sale).await;
    }

    fn process(&self, release: Release) -> &Process {
        match release {
            Release::Before => &self.before.process,
            Release::This => &self.this.process,
        }
    }

    /// What `/readyz` of a replica says.
    pub async fn readiness(&self, release: Release) -> (u16, String) {
        let url = format!("http://{}/readyz", self.process(release).internal);
        let answer = self.sale.client.get(url).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    /// The answer of a replica to the owner of a token, whatever it is.
    pub async fn ask(
        &self,
        release: Release,
        token: &str,
        (method, path): (&str, &str),
        body: &Value,
    ) -> (u16, Value) {
        let url = format!("http://{}{path}", self.process(release).api);
        let request = self.sale.client.request(method.parse().unwrap(), url).bearer_auth(token);
        let answer = request.json(body).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    /// The answer of a replica, which is asked again after a failure of the moment.
    pub async fn send(
        &self,
        release: Release,
        who: &str,
        (method, path): (&str, &str),
        body: Option<&Value>,
        key: Option<&str>,
    ) -> (u16, Value) {
        let caller = if who == SHOP { self.sale.admin(who) } else { self.sale.buyer(who) };
        let url = format!("http://{}{path}", self.process(release).api);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let request = self.sale.client.request(method.parse().unwrap(), &url);
            let mut request = request.bearer_auth(&caller.token);
            if let Some(body) = body {
                request = request.json(body);
            }
            if let Some(key) = key {
                request = request.header("Idempotency-Key", key);
            }
            if let Ok(answer) = request.send().await {
                let status = answer.status().as_u16();
                // With `Atomic`, an order is in the database a moment after its answer.
                let is_late = status == 404 && path.starts_with("/v1/orders/");
                if !is_late
                    && !matches!(status, 423 | 429 | 500..)
                    && let Ok(body) = answer.json().await
                {
                    return (status, body);
                }
            }
            assert!(Instant::now() < deadline, "{release:?}: {method} {path} is not answered");
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }

    pub async fn buy(&self, release: Release, who: &str, units: i64, key: &str) -> (u16, Value) {
        let body = json!({"product_id": "1", "quantity": units});
        self.send(release, who, ("POST", "/v1/purchases"), Some(&body), Some(key)).await
    }

    /// Buys as soon as the replica knows that units are there. Returns the order.
    pub async fn bought(&self, release: Release, who: &str, units: i64, key: &str) -> String {
        eventually(&format!("{who} has units"), async || {
            self.buy(release, who, units, key).await.0 == 201
        })
        .await;
        order_of(&self.buy(release, who, units, key).await)
    }

    /// An order that waits for its payment. A buyer has one of them at most.
    pub async fn ordered(&self, release: Release, who: &str, units: i64) -> String {
        let body = json!({"items": [{"product_id": "1", "quantity": units}]});
        let path = ("POST", "/v1/orders");
        let answer = self.send(release, who, path, Some(&body), Some("ordered")).await;
        assert_eq!(answer.1["state"], "pending", "{answer:?}");
        order_of(&answer)
    }

    pub async fn change(
        &self,
        release: Release,
        who: &str,
        order: &str,
        what: &str,
        body: &Value,
    ) -> (u16, Value) {
        let path = format!("/v1/orders/{order}/{what}");
        self.send(release, who, ("POST", &path), Some(body), None).await
    }

    pub async fn cancel(&self, release: Release, who: &str, order: &str) {
        let answer = self.change(release, who, order, "cancel", &Value::Null).await;
        assert_eq!((answer.0, &answer.1["state"]), (200, &json!("cancelled")), "{answer:?}");
    }

    pub async fn pay(&self, release: Release, order: &str) {
        let paid = json!({"result": "paid", "reference": "p1"});
        let answer = self.change(release, SHOP, order, "payment", &paid).await;
        assert_eq!((answer.0, &answer.1["state"]), (200, &json!("paid")), "{answer:?}");
    }

    /// Only this release knows refunds.
    pub async fn refund(&self, order: &str, units_back: bool) {
        let refund = json!({"reference": "r1", "units_back": units_back});
        let answer = self.change(Release::This, SHOP, order, "refund", &refund).await;
        assert_eq!((answer.0, &answer.1["state"]), (200, &json!("refunded")), "{answer:?}");
        assert_eq!(answer.1["units_back"], units_back, "{answer:?}");
    }

    pub async fn state(&self, release: Release, who: &str, order: &str) -> String {
        let path = format!("/v1/orders/{order}");
        let (status, answer) = self.send(release, who, ("GET", &path), None, None).await;
        assert_eq!(status, 200, "{answer}");
        answer["state"].as_str().unwrap().to_owned()
    }

    /// Checks that this many units are left, by the database, its orders and the nodes.
    pub async fn left(&self, units: i64) {
        let ledger = self.sale.ledger();
        eventually(&format!("{units} units are left"), async || {
            ledger.products().await.unwrap()[0].available == units
        })
        .await;
        let taken = "SELECT CAST(coalesce(sum(quantity), 0) AS TEXT) FROM orders \
                     WHERE state NOT IN ('cancelled', 'payment_failed')";
        let taken = self.sale.query(taken).await;
        assert_eq!(taken, [Some((self.stock - units).to_string())]);
        self.sale.await_stock_on_nodes("1", &units.to_string()).await;
    }

    /// Each order has these events, in this order, and there are no others. Both are lists with blanks.
    pub async fn assert_events(&self, expected: &[(&str, &str)]) {
        let ledger = self.sale.ledger();
        eventually("nothing waits to be sent", async || {
            ledger.pending_events().await.unwrap() == 0
        })
        .await;
        for (order, kinds) in expected {
            assert_eq!(self.receiver.kinds_of(order).join(" "), *kinds, "{order}");
        }
        let taken = self.receiver.taken();
        let is_known = |order: &str| expected.iter().any(|(known, _)| *known == order);
        let strange = taken.iter().find(|webhook| !is_known(webhook.order()));
        assert!(strange.is_none(), "{strange:?}");
    }
}

/// The order that an answer tells of.
pub fn order_of((status, answer): &(u16, Value)) -> String {
    assert_eq!(*status, 201, "{answer}");
    answer["order_id"].as_str().unwrap().to_owned()
}
