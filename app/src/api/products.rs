//! What is on sale.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use sale::{PurchaseError, Sale};
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::extract::Authenticated;
use crate::http::problem::{ApiError, Problem};

/// A product on sale.
#[derive(Serialize, ToSchema)]
pub(crate) struct ProductView {
    id: String,
    name: String,
    /// Units the sale was given in all.
    stock: i64,
    /// Units left.
    remaining: i64,
    /// Units one buyer may have in all.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_per_buyer: Option<i64>,
}

/// What is left of a product.
#[derive(Serialize, ToSchema)]
pub(crate) struct StockView {
    product_id: String,
    remaining: i64,
}

/// Lists the products.
#[utoipa::path(get, path = "/v1/products", tag = "products", security(("bearer" = [])), responses(
    (status = 200, body = [ProductView]),
    (status = 401, description = "`unauthenticated`, `token_expired`", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "`database_unavailable`", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn list(
    _: Authenticated,
    State(sale): State<Arc<Sale>>,
) -> Result<Json<Vec<ProductView>>, ApiError> {
    let view = |listing: sale::Listing| ProductView {
        id: listing.product.id,
        name: listing.product.name,
        stock: listing.product.declared,
        remaining: listing.remaining,
        max_per_buyer: listing.product.max_per_buyer,
    };
    Ok(Json(sale.catalog().loaded()?.list().into_iter().map(view).collect()))
}

/// Says how much of a product is left.
#[utoipa::path(get, path = "/v1/products/{id}/stock", tag = "products", security(("bearer" = [])),
    params(("id" = String, Path, description = "The product", example = "1")),
    responses(
        (status = 200, body = StockView),
        (status = 400, description = "`invalid_request`", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "`unauthenticated`, `token_expired`", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "`unknown_product`", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "`database_unavailable`", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn stock(
    _: Authenticated,
    State(sale): State<Arc<Sale>>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Json<StockView>, ApiError> {
    let Path(product_id) = path?;
    match sale.catalog().loaded()?.remaining(&product_id) {
        Some(remaining) => Ok(Json(StockView { product_id, remaining })),
        None => Err(PurchaseError::UnknownProduct(product_id).into()),
    }
}
