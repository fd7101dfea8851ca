//! Products made, changed and deleted by administrators, and what they see of the sale.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use jiff::Timestamp;
use ledger::{Product, ProductChange, ProductDeclaration, ProductTerms};
use sale::{PurchaseError, Sale, check_product, check_terms, check_units};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::extract::Admin;
use crate::api::feed::Feed;
use crate::http::json::JsonBody;
use crate::http::problem::{ApiError, Problem};
use crate::metrics::{LockWait, Metrics};

/// A product to make.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewProduct {
    /// 1 to 63 letters, digits, `.`, `_` or `-`, with a letter or digit at both ends.
    #[schema(
        example = "ps5",
        min_length = 1,
        max_length = 63,
        pattern = r"^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$"
    )]
    id: String,
    /// 1 to 128 characters, not only blanks, no control characters.
    #[schema(example = "Console", min_length = 1, max_length = 128)]
    name: String,
    /// Units to sell.
    #[schema(example = 100, minimum = 0, maximum = 1_000_000_000)]
    stock: i64,
    /// Units one buyer may have in all; absent: no limit.
    #[schema(example = 1, minimum = 1, maximum = 1_000_000_000)]
    max_per_buyer: Option<i64>,
    /// How long a purchase waits for the lock; absent: as the sale.
    #[schema(example = 2000, minimum = 1, maximum = 60_000)]
    wait_timeout_ms: Option<i64>,
    /// How long a holder that died keeps the lock; absent: as the sale. More than twice the sale's
    /// `nodeTimeout`, not more than its longest lease.
    #[schema(example = 5000, minimum = 1)]
    lease_time_ms: Option<i64>,
}

/// What a product is to be, but for its stock; what is absent is taken away.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewTerms {
    /// 1 to 128 characters, not only blanks, no control characters.
    #[schema(example = "Console", min_length = 1, max_length = 128)]
    name: String,
    /// Units one buyer may have in all; absent: no limit.
    #[schema(example = 2, minimum = 1, maximum = 1_000_000_000)]
    max_per_buyer: Option<i64>,
    /// How long a purchase waits for the lock; absent: as the sale.
    #[schema(example = 2000, minimum = 1, maximum = 60_000)]
    wait_timeout_ms: Option<i64>,
    /// How long a holder that died keeps the lock; absent: as the sale. More than twice the sale's
    /// `nodeTimeout`, not more than its longest lease.
    #[schema(example = 5000, minimum = 1)]
    lease_time_ms: Option<i64>,
}

/// Units to add.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Restock {
    /// How many.
    #[schema(example = 50, minimum = 1, maximum = 1_000_000_000)]
    add: i64,
    /// The product's `stock` so far: if it is another by now, nothing is added. With it the request
    /// can be repeated safely.
    #[schema(example = 100, minimum = 0)]
    from: Option<i64>,
}

/// A product as administrators see it.
#[derive(Serialize, ToSchema)]
pub(crate) struct ManagedProduct {
    #[schema(example = "1")]
    id: String,
    #[schema(example = "Console")]
    name: String,
    /// Units the sale was given in all.
    #[schema(example = 100)]
    stock: i64,
    /// Units left.
    #[schema(example = 42)]
    remaining: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_per_buyer: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    wait_timeout_ms: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lease_time_ms: Option<i64>,
}

/// The sale as administrators see it.
#[derive(Serialize, ToSchema)]
pub(crate) struct Overview {
    /// The server's time.
    #[schema(value_type = String, format = DateTime)]
    now: Timestamp,
    /// Of the whole sale.
    products: Vec<ManagedProduct>,
    /// Of the replica that answers.
    replica: ReplicaView,
}

/// What one replica has counted since it started.
#[derive(Serialize, ToSchema)]
struct ReplicaView {
    /// Its host's name, which is the pod's.
    #[schema(example = "black-friday-app-7c9d8-x2k4q")]
    name: String,
    /// Redis nodes that may vote now.
    #[schema(example = 5)]
    nodes_voting: usize,
    /// Redis nodes there are.
    #[schema(example = 5)]
    nodes: usize,
    /// Who follow the stock by events now.
    listeners: usize,
    lock_wait: LockWait,
}

