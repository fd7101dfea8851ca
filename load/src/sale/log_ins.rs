//! One account that logs in again and again. Each request takes a new connection, so that it may reach another replica:
//! a token of one replica must be accepted by all of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::http::{Call, Caller, Server};
use crate::observed::REFUSED;

const TIMEOUT: Duration = Duration::from_secs(5);
const ACCEPTED: &str = "ok";

/// Log-ins that go on until they are stopped.
pub struct LogIns {
    stop: CancellationToken,
    task: JoinHandle<BTreeMap<String, u32>>,
}

#[derive(Deserialize)]
struct LoggedIn {
    access_token: String,
}

impl LogIns {
    /// Signs up an account and starts to log in.
    pub fn start(server: Arc<Server>, id: String, between: Duration) -> Self {
        let stop = CancellationToken::new();
        let account = Account { server, password: format!("password-of-{id}"), id };
        let task = tokio::spawn(account.go_on(between, stop.clone()));
        Self { stop, task }
    }

    /// The number of new tokens, by the result of their first use.
    pub async fn finish(self) -> BTreeMap<String, u32> {
        self.stop.cancel();
        self.task.await.unwrap_or_default()
    }
}

struct Account {
    server: Arc<Server>,
    id: String,
    password: String,
}

impl Account {
    async fn go_on(self, between: Duration, stop: CancellationToken) -> BTreeMap<String, u32> {
        let mut results = BTreeMap::new();
        let mut next = interval(between);
        next.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut has_account = false;
        loop {
            tokio::select! {
                () = stop.cancelled() => return results,
                _ = next.tick() => {}
            }
            if !has_account {
                // 409: an earlier answer was lost.
                let signed_up = self.send(&self.post("signup"), None).await;
                let there = [StatusCode::CREATED, StatusCode::CONFLICT];
                has_account = signed_up.is_ok_and(|(status, _)| there.contains(&status));
                continue;
            }
            *results.entry(self.log_in().await).or_default() += 1;
        }
    }

    fn post(&self, call: &str) -> Call {
        let body = json!({ "id": self.id, "password": self.password });
        Call::post(format!("/v1/auth/{call}"), &body)
    }

    /// Logs in and uses the token once.
    async fn log_in(&self) -> String {
        let (status, body) = match self.send(&self.post("login"), None).await {
            Ok(answer) => answer,
            Err(lost) => return format!("no log-in: {lost}"),
        };
        let Ok(LoggedIn { access_token }) = serde_json::from_value(body.clone()) else {
            return format!("no log-in: {}", code(status, &body));
        };
        match self.send(&Call::get("/v1/auth/me"), Some(&access_token)).await {
            Ok((StatusCode::OK, _)) => ACCEPTED.to_owned(),
            Ok((status, body)) if status.is_client_error() => {
                format!("{REFUSED}{}", code(status, &body))
            }
            Ok((status, body)) => format!("not tried: {}", code(status, &body)),
            Err(lost) => format!("not tried: {lost}"),
        }
    }

    /// On a connection of its own.
    async fn send(
        &self,
        call: &Call,
        token: Option<&str>,
    ) -> Result<(StatusCode, Value), &'static str> {
        let caller = Caller { token, idempotency_key: None };
        let answer = self.server.call(call, caller, TIMEOUT).await;
        let answer = answer.map_err(|_| "connection_lost")?;
        Ok((answer.status, serde_json::from_slice(&answer.body).unwrap_or_default()))
    }
}

fn code(status: StatusCode, body: &Value) -> String {
    body["code"].as_str().map_or_else(|| format!("http_{}", status.as_u16()), str::to_owned)
}
