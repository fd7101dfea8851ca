//! One user: repeats a purchase until the answer is final. Knows the API, but no other user.

use std::ops::RangeInclusive;
use std::time::Duration;

use reqwest::header::RETRY_AFTER;
use reqwest::{Client, Response, StatusCode};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::observed::{Order, Outcome, Purchase};

const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(30);

/// Settings that all users of a run share.
#[derive(Debug)]
pub struct PurchaseOptions {
    pub http: Client,
    pub urls: Vec<String>,
    pub product_id: String,
    pub quantity: u32,
    pub pause: RangeInclusive<Duration>,
    pub max_tries: u32,
    pub answer_timeout: Duration,
    /// One permit for each connection, if users share them.
    pub connections: Option<Semaphore>,
    /// Whether `Retry-After` extends the pause, as on the sale's page.
    pub honours_retry_after: bool,
}

/// A user that has not started yet.
#[derive(Debug)]
pub struct Buyer {
    /// Spreads the users over the URLs.
    pub index: usize,
    /// The subject of the token.
    pub subject: String,
    pub token: String,
}

/// The result of one user.
#[derive(Debug)]
pub struct BuyerResult {
    pub purchase: Purchase,
    pub attempts: Vec<Attempt>,
}

/// One request and its answer.
#[derive(Debug)]
pub struct Attempt {
    /// When the answer came, or was given up.
    pub ended: Instant,
    /// Response time; for a lost answer, the time until it was given up.
    pub took: Duration,
    /// Code of the answer; `sold` is 201.
    pub code: String,
}

#[derive(Serialize)]
struct Request<'a> {
    product_id: &'a str,
    quantity: u32,
}

#[derive(Deserialize)]
struct Created {
    order_id: String,
    quantity: i64,
}

#[derive(Deserialize)]
struct Problem {
    code: String,
}

/// The answer to one attempt.
#[derive(Debug, PartialEq, Eq)]
enum Reply {
    Sold {
        order_id: String,
        quantity: i64,
    },
    /// Final: the rules of the sale refuse the purchase.
    Declined(String),
    /// Final: the request itself is refused.
    Refused(String),
    /// Nothing was sold; retry.
    Busy(String),
    /// The result is unknown; a retry with the same idempotency key reveals it.
    Lost(String),
}

impl Buyer {
    /// Buys; gives up after `max_tries` attempts or at the deadline.
    pub async fn buy(self, options: &PurchaseOptions, deadline: Instant) -> BuyerResult {
        // One key for all attempts: this user wants one purchase.
        let key = Uuid::new_v4().to_string();
        let mut attempts: Vec<Attempt> = Vec::new();
        let mut lost_answers = 0;
        let mut url = self.index;
        let outcome = loop {
            let asked = Instant::now();
            let left = deadline.saturating_duration_since(asked);
            let base = &options.urls[url % options.urls.len()];
            let (answer, retry_after) =
                self.ask(options, base, &key, left.min(options.answer_timeout)).await;
            let ended = Instant::now();
            let code = answer.code().to_owned();
            attempts.push(Attempt { ended, took: ended - asked, code });
            let reason = match answer {
                Reply::Sold { order_id: id, quantity } => {
                    break Outcome::Sold(Order { id, buyer: self.subject.clone(), quantity });
                }
                Reply::Declined(code) => break Outcome::Declined(code),
                Reply::Refused(code) => break Outcome::Unanswered(code),
                Reply::Busy(code) => code,
                Reply::Lost(code) => {
                    lost_answers += 1;
                    // Another replica may be available.
                    url += 1;
                    code
                }
            };
            let mut pause = rand::random_range(options.pause.clone());
            if options.honours_retry_after {
                pause += retry_after;
            }
            let tries = u32::try_from(attempts.len()).unwrap_or(u32::MAX);
            if tries >= options.max_tries || Instant::now() + pause >= deadline {
                break Outcome::Unanswered(reason);
            }
            sleep(pause).await;
        };
        let purchase = Purchase { buyer: self.subject, outcome, lost_answers };
        BuyerResult { purchase, attempts }
    }

