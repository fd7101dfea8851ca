//! The extractors for bodies: JSON, or the bytes as they were sent.

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::JsonRejection;
use axum::extract::{FromRequest, Request};
use axum::http::header::CONTENT_TYPE;
use serde::de::DeserializeOwned;

use super::problem::ApiError;

/// Accepts and rejects the same bodies as axum's [`Json`], but parses a valid body faster: [`Json`]
/// tracks the path to each value for its error messages. This extractor does so only after an error.
#[derive(Debug)]
pub(crate) struct JsonBody<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let kind = request.headers().get(CONTENT_TYPE);
        let read = if kind.is_some_and(|kind| kind == "application/json") {
            let bytes =
                Bytes::from_request(request, state).await.map_err(JsonRejection::BytesRejection)?;
            match serde_json::from_slice(&bytes) {
                Ok(value) => return Ok(Self(value)),
                Err(_) => Json::from_bytes(&bytes),
            }
        } else {
            // The header may carry a parameter, such as `charset`.
            Json::from_request(request, state).await
        };
        Ok(read.map(|Json(value)| Self(value))?)
    }
}

/// The body of a request as it was sent.
#[derive(Debug)]
pub(crate) struct RawBody(pub(crate) Bytes);

impl<S: Send + Sync> FromRequest<S> for RawBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let body = Bytes::from_request(request, state).await;
        Ok(Self(body.map_err(JsonRejection::BytesRejection)?))
    }
}
