//! What the API answered.

use reqwest::Response;
use serde_json::Value;

use super::documented;

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub body: Value,
}

impl Answer {
    pub async fn of(response: Response) -> Self {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let path = response.url().path().to_owned();
        let body = response.json().await.unwrap_or(Value::Null);
        documented::check(&path, status, &headers, &body);
        Self { status, headers, body }
    }

    /// The status and the problem's code.
    pub fn problem(&self) -> (u16, &str) {
        assert_eq!(self.headers["content-type"], "application/problem+json", "{self:?}");
        assert_eq!(self.body["status"], self.status, "{self:?}");
        (self.status, self.body["code"].as_str().unwrap())
    }

    pub fn order(&self) -> &str {
        assert_eq!(self.status, 201, "{self:?}");
        self.body["order_id"].as_str().unwrap()
    }

    /// The status and the state of an order.
    pub fn state(&self) -> (u16, &str) {
        (self.status, self.body["state"].as_str().unwrap())
    }

    /// Whether it is that of an earlier request.
    pub fn is_replayed(&self) -> bool {
        self.headers.contains_key("idempotent-replayed")
    }
}