    /// The answer, and the time that it asks to wait.
    async fn ask(
        &self,
        options: &PurchaseOptions,
        base: &str,
        key: &str,
        timeout: Duration,
    ) -> (Reply, Duration) {
        let request = options
            .http
            .post(format!("{base}/v1/purchases"))
            .timeout(timeout)
            .bearer_auth(&self.token)
            .header("Idempotency-Key", key)
            .json(&Request { product_id: &options.product_id, quantity: options.quantity });
        // The wait for a connection is part of the time that the user waits. Nobody closes the semaphore.
        let _turn = match &options.connections {
            Some(connections) => connections.acquire().await.ok(),
            None => None,
        };
        match request.send().await {
            Ok(response) => {
                let retry_after = retry_after(&response);
                (read(response).await, retry_after)
            }
            Err(error) => (Reply::Lost(loss(&error)), Duration::ZERO),
        }
    }
}

impl Reply {
    fn code(&self) -> &str {
        match self {
            Self::Sold { .. } => "sold",
            Self::Declined(code) | Self::Refused(code) | Self::Busy(code) | Self::Lost(code) => {
                code
            }
        }
    }

    fn of_problem(status: StatusCode, code: String) -> Self {
        if status.is_server_error() {
            Self::Lost(code)
        } else if matches!(code.as_str(), "sold_out" | "limit_reached") {
            Self::Declined(code)
        } else if matches!(
            status,
            StatusCode::LOCKED
                | StatusCode::TOO_MANY_REQUESTS
                | StatusCode::REQUEST_TIMEOUT
                | StatusCode::TOO_EARLY
        ) {
            Self::Busy(code)
        } else {
            Self::Refused(code)
        }
    }
}

async fn read(response: Response) -> Reply {
    let status = response.status();
    let body = match response.bytes().await {
        Ok(body) => body,
        Err(error) => return Reply::Lost(loss(&error)),
    };
    if status == StatusCode::CREATED {
        return match serde_json::from_slice(&body) {
            Ok(Created { order_id, quantity }) => Reply::Sold { order_id, quantity },
            Err(_) => Reply::Lost("unreadable_answer".to_owned()),
        };
    }
    let problem = serde_json::from_slice(&body).map(|Problem { code }| code);
    Reply::of_problem(status, problem.unwrap_or_else(|_| format!("http_{}", status.as_u16())))
}

fn retry_after(response: &Response) -> Duration {
    let value = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    let seconds = value.and_then(|value| value.parse().ok()).unwrap_or(0);
    Duration::from_secs(seconds).min(LONGEST_RETRY_AFTER)
}

fn loss(error: &reqwest::Error) -> String {
    if error.is_timeout() { "no_answer" } else { "connection_lost" }.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_final_answers_from_those_worth_another_try() {
        let answer = |status: u16, code: &str| {
            Reply::of_problem(StatusCode::from_u16(status).unwrap(), code.to_owned())
        };
        assert_eq!(answer(409, "sold_out"), Reply::Declined("sold_out".to_owned()));
        assert_eq!(answer(409, "limit_reached"), Reply::Declined("limit_reached".to_owned()));
        assert_eq!(answer(423, "lock_timeout"), Reply::Busy("lock_timeout".to_owned()));
        for code in ["quorum_unavailable", "database_unavailable", "overloaded"] {
            assert_eq!(answer(503, code), Reply::Lost(code.to_owned()));
        }
        assert_eq!(answer(500, "http_500"), Reply::Lost("http_500".to_owned()));
        for (status, code) in
            [(401, "token_expired"), (403, "sale_not_open"), (404, "unknown_product")]
        {
            assert_eq!(answer(status, code), Reply::Refused(code.to_owned()));
        }
    }
}
