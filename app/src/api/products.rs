//! `/v1/products` for buyers: the products and their stock.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use sale::{PurchaseError, Sale};
use serde::Serialize;
use utoipa::ToSchema;

use super::price_view::PriceView;
use crate::api::extract::{Authenticated, PathId};
use crate::api::problems::{Database, Login, Problems, ProductPath};
use crate::http::problem::ApiError;

/// A product on sale.
#[derive(Serialize, ToSchema)]
pub(crate) struct ProductView {
    id: String,
    name: String,
    /// Total units, sold and unsold.
    stock: i64,
    /// Units left.
    remaining: i64,
    /// Units that one buyer may have in total.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    max_per_buyer: Option<i64>,
    /// The price of a unit. Absent: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    price: Option<PriceView>,
}

/// The remaining stock of a product.
#[derive(Serialize, ToSchema)]
pub(crate) struct StockView {
    product_id: String,
    remaining: i64,
}

/// Lists the products
///
/// Each with its remaining stock.
#[utoipa::path(get, path = "/v1/products", operation_id = "list_products", tag = "products", security(("bearer" = [])), responses(
    (status = 200, description = "The products", body = [ProductView]),
    Problems<(Login, Database)>,
))]
pub(crate) async fn list(
    _: Authenticated,
    State(sale): State<Arc<Sale>>,
) -> Result<Json<Vec<ProductView>>, ApiError> {
    let view = |listing: sale::Listing| ProductView {
        price: listing.product.unit_price().map(Into::into),
        id: listing.product.id,
        name: listing.product.name,
        stock: listing.product.declared,
        remaining: listing.remaining,
        max_per_buyer: listing.product.max_per_buyer,
    };
    Ok(Json(sale.catalog().loaded()?.list().into_iter().map(view).collect()))
}

/// Returns the stock of a product
///
/// The units that are left.
#[utoipa::path(get, path = "/v1/products/{id}/stock", operation_id = "get_stock", tag = "products", security(("bearer" = [])),
    params(("id" = String, Path, description = "The product", example = "1")),
    responses(
        (status = 200, description = "The remaining stock", body = StockView),
        Problems<(Login, ProductPath, Database)>,
    )
)]
pub(crate) async fn stock(
    _: Authenticated,
    State(sale): State<Arc<Sale>>,
    PathId(product_id): PathId,
) -> Result<Json<StockView>, ApiError> {
    match sale.catalog().loaded()?.remaining(&product_id) {
        Some(remaining) => Ok(Json(StockView { product_id, remaining })),
        None => Err(PurchaseError::UnknownProduct(product_id).into()),
    }
}
