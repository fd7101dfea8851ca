//! An administrator who adds units from time to time.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use serde::Deserialize;
use serde_json::json;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;

use crate::http::{Call, Caller, Server};
use crate::scenario::Restock;
use crate::terminal::note;

const TIMEOUT: Duration = Duration::from_secs(10);

/// Restocks that go on until they are stopped.
pub struct Restocks {
    stop: CancellationToken,
    task: JoinHandle<i64>,
}

/// What the administrator adds, and where.
pub struct Administrator {
    pub server: Arc<Server>,
    pub token: String,
    pub product: String,
    pub restock: Restock,
    /// Units ever put on sale, before the first restock
    pub declared: i64,
}

#[derive(Deserialize)]
struct Product {
    id: String,
    stock: i64,
}

impl Restocks {
    /// Adds the first units after one interval.
    pub fn start(administrator: Administrator) -> Self {
        let stop = CancellationToken::new();
        let task = tokio::spawn(administrator.go_on(stop.clone()));
        Self { stop, task }
    }

    /// Units added, by the answers.
    pub async fn finish(self) -> i64 {
        self.stop.cancel();
        self.task.await.unwrap_or_default()
    }
}

impl Administrator {
    async fn go_on(mut self, stop: CancellationToken) -> i64 {
        let before = self.declared;
        let every = self.restock.every();
        let mut next = interval_at(Instant::now() + every, every);
        next.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return self.declared - before,
                _ = next.tick() => self.add().await,
            }
        }
    }

    /// Adds units once. `from` makes it safe to ask again: after a lost answer, the product says whether they are there.
    async fn add(&mut self) {
        let units = self.restock.units;
        let body = json!({"add": units, "from": self.declared});
        let call = Call::post(format!("/v1/products/{}/restock", self.product), &body);
        let caller = Caller::with_token(&self.token);
        let added = self.declared + i64::from(units);
        let answer = self.server.call(&call, caller, TIMEOUT).await;
        let there = match answer {
            Ok(answer) if answer.status == StatusCode::OK => true,
            _ => self.stock().await == Some(added),
        };
        if there {
            self.declared = added;
        } else {
            note("a restock has no answer; it is tried again at the next time");
        }
    }

    async fn stock(&self) -> Option<i64> {
        let call = Call::get("/v1/products");
        let answer =
            self.server.call(&call, Caller::with_token(&self.token), TIMEOUT).await.ok()?;
        let products: Vec<Product> = serde_json::from_slice(&answer.body).ok()?;
        products.into_iter().find(|product| product.id == self.product).map(|it| it.stock)
    }
}
