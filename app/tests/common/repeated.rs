//! Requests that are sent again while something is away.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::{PATIENCE, TestSale};

/// Sends a request until it has an answer that is no failure of the moment.
pub async fn until_answered(
    sale: &TestSale,
    token: &str,
    urls: &[String],
    key: &str,
    body: &Value,
) -> Value {
    let deadline = Instant::now() + 3 * PATIENCE;
    for attempt in 0.. {
        assert!(Instant::now() < deadline, "{key} is not answered");
        let request = sale.client.post(&urls[attempt % urls.len()]).bearer_auth(token);
        let answer = request.header("Idempotency-Key", key).json(body).send().await;
        if let Ok(answer) = answer
            && (answer.status().is_success() || answer.status() == 409)
            && let Ok(body) = answer.json().await
        {
            return body;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Value::Null
}
