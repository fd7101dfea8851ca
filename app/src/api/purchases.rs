//! `POST /v1/purchases`: buys units of one product.

use std::fmt::{self, Formatter};
use std::sync::Arc;

use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use ledger::{Applicant, Currency, Order, Purchase};
use sale::{Receipt, Sale};
use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::api::extract::Buyer;
use crate::api::problems::{JsonInput, Login, Problems, Purchases, RedisStock};
use crate::http::json::JsonBody;
use crate::http::problem::ApiError;

/// Far above any real purchase, and far below an overflow.
pub(super) const MAX_QUANTITY: i64 = 1_000_000;
/// Bytes; the limit of the catalog.
pub(super) const MAX_PRODUCT_ID: usize = 63;
pub(crate) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
pub(super) const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// Units to buy of one product.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PurchaseRequest {
    /// The id of the product; a number stands for its decimal string.
    #[serde(deserialize_with = "string_or_number")]
    #[schema(example = "1", max_length = 63)]
    product_id: String,
    /// Units, 1 to 1000000.
    #[serde(default = "one")]
    #[schema(example = 1, minimum = 1, maximum = 1_000_000, default = 1)]
    quantity: i64,
}

/// A committed purchase.
#[derive(Serialize, ToSchema)]
pub(crate) struct OrderView {
    #[schema(value_type = String, format = "uuid")]
    order_id: Uuid,
    product_id: String,
    quantity: i64,
    buyer: String,
    /// What a unit costs, in the smallest unit of the currency. Absent: the product had no price, or Redis decides the
    /// sale; then `GET /v1/orders/{id}` has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = 49_900)]
    unit_price: Option<i64>,
    /// What all units cost, by the price at the moment of the order.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = 49_900)]
    amount: Option<i64>,
    /// ISO 4217.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "EUR")]
    currency: Option<&'static str>,
    /// Decimal places of the currency: an `amount` of 49900 with 2 is 499.00.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = 2)]
    decimals: Option<u32>,
}

impl From<Order> for OrderView {
    fn from(order: Order) -> Self {
        let currency = order.unit_price.map(|price| price.currency);
        Self {
            order_id: order.id,
            unit_price: order.unit_price.map(|price| price.amount),
            amount: order.amount().map(|price| price.amount),
            currency: currency.map(Currency::code),
            decimals: currency.map(Currency::decimals),
            product_id: order.product_id,
            quantity: order.quantity,
            buyer: order.buyer,
        }
    }
}

pub(super) fn one() -> i64 {
    1
}

/// Not an untagged enum: serde would copy the value of every purchase before it matches the variants.
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

/// Buys units of one product
///
/// With an `Idempotency-Key` the request can be repeated safely: the same key returns the same order.
#[utoipa::path(post, path = "/v1/purchases", operation_id = "create_purchase", tag = "purchases", security(("bearer" = [])),
    params(IdempotencyKey),
    request_body = PurchaseRequest,
    responses(
        (status = 201, description = "Bought and committed", body = OrderView,
            headers(("Idempotent-Replayed" = bool, description = "`true` if an earlier request did it; otherwise absent"))),
        Problems<(Login, JsonInput, Purchases, RedisStock)>,
    )
)]
pub(crate) async fn purchase(
    Buyer { applicant: Applicant { buyer, limit_key }, .. }: Buyer,
    State(sale): State<Arc<Sale>>,
    IdempotencyKey(idempotency_key): IdempotencyKey,
    JsonBody(PurchaseRequest { product_id, quantity }): JsonBody<PurchaseRequest>,
) -> Result<(StatusCode, HeaderMap, Json<OrderView>), ApiError> {
    if !(1..=MAX_QUANTITY).contains(&quantity) {
        return Err(ApiError::Field { field: "quantity", rule: "must be from 1 to 1000000" });
    }
    if product_id.len() > MAX_PRODUCT_ID {
        return Err(ApiError::Field { field: "product_id", rule: "must have at most 63 bytes" });
    }
    let purchase = Purchase { buyer, quantity, idempotency_key, limit_key };
    let Receipt { order, replayed } = sale.purchase(&product_id, purchase).await?;
    let mut headers = HeaderMap::new();
    if replayed {
        headers.insert(REPLAYED, HeaderValue::from_static("true"));
    }
    Ok((StatusCode::CREATED, headers, Json(order.into())))
}

/// The `Idempotency-Key` of a request. An extractor of its own, because a `HeaderMap` would keep all
/// headers and their buffer in memory while a purchase waits.
#[derive(utoipa::IntoParams)]
#[into_params(names("Idempotency-Key"), parameter_in = Header)]
pub(crate) struct IdempotencyKey(
    /// 1 to 255 visible ASCII characters, chosen by the buyer
    #[param(nullable = false, min_length = 1, max_length = 255, pattern = r"^[!-~]+$")]
    pub(super) Option<String>,
);

impl<S: Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        idempotency_key(&parts.headers).map(Self)
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
