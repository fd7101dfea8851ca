//! One account that logs in again and again. Each request takes a new connection, so that it may reach another replica:
//! a token of one replica must be accepted by all of them.

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::{Client, RequestBuilder, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::observed::REFUSED;

const TIMEOUT: Duration = Duration::from_secs(5);
const ACCEPTED: &str = "ok";

/// Log-ins that go on until they are told to stop.
pub struct LogIns {
    stop: CancellationToken,
    task: JoinHandle<BTreeMap<String, u32>>,
}

#[derive(Deserialize)]
struct LoggedIn {
    access_token: String,
}

impl LogIns {
    /// Signs up an account and starts to log in. Without keep-alive in `http`, each request takes a connection of its own.
    pub fn start(http: Client, url: String, id: String, between: Duration) -> Self {
        let stop = CancellationToken::new();
        let account = Account { http, url, password: format!("password-of-{id}"), id };
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
    http: Client,
    url: String,
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
                let signed_up = self.send(self.post("signup")).await;
                let there = [StatusCode::CREATED, StatusCode::CONFLICT];
                has_account = signed_up.is_ok_and(|(status, _)| there.contains(&status));
                continue;
            }
            *results.entry(self.log_in().await).or_default() += 1;
        }
    }

    fn post(&self, call: &str) -> RequestBuilder {
        let body = json!({ "id": self.id, "password": self.password });
        self.http.post(format!("{}/v1/auth/{call}", self.url)).json(&body)
    }

    /// Logs in and uses the token once.
    async fn log_in(&self) -> String {
        let (status, body) = match self.send(self.post("login")).await {
            Ok(answer) => answer,
            Err(lost) => return format!("no log-in: {lost}"),
        };
        let Ok(LoggedIn { access_token }) = serde_json::from_value(body.clone()) else {
            return format!("no log-in: {}", code(status, &body));
        };
        let me = self.http.get(format!("{}/v1/auth/me", self.url)).bearer_auth(access_token);
        match self.send(me).await {
            Ok((StatusCode::OK, _)) => ACCEPTED.to_owned(),
            Ok((status, body)) if status.is_client_error() => {
                format!("{REFUSED}{}", code(status, &body))
            }
            Ok((status, body)) => format!("not tried: {}", code(status, &body)),
            Err(lost) => format!("not tried: {lost}"),
        }
    }

    async fn send(&self, request: RequestBuilder) -> Result<(StatusCode, Value), &'static str> {
        let answer = request.timeout(TIMEOUT).send().await.map_err(|_| "connection_lost")?;
        let status = answer.status();
        Ok((status, answer.json().await.unwrap_or_default()))
    }
}

fn code(status: StatusCode, body: &Value) -> String {
    body["code"].as_str().map_or_else(|| format!("http_{}", status.as_u16()), str::to_owned)
}
