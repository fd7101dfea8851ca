//! Buyers at several replicas: they buy, order, ask twice, pay and cancel at random, and note what they were told. Beside
//! them the shop refunds.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::common::process::Process;
use crate::common::{PATIENCE, TestSale};

pub const BUYERS: usize = 8;
/// What buyers do in each part of the test.
const ACTIONS: usize = 60;
/// Paid orders of these are refunded.
const REFUNDED: [&str; 4] = ["b0", "b1", "b2", "b3"];
/// Id, stock and limit per buyer.
pub const PRODUCTS: [(&str, i64, Option<i64>); 3] =
    [("1", 100_000, None), ("2", 100_000, Some(25)), ("3", 150, None)];

/// What is known of an order from its answers.
#[derive(Debug, Clone)]
pub struct Known {
    pub buyer: String,
    /// By product.
    pub items: Vec<(String, i64)>,
    pub kinds: Vec<&'static str>,
    /// It was asked for when the sale had a receiver of events already.
    pub has_events: bool,
    /// It was refunded with its units.
    pub units_back: bool,
}

/// The buyers, and what they were told.
pub struct Crowd<'a> {
    pub sale: &'a TestSale,
    tokens: Vec<String>,
    admin: String,
    /// The replicas that are asked.
    apis: Mutex<Vec<String>>,
    /// Those that can refund.
    refunders: Mutex<Vec<String>>,
    pub orders: Mutex<HashMap<String, Known>>,
    pub is_over: AtomicBool,
    done: AtomicUsize,
    pub has_events: AtomicBool,
    /// Orders of several products.
    has_orders: bool,
}

impl<'a> Crowd<'a> {
    pub fn of(sale: &'a TestSale, has_orders: bool) -> Self {
        let tokens = (0..BUYERS).map(|number| sale.buyer(&format!("b{number}")).token);
        Self {
            sale,
            tokens: tokens.collect(),
            admin: sale.admin("shop").token,
            apis: Mutex::default(),
            refunders: Mutex::default(),
            orders: Mutex::default(),
            is_over: AtomicBool::new(false),
            done: AtomicUsize::new(0),
            has_events: AtomicBool::new(false),
            has_orders,
        }
    }

    /// From now on these replicas are asked.
    pub fn ask(&self, processes: &[&Process]) {
        *self.apis.lock().unwrap() = apis(processes);
    }

    /// From now on these replicas refund.
    pub fn refund_at(&self, processes: &[&Process]) {
        *self.refunders.lock().unwrap() = apis(processes);
    }

