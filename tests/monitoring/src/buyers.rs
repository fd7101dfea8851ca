//! Buyers at work on all replicas: purchases, orders, payments, coupons and log-ins.

mod checkout;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use reqwest::{Client, RequestBuilder};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::shop::{Replica, Shop, token};

/// Number of buyers on each replica.
const BUYERS: usize = 4;
/// Between two requests of a buyer.
const PACE: Duration = Duration::from_millis(30);
/// Between two log-ins: each takes a processor for a while.
const LOG_IN_PACE: Duration = Duration::from_millis(500);
const COUPON: &str = "ten-percent";

/// They go on until they are stopped.
pub struct Buyers {
    stopped: Arc<AtomicBool>,
    tasks: JoinSet<()>,
}

impl Buyers {
    /// Starts them.
    ///
    /// # Errors
    /// When the coupon cannot be made.
    pub async fn start(shop: &Shop) -> Result<Self> {
        let coupon = json!({ "id": COUPON, "quantity": 1_000_000 });
        let made = shop.call(("admin", "admin"), "POST", "/v1/coupons", coupon).await?;
        ensure!(made.0 == 201, "{made:?}");
        let stopped = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for (replica, at) in shop.replicas.iter().zip(0..) {
            for number in 0..BUYERS {
                let name = format!("buyer-{at}-{number}");
                let token = token(&name, "buyer")?;
                let client = Caller::new(shop, replica, token);
                tasks.spawn(buy(client, name, Arc::clone(&stopped)));
            }
        }
        let client = Caller::new(shop, &shop.replicas[0], String::new());
        tasks.spawn(log_in(client, Arc::clone(&stopped)));
        Ok(Self { stopped, tasks })
    }

    /// Stops them, when their last requests are answered.
    pub async fn stop(mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        while self.tasks.join_next().await.is_some() {}
    }
}

struct Caller {
    http: Client,
    api: String,
    token: String,
}

impl Caller {
    fn new(shop: &Shop, replica: &Replica, token: String) -> Self {
        Self { http: shop.http.clone(), api: replica.api(), token }
    }

    async fn post(&self, path: &str, body: &Value, key: &str) -> Value {
        let request = self.http.post(format!("{}{path}", self.api));
        self.send(request.header("Idempotency-Key", key).json(body)).await
    }

    /// Sends a request. Replicas may be away: then there is no answer.
    async fn send(&self, request: RequestBuilder) -> Value {
        match request.bearer_auth(&self.token).send().await {
            Ok(answer) => answer.json().await.unwrap_or_default(),
            Err(_) => Value::Null,
        }
    }
}

async fn buy(caller: Caller, name: String, stopped: Arc<AtomicBool>) {
    for round in 0_u32.. {
        if stopped.load(Ordering::Relaxed) {
            return;
        }
        let key = format!("{name}-{round}");
        let product = if round % 5 == 1 { "2" } else { "1" };
        let purchase = json!({ "product_id": product, "quantity": 1 });
        caller.post("/v1/purchases", &purchase, &key).await;
        match round % 8 {
            2 => drop(caller.post("/v1/purchases", &purchase, &key).await),
            4 => order(&caller, &key, round).await,
            6 => {
                caller.post(&format!("/v1/coupons/{COUPON}/issue"), &json!({}), &key).await;
            }
            7 => drop(caller.http.get(format!("{}/v1/products", caller.api)).send().await),
            _ => {}
        }
        tokio::time::sleep(PACE).await;
    }
}

/// An order that stays pending, is paid, or is cancelled.
async fn order(caller: &Caller, key: &str, round: u32) {
    let items = json!({ "items": [{ "product_id": "1", "quantity": 2 }] });
    let placed = caller.post("/v1/orders", &items, &format!("order-{key}")).await;
    let Some(id) = placed["order_id"].as_str() else { return };
    match round / 8 % 3 {
        0 => {}
        1 => {
            let Ok(token) = token("admin", "admin") else { return };
            let payments = Caller { http: caller.http.clone(), api: caller.api.clone(), token };
            let paid = json!({ "result": "paid" });
            payments.post(&format!("/v1/orders/{id}/payment"), &paid, key).await;
        }
        _ => drop(caller.post(&format!("/v1/orders/{id}/cancel"), &json!({}), key).await),
    }
}

/// Sign-ups and log-ins, every second one with a wrong password.
async fn log_in(caller: Caller, stopped: Arc<AtomicBool>) {
    for round in 0_u32.. {
        if stopped.load(Ordering::Relaxed) {
            return;
        }
        let account =
            json!({ "id": format!("account-{}", round / 2), "password": "correct horse" });
        caller.post("/v1/auth/signup", &account, "").await;
        let wrong = json!({ "id": account["id"], "password": "wrong horse" });
        let sent = if round % 2 == 0 { &account } else { &wrong };
        caller.post("/v1/auth/login", sent, "").await;
        tokio::time::sleep(LOG_IN_PACE).await;
    }
}
