//! `/v1/products/{id}/waitlist`: waiting for units that come back.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use ledger::waitlist::WaitPlace;
use sale::{Sale, WaitReceipt};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::purchases::{MAX_QUANTITY, REPLAYED, one};
use crate::api::extract::{Authenticated, Buyer, PathId};
use crate::api::problems::{
    Database, JsonInput, Login, PathInput, Problems, ProductPath, WaitPlaces, Waitlists,
};
use crate::http::json::JsonBody;
use crate::http::problem::ApiError;

/// Units to wait for.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wish {
    /// Units, 1 to 1000000.
    #[serde(default = "one")]
    #[schema(example = 1, minimum = 1, maximum = 1_000_000, default = 1)]
    quantity: i64,
}

/// Where the caller waits.
#[derive(Serialize, ToSchema)]
pub(crate) struct WaitPlaceView {
    #[schema(example = "1")]
    product_id: String,
    /// 1: the next.
    #[schema(example = 7)]
    position: i64,
    /// Units that the caller waits for.
    #[schema(example = 1)]
    quantity: i64,
    /// Buyers who wait for the product.
    #[schema(example = 42)]
    waiting: i64,
}

impl WaitPlaceView {
    fn new(product_id: String, WaitPlace { position, quantity, waiting }: WaitPlace) -> Self {
        Self { product_id, position, quantity, waiting }
    }
}

/// Waits for units of a product
///
/// For a product that is sold out while unpaid orders hold units of it. Units that come back go to who waits first, as a
/// `pending` order with an end of its own, before anybody else can buy them. Who waits for more units than came
/// back is passed over, and stays first. A repeated request changes nothing.
#[utoipa::path(post, path = "/v1/products/{id}/waitlist", operation_id = "join_waitlist", tag = "products", security(("bearer" = [])),
    params(("id" = String, Path, description = "The product", example = "1")),
    request_body = Wish,
    responses(
        (status = 201, description = "The caller waits", body = WaitPlaceView,
            headers(("Idempotent-Replayed" = bool, description = "`true` if an earlier request did it; otherwise absent"))),
        Problems<(Login, PathInput, JsonInput, Waitlists)>,
    )
)]
pub(crate) async fn join(
    Buyer { applicant, .. }: Buyer,
    State(sale): State<Arc<Sale>>,
    PathId(product_id): PathId,
    JsonBody(Wish { quantity }): JsonBody<Wish>,
) -> Result<(StatusCode, HeaderMap, Json<WaitPlaceView>), ApiError> {
    if !(1..=MAX_QUANTITY).contains(&quantity) {
        return Err(ApiError::Field { field: "quantity", rule: "must be from 1 to 1000000" });
    }
    let WaitReceipt { place, replayed } =
        sale.join_waitlist(&product_id, applicant, quantity).await?;
    let mut headers = HeaderMap::new();
    if replayed {
        headers.insert(REPLAYED, HeaderValue::from_static("true"));
    }
    Ok((StatusCode::CREATED, headers, Json(WaitPlaceView::new(product_id, place))))
}

/// Returns where the caller waits
///
/// `not_waiting` after the caller was served: the order has the units.
#[utoipa::path(get, path = "/v1/products/{id}/waitlist", operation_id = "get_waitlist_place", tag = "products", security(("bearer" = [])),
    params(("id" = String, Path, description = "The product", example = "1")),
    responses(
        (status = 200, description = "Where the caller waits", body = WaitPlaceView),
        Problems<(Login, WaitPlaces, Database)>,
    )
)]
pub(crate) async fn show(
    Authenticated(claims): Authenticated,
    State(sale): State<Arc<Sale>>,
    PathId(product_id): PathId,
) -> Result<Json<WaitPlaceView>, ApiError> {
    if product_id.contains('\0') {
        return Err(sale::WaitlistError::NotWaiting.into());
    }
    let place = sale.waitlist_place(&product_id, &claims.sub).await?;
    Ok(Json(WaitPlaceView::new(product_id, place)))
}

/// Stops waiting
///
/// A caller who does not wait is answered the same.
#[utoipa::path(delete, path = "/v1/products/{id}/waitlist", operation_id = "leave_waitlist", tag = "products", security(("bearer" = [])),
    params(("id" = String, Path, description = "The product", example = "1")),
    responses(
        (status = 204, description = "The caller does not wait"),
        Problems<(Login, ProductPath, Database)>,
    )
)]
pub(crate) async fn leave(
    Authenticated(claims): Authenticated,
    State(sale): State<Arc<Sale>>,
    PathId(product_id): PathId,
) -> Result<StatusCode, ApiError> {
    sale.leave_waitlist(&product_id, &claims.sub).await?;
    Ok(StatusCode::NO_CONTENT)
}