    /// Waits until buyers have done more.
    pub async fn more(&self) {
        let until = self.done.load(Ordering::Relaxed) + ACTIONS;
        let deadline = Instant::now() + 4 * PATIENCE;
        while self.done.load(Ordering::Relaxed) < until {
            assert!(Instant::now() < deadline, "buyers buy no more");
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }

    /// Sends a request to any of these replicas until it has an answer that is no failure of the moment.
    async fn send(
        &self,
        apis: &Mutex<Vec<String>>,
        token: &str,
        path: &str,
        key: &str,
        body: &Value,
    ) -> (u16, Value) {
        // Those that refund are away for a part of the test.
        let patiences: u32 = if path.ends_with("/refund") { 6 } else { 2 };
        let deadline = Instant::now() + patiences * PATIENCE;
        loop {
            assert!(Instant::now() < deadline, "{path} {key} is not answered");
            let url = {
                let apis = apis.lock().unwrap();
                format!("http://{}{path}", apis[rand::random_range(0..apis.len())])
            };
            let request = self.sale.client.post(url).bearer_auth(token);
            let answer = request.header("Idempotency-Key", key).json(body).send().await;
            if let Ok(answer) = answer
                && !matches!(answer.status().as_u16(), 423 | 429 | 500..)
            {
                let status = answer.status().as_u16();
                if let Ok(body) = answer.json().await {
                    return (status, body);
                }
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }

    pub async fn buys(&self, number: usize) {
        let token = &self.tokens[number];
        for action in 0.. {
            if self.is_over.load(Ordering::Relaxed) {
                return;
            }
            self.act(number, token, &format!("key-{action}")).await;
            self.done.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Buys or orders, asks for the same once more, and pays, cancels, or leaves it.
    async fn act(&self, number: usize, token: &str, key: &str) {
        let has_events = self.has_events.load(Ordering::Relaxed);
        let quantity = rand::random_range(1..=2);
        let product = PRODUCTS[rand::random_range(0..3)].0;
        let is_purchase = !self.has_orders || rand::random();
        let mut items = vec![(product.to_owned(), quantity)];
        let (path, body) = if is_purchase {
            ("/v1/purchases", json!({"product_id": product, "quantity": quantity}))
        } else {
            if product == "1" && rand::random() {
                items.push(("2".to_owned(), 1));
            }
            let items = items.iter();
            let items: Vec<Value> = items
                .map(|(id, quantity)| json!({"product_id": id, "quantity": quantity}))
                .collect();
            ("/v1/orders", json!({"items": items}))
        };
        let (status, answer) = self.send(&self.apis, token, path, key, &body).await;
        if status == 409 {
            let code = answer["code"].as_str().unwrap();
            assert!(matches!(code, "sold_out" | "limit_reached"), "{answer}");
            return;
        }
        assert_eq!(status, 201, "{answer}");
        let order = answer["order_id"].as_str().unwrap();
        // Any replica knows the key, whichever sold.
        let (status, again) = self.send(&self.apis, token, path, key, &body).await;
        assert_eq!((status, &again["order_id"]), (201, &answer["order_id"]), "{again}");
        let mut kinds = vec![if is_purchase { "confirmed" } else { "pending" }];
        match rand::random_range(0..3) {
            0 => {
                let report = json!({"result": "paid", "reference": "p1"});
                let path = format!("/v1/orders/{order}/payment");
                let (status, answer) = self.settle(&self.admin, &path, &report).await;
                assert_eq!((status, &answer["state"]), (200, &json!("paid")), "{answer}");
                kinds.push("paid");
            }
            1 => {
                let path = format!("/v1/orders/{order}/cancel");
                let (status, answer) = self.settle(token, &path, &json!(null)).await;
                assert_eq!((status, &answer["state"]), (200, &json!("cancelled")), "{answer}");
                kinds.push("cancelled");
            }
            _ => {}
        }
        let buyer = format!("b{number}");
        let known = Known { buyer, items, kinds, has_events, units_back: false };
        let before = self.orders.lock().unwrap().insert(order.to_owned(), known);
        assert!(before.is_none(), "{order} was sold twice");
    }

    /// Refunds paid orders until the buyers have ended, every other one with its units.
    pub async fn refunds(&self) {
        let mut units_back = false;
        while !self.is_over.load(Ordering::Relaxed) {
            let Some(order) = self.next_to_refund() else {
                tokio::time::sleep(Duration::from_millis(25)).await;
                continue;
            };
            units_back = !units_back;
            let (path, key) = (format!("/v1/orders/{order}/refund"), "refund");
            let body = json!({"reference": "r1", "units_back": units_back});
            let answer = self.send(&self.refunders, &self.admin, &path, key, &body).await;
            assert_eq!((answer.0, &answer.1["state"]), (200, &json!("refunded")), "{answer:?}");
            let mut orders = self.orders.lock().unwrap();
            let known = orders.get_mut(&order).unwrap();
            known.kinds.push("refunded");
            known.units_back = units_back;
        }
    }

    fn next_to_refund(&self) -> Option<String> {
        if self.refunders.lock().unwrap().is_empty() {
            return None;
        }
        let is_due = |known: &Known| {
            known.kinds.last() == Some(&"paid") && REFUNDED.contains(&known.buyer.as_str())
        };
        let orders = self.orders.lock().unwrap();
        orders.iter().find(|(_, known)| is_due(known)).map(|(order, _)| order.clone())
    }

    /// With `Atomic`, an order is in the database a moment after its answer.
    async fn settle(&self, token: &str, path: &str, body: &Value) -> (u16, Value) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.send(&self.apis, token, path, "settle", body).await;
            if answer.0 != 404 || Instant::now() > deadline {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }
}

fn apis(processes: &[&Process]) -> Vec<String> {
    processes.iter().map(|process| process.api.clone()).collect()
}