impl From<Product> for ManagedProduct {
    fn from(product: Product) -> Self {
        Self {
            id: product.id,
            name: product.name,
            stock: product.declared,
            remaining: product.available,
            max_per_buyer: product.max_per_buyer,
            wait_timeout_ms: product.wait_timeout_ms,
            lease_time_ms: product.lease_time_ms,
        }
    }
}

/// Puts a product on sale. One that was deleted can be made again: what was sold of it stays sold.
#[utoipa::path(post, path = "/v1/products", tag = "administration", security(("bearer" = [])),
    request_body = NewProduct,
    responses(
        (status = 201, body = ManagedProduct),
        (status = 400, description = "`invalid_json`", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "`unauthenticated`, `token_expired`", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "`forbidden`", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "`product_exists`", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "`body_too_large`", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "`unsupported_media_type`", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "`invalid_request`", body = Problem, content_type = "application/problem+json"),
        (status = 423, description = "`lock_timeout`: try again", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "`quorum_unavailable`, `overloaded`, `database_unavailable`: look again, it may have been done", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn create(
    _: Admin,
    State(sale): State<Arc<Sale>>,
    body: Result<JsonBody<NewProduct>, JsonRejection>,
) -> Result<(StatusCode, Json<ManagedProduct>), ApiError> {
    let JsonBody(NewProduct { id, name, stock, max_per_buyer, wait_timeout_ms, lease_time_ms }) =
        body?;
    let product =
        ProductDeclaration { id, name, stock, max_per_buyer, wait_timeout_ms, lease_time_ms };
    check_product(&product, sale.catalog().leases())?;
    let product = change(sale, ProductChange::Create(product)).await?;
    Ok((StatusCode::CREATED, Json(product)))
}

/// Changes all of a product but its stock. A sale declared to Kubernetes says the same things: its
/// declaration is written again when it changes.
#[utoipa::path(put, path = "/v1/products/{id}", tag = "administration", security(("bearer" = [])),
    params(("id" = String, Path, description = "The product", example = "1")),
    request_body = NewTerms,
    responses(
        (status = 200, body = ManagedProduct),
        (status = 400, description = "`invalid_json`, `invalid_request`", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "`unauthenticated`, `token_expired`", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "`forbidden`", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "`unknown_product`", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "`body_too_large`", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "`unsupported_media_type`", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "`invalid_request`", body = Problem, content_type = "application/problem+json"),
        (status = 423, description = "`lock_timeout`: try again", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "`quorum_unavailable`, `overloaded`, `database_unavailable`: try again", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn revise(
    _: Admin,
    State(sale): State<Arc<Sale>>,
    path: Result<Path<String>, PathRejection>,
    body: Result<JsonBody<NewTerms>, JsonRejection>,
) -> Result<Json<ManagedProduct>, ApiError> {
    let id = known(&sale, path).await?;
    let JsonBody(NewTerms { name, max_per_buyer, wait_timeout_ms, lease_time_ms }) = body?;
    let terms = ProductTerms { id, name, max_per_buyer, wait_timeout_ms, lease_time_ms };
    check_terms(&terms, sale.catalog().leases())?;
    Ok(Json(change(sale, ProductChange::Revise(terms)).await?))
}

/// Adds units to a product.
#[utoipa::path(post, path = "/v1/products/{id}/restock", tag = "administration", security(("bearer" = [])),
    params(("id" = String, Path, description = "The product", example = "1")),
    request_body = Restock,
    responses(
        (status = 200, body = ManagedProduct),
        (status = 400, description = "`invalid_json`, `invalid_request`", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "`unauthenticated`, `token_expired`", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "`forbidden`", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "`unknown_product`", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "`stock_changed`: `from` is not the product's stock", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "`body_too_large`", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "`unsupported_media_type`", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "`invalid_request`", body = Problem, content_type = "application/problem+json"),
        (status = 423, description = "`lock_timeout`: try again", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "`quorum_unavailable`, `overloaded`, `database_unavailable`: try again, with `from`", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn restock(
    _: Admin,
    State(sale): State<Arc<Sale>>,
    path: Result<Path<String>, PathRejection>,
    body: Result<JsonBody<Restock>, JsonRejection>,
) -> Result<Json<ManagedProduct>, ApiError> {
    let id = known(&sale, path).await?;
    let JsonBody(Restock { add, from }) = body?;
    check_units("add", add, 1)?;
    Ok(Json(change(sale, ProductChange::Restock { id, add, from }).await?))
}

/// Takes a product off the sale. Its orders stay.
#[utoipa::path(delete, path = "/v1/products/{id}", tag = "administration", security(("bearer" = [])),
    params(("id" = String, Path, description = "The product", example = "1")),
    responses(
        (status = 204, description = "It cannot be bought any more"),
        (status = 400, description = "`invalid_request`", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "`unauthenticated`, `token_expired`", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "`forbidden`", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "`unknown_product`", body = Problem, content_type = "application/problem+json"),
        (status = 423, description = "`lock_timeout`: try again", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "`quorum_unavailable`, `overloaded`, `database_unavailable`, `stock_unavailable`: try again", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn delete(
    _: Admin,
    State(sale): State<Arc<Sale>>,
    path: Result<Path<String>, PathRejection>,
) -> Result<StatusCode, ApiError> {
    let id = known(&sale, path).await?;
    apply(sale, ProductChange::Delete { id }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Shows the sale: its products, and what the replica that answers has counted.
#[utoipa::path(get, path = "/v1/admin/overview", tag = "administration", security(("bearer" = [])), responses(
    (status = 200, body = Overview),
    (status = 401, description = "`unauthenticated`, `token_expired`", body = Problem, content_type = "application/problem+json"),
    (status = 403, description = "`forbidden`", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "`database_unavailable`", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn overview(
    _: Admin,
    State(sale): State<Arc<Sale>>,
    State(metrics): State<Arc<Metrics>>,
    State(feed): State<Feed>,
    State(replica): State<Arc<str>>,
) -> Result<Json<Overview>, ApiError> {
    let listings = sale.catalog().loaded()?.list();
    let (nodes_voting, nodes) = sale.lock_nodes();
    let products = listings.into_iter().map(|listing| {
        let remaining = listing.remaining;
        ManagedProduct { remaining, ..listing.product.into() }
    });
    Ok(Json(Overview {
        now: Timestamp::now(),
        products: products.collect(),
        replica: ReplicaView {
            name: replica.to_string(),
            nodes_voting,
            nodes,
            listeners: feed.listeners(),
            lock_wait: metrics.lock().waited(),
        },
    }))
}

/// The product of a path. Only one that is on sale: no other text becomes a key in Redis.
async fn known(sale: &Sale, path: Result<Path<String>, PathRejection>) -> Result<String, ApiError> {
    let Path(id) = path?;
    let catalog = sale.catalog();
    if catalog.loaded()?.remaining(&id).is_some() {
        return Ok(id);
    }
    // Another replica may just have made it.
    catalog.refresh().await?;
    let unknown = || PurchaseError::UnknownProduct(id.clone());
    catalog.remaining(&id).ok_or_else(unknown)?;
    Ok(id)
}

async fn change(sale: Arc<Sale>, change: ProductChange) -> Result<ManagedProduct, ApiError> {
    // Absent: deleted by somebody else in this moment.
    let id = change.product_id().to_owned();
    let product = apply(sale, change).await?;
    let unknown = || PurchaseError::UnknownProduct(id).into();
    product.map(ManagedProduct::from).ok_or_else(unknown)
}

/// Goes on to the end even if the client does not wait for it: both stores are written, or none.
async fn apply(sale: Arc<Sale>, change: ProductChange) -> Result<Option<Product>, ApiError> {
    let applied = tokio::spawn(async move { sale.change(&change).await });
    Ok(applied.await.map_err(anyhow::Error::from)??)
}
