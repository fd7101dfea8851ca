//! Buying.

use std::convert::Infallible;
use std::fmt::{self, Formatter};
use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use ledger::Purchase;
use sale::{Receipt, Sale};
use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::api::extract::Authenticated;
use crate::http::json::JsonBody;
use crate::http::problem::{ApiError, Problem};

/// More than anybody buys at once, and far from any overflow.
pub(super) const MAX_QUANTITY: i64 = 1_000_000;
/// As the catalog has it.
pub(super) const MAX_PRODUCT_ID: usize = 63;
pub(crate) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
pub(super) const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// What to buy.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PurchaseRequest {
    /// The product; a number is taken as its decimal string.
    #[serde(deserialize_with = "string_or_number")]
    #[schema(example = "1")]
    product_id: String,
    /// Units, 1 to 1000000.
    #[serde(default = "one")]
    #[schema(example = 1, minimum = 1, maximum = 1_000_000, default = 1)]
    quantity: i64,
}

/// Units bought: committed.
#[derive(Serialize, ToSchema)]
pub(crate) struct OrderView {
    #[schema(value_type = String)]
    order_id: Uuid,
    product_id: String,
    quantity: i64,
    buyer: String,
}

pub(super) fn one() -> i64 {
    1
}

/// Not an untagged enum: that would copy the value before it looks at it, with every purchase.
pub(super) fn string_or_number<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<String, D::Error> {
    struct StringOrNumber;
    impl Visitor<'_> for StringOrNumber {
        type Value = String;

        fn expecting(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
            formatter.write_str("a string or a whole number")
        }

        fn visit_str<E>(self, text: &str) -> Result<String, E> {
            Ok(text.to_owned())
        }

        fn visit_i64<E>(self, number: i64) -> Result<String, E> {
            Ok(number.to_string())
        }

        fn visit_u64<E>(self, number: u64) -> Result<String, E> {
            Ok(number.to_string())
        }
    }
    deserializer.deserialize_any(StringOrNumber)
}

/// Buys. With an `Idempotency-Key` it can be repeated safely: the same key leads to the same
/// order, never to a second one.
#[utoipa::path(post, path = "/v1/purchases", tag = "purchases", security(("bearer" = [])),
    params(("Idempotency-Key" = Option<String>, Header, description = "1 to 255 visible ASCII characters, chosen by the buyer")),
    request_body = PurchaseRequest,
    responses(
        (status = 201, description = "Bought and committed. `Idempotent-Replayed: true` if it was before.", body = OrderView),
        (status = 400, description = "`invalid_json`", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "`unauthenticated`, `token_expired`", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "`sale_not_open`", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "`unknown_product`", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "`sold_out`, `limit_reached`", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "`body_too_large`", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "`unsupported_media_type`", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "`invalid_request`, `idempotency_key_reused`", body = Problem, content_type = "application/problem+json"),
        (status = 423, description = "`lock_timeout`: try again", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "`quorum_unavailable`, `overloaded`, `database_unavailable`, `stock_unavailable`, `interrupted`: try again after `Retry-After` with the same key", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn purchase(
    Authenticated(claims): Authenticated,
    State(sale): State<Arc<Sale>>,
    idempotency_key: IdempotencyKey,
    body: Result<JsonBody<PurchaseRequest>, JsonRejection>,
) -> Result<(StatusCode, HeaderMap, Json<OrderView>), ApiError> {
    let JsonBody(PurchaseRequest { product_id, quantity }) = body?;
    if !(1..=MAX_QUANTITY).contains(&quantity) {
        return Err(ApiError::Field { field: "quantity", rule: "must be from 1 to 1000000" });
    }
    if product_id.len() > MAX_PRODUCT_ID {
        return Err(ApiError::Field { field: "product_id", rule: "must have at most 63 bytes" });
    }
    let purchase = Purchase { buyer: claims.sub, quantity, idempotency_key: idempotency_key.0? };
    let Receipt { order, replayed } = sale.purchase(&product_id, purchase).await?;
    let mut headers = HeaderMap::new();
    if replayed {
        headers.insert(REPLAYED, HeaderValue::from_static("true"));
    }
    let view = OrderView {
        order_id: order.id,
        product_id: order.product_id,
        quantity: order.quantity,
        buyer: order.buyer,
    };
    Ok((StatusCode::CREATED, headers, Json(view)))
}

/// The `Idempotency-Key` of a request, if it has one, or what is wrong with it. Not all headers:
/// they would be kept, and what they were read into, while a purchase waits.
pub(crate) struct IdempotencyKey(pub(super) Result<Option<String>, ApiError>);

impl<S: Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self(idempotency_key(&parts.headers)))
    }
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let visible = |key: &&str| key.bytes().all(|byte| byte.is_ascii_graphic());
    let valid = |key: &&str| (1..=255).contains(&key.len()) && visible(key);
    match (value.to_str().ok().filter(valid), values.next()) {
        (Some(key), None) => Ok(Some(key.to_owned())),
        _ => Err(ApiError::Field {
            field: "Idempotency-Key",
            rule: "must be given once, with 1 to 255 visible ASCII characters",
        }),
    }
}
