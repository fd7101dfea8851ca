//! Bodies of requests.

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::JsonRejection;
use axum::extract::{FromRequest, Request};
use axum::http::header::CONTENT_TYPE;
use serde::de::DeserializeOwned;

/// What axum's [`Json`] takes, and refused as it does, but for less where nothing is wrong: that
/// writes down the path to each value while it reads, in case it is asked where an error was.
#[derive(Debug)]
pub(crate) struct JsonBody<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for JsonBody<T> {
    type Rejection = JsonRejection;

    async fn from_request(request: Request, state: &S) -> Result<Self, JsonRejection> {
        let kind = request.headers().get(CONTENT_TYPE);
        let read = if kind.is_some_and(|kind| kind == "application/json") {
            let bytes = Bytes::from_request(request, state).await?;
            match serde_json::from_slice(&bytes) {
                Ok(value) => return Ok(Self(value)),
                Err(_) => Json::from_bytes(&bytes),
            }
        } else {
            // Perhaps the same with a parameter.
            Json::from_request(request, state).await
        };
        read.map(|Json(value)| Self(value))
    }
}
