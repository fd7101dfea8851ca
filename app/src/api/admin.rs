//! Administration: creates, changes and deletes products, and shows the state of the sale.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use jiff::Timestamp;
use ledger::{DeclaredPrice, Product, ProductChange, ProductDeclaration, ProductTerms};
use sale::{PurchaseError, Sale, check_product, check_terms, check_units};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::price_view::PriceView;
use crate::api::extract::{Admin, PathId};
use crate::api::feed::Feed;
use crate::api::problems::{
    Administrator, Database, JsonInput, Locks, NewProducts, Problems, ProductPath, RedisStock,
    Restocks,
};
use crate::http::json::JsonBody;
use crate::http::problem::ApiError;
use crate::metrics::{LockWait, Metrics};

/// A product to create.
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
    /// Units that one buyer may have in total. Absent: no limit.
    #[schema(example = 1, minimum = 1, maximum = 1_000_000_000)]
    max_per_buyer: Option<i64>,
    /// How long a purchase waits for the lock. Absent: the sale's value.
    #[schema(example = 2000, minimum = 1, maximum = 60_000)]
    wait_timeout_ms: Option<i64>,
    /// How long a crashed holder keeps the lock. More than twice the sale's `nodeTimeout`, and at most
    /// its longest lease. Absent: the sale's value.
    #[schema(example = 5000, minimum = 1)]
    lease_time_ms: Option<i64>,
    /// How long an unpaid order holds its units. Absent: the sale's value.
    #[schema(example = 600, minimum = 5, maximum = 86_400)]
    hold_seconds: Option<i64>,
    /// The price of a unit. Absent: none.
    price: Option<NewPrice>,
}

/// The price of a unit.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewPrice {
    /// In the smallest unit of the currency.
    #[schema(example = 49_900, minimum = 1, maximum = 100_000_000_000_i64)]
    amount: i64,
    /// A currency of ISO 4217 that is in use.
    #[schema(example = "EUR", pattern = "^[A-Z]{3}$")]
    currency: String,
}

impl From<NewPrice> for DeclaredPrice {
    fn from(NewPrice { amount, currency }: NewPrice) -> Self {
        Self { amount, currency }
    }
}

/// All settings of a product except its stock. An absent setting is removed.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewTerms {
    /// 1 to 128 characters, not only blanks, no control characters.
    #[schema(example = "Console", min_length = 1, max_length = 128)]
    name: String,
    /// Units that one buyer may have in total. Absent: no limit.
    #[schema(example = 2, minimum = 1, maximum = 1_000_000_000)]
    max_per_buyer: Option<i64>,
    /// How long a purchase waits for the lock. Absent: the sale's value.
    #[schema(example = 2000, minimum = 1, maximum = 60_000)]
    wait_timeout_ms: Option<i64>,
    /// How long a crashed holder keeps the lock. More than twice the sale's `nodeTimeout`, and at most
    /// its longest lease. Absent: the sale's value.
    #[schema(example = 5000, minimum = 1)]
    lease_time_ms: Option<i64>,
    /// How long an unpaid order holds its units. Absent: the sale's value.
    #[schema(example = 600, minimum = 5, maximum = 86_400)]
    hold_seconds: Option<i64>,
    /// The price of a unit, for later orders. Absent: none.
    price: Option<NewPrice>,
}

/// Units to add.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Restock {
    /// Number of units.
    #[schema(example = 50, minimum = 1, maximum = 1_000_000_000)]
    add: i64,
    /// The product's current `stock`. Where it differs, nothing is added, so a request with `from` can
    /// be repeated safely.
    #[schema(example = 100, minimum = 0)]
    from: Option<i64>,
}

/// A product, for administrators.
#[derive(Serialize, ToSchema)]
pub(crate) struct ManagedProduct {
    #[schema(example = "1")]
    id: String,
    #[schema(example = "Console")]
    name: String,
    /// Total units, sold and unsold.
    #[schema(example = 100)]
    stock: i64,
    /// Units left.
    #[schema(example = 42)]
    remaining: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    max_per_buyer: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    wait_timeout_ms: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    lease_time_ms: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    hold_seconds: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    price: Option<PriceView>,
}

/// The state of the sale, for administrators.
#[derive(Serialize, ToSchema)]
pub(crate) struct Overview {
    /// The time of the server.
    #[schema(value_type = String, format = DateTime)]
    now: Timestamp,
    /// All products of the sale.
    products: Vec<ManagedProduct>,
    /// The replica that answered.
    replica: ReplicaView,
}

/// The state of one replica, and its counts since it started.
#[derive(Serialize, ToSchema)]
struct ReplicaView {
    /// Its host name, which is the name of the pod.
    #[schema(example = "black-friday-app-7c9d8-x2k4q")]
    name: String,
    /// Redis nodes that may vote at the moment.
    #[schema(example = 5)]
    nodes_voting: usize,
    /// All Redis nodes.
    #[schema(example = 5)]
    nodes: usize,
    /// Open event streams.
    listeners: usize,
    lock_wait: LockWait,
}

impl From<Product> for ManagedProduct {
    fn from(product: Product) -> Self {
        Self {
            price: product.unit_price().map(Into::into),
            id: product.id,
            name: product.name,
            stock: product.declared,
            remaining: product.available,
            max_per_buyer: product.max_per_buyer,
            wait_timeout_ms: product.wait_timeout_ms,
            lease_time_ms: product.lease_time_ms,
            hold_seconds: product.hold_seconds,
        }
    }
}

/// Creates a product
///
/// A deleted product can be created again; its sold units stay sold. After a 503 the product may
/// exist: list the products before a retry.
#[utoipa::path(post, path = "/v1/products", operation_id = "create_product", tag = "administration", security(("bearer" = [])),
    request_body = NewProduct,
    responses(
        (status = 201, description = "Created, and on sale", body = ManagedProduct),
        Problems<(Administrator, JsonInput, NewProducts, Locks)>,
    )
)]
pub(crate) async fn create(
    Admin(claims): Admin,
    State(sale): State<Arc<Sale>>,
    JsonBody(request): JsonBody<NewProduct>,
) -> Result<(StatusCode, Json<ManagedProduct>), ApiError> {
    let NewProduct { id, name, stock, max_per_buyer, .. } = request;
    let NewProduct { wait_timeout_ms, lease_time_ms, hold_seconds, price, .. } = request;
    let product = ProductDeclaration {
        id,
        name,
        stock,
        max_per_buyer,
        wait_timeout_ms,
        lease_time_ms,
        hold_seconds,
        price: price.map(Into::into),
    };
    check_product(&product, sale.catalog().leases())?;
    let product = change(sale, &claims.sub, ProductChange::Create(product)).await?;
    Ok((StatusCode::CREATED, Json(product)))
}

/// Replaces the settings of a product
///
/// All of them except its stock. In Kubernetes, the next change of the `FlashSale` object overwrites
/// them.
#[utoipa::path(put, path = "/v1/products/{id}", operation_id = "revise_product", tag = "administration", security(("bearer" = [])),
    params(("id" = String, Path, description = "The product", example = "1")),
    request_body = NewTerms,
    responses(
        (status = 200, description = "The product with its new settings", body = ManagedProduct),
        Problems<(Administrator, ProductPath, JsonInput, Locks)>,
    )
)]
pub(crate) async fn revise(
    Admin(claims): Admin,
    State(sale): State<Arc<Sale>>,
    PathId(id): PathId,
    JsonBody(terms): JsonBody<NewTerms>,
) -> Result<Json<ManagedProduct>, ApiError> {
    let id = existing(&sale, id).await?;
    let NewTerms { name, max_per_buyer, wait_timeout_ms, lease_time_ms, hold_seconds, price } =
        terms;
    let terms = ProductTerms {
        id,
        name,
        max_per_buyer,
        wait_timeout_ms,
        lease_time_ms,
        hold_seconds,
        price: price.map(Into::into),
    };
    check_terms(&terms, sale.catalog().leases())?;
    Ok(Json(change(sale, &claims.sub, ProductChange::Revise(terms)).await?))
}

/// Adds units to a product
///
/// With `from` the request can be repeated safely.
#[utoipa::path(post, path = "/v1/products/{id}/restock", operation_id = "restock_product", tag = "administration", security(("bearer" = [])),
    params(("id" = String, Path, description = "The product", example = "1")),
    request_body = Restock,
    responses(
        (status = 200, description = "The product with its new stock", body = ManagedProduct),
        Problems<(Administrator, ProductPath, JsonInput, Restocks, Locks)>,
    )
)]
pub(crate) async fn restock(
    Admin(claims): Admin,
    State(sale): State<Arc<Sale>>,
    PathId(id): PathId,
    JsonBody(Restock { add, from }): JsonBody<Restock>,
) -> Result<Json<ManagedProduct>, ApiError> {
    let id = existing(&sale, id).await?;
    check_units("add", add, 1)?;
    Ok(Json(change(sale, &claims.sub, ProductChange::Restock { id, add, from }).await?))
}

/// Deletes a product
///
/// Its orders stay.
#[utoipa::path(delete, path = "/v1/products/{id}", operation_id = "delete_product", tag = "administration", security(("bearer" = [])),
    params(("id" = String, Path, description = "The product", example = "1")),
    responses(
        (status = 204, description = "Deleted; it can no longer be bought"),
        Problems<(Administrator, ProductPath, Locks, RedisStock)>,
    )
)]
pub(crate) async fn delete(
    Admin(claims): Admin,
    State(sale): State<Arc<Sale>>,
    PathId(id): PathId,
) -> Result<StatusCode, ApiError> {
    let id = existing(&sale, id).await?;
    apply(sale, &claims.sub, ProductChange::Delete { id }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Returns the state of the sale, for administrators
///
/// The products of the sale, and the counts of the replica that answers.
#[utoipa::path(get, path = "/v1/admin/overview", operation_id = "get_overview", tag = "administration", security(("bearer" = [])), responses(
    (status = 200, description = "The present state", body = Overview),
    Problems<(Administrator, Database)>,
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

/// Returns the id if the product exists, so that no other text becomes a key in Redis.
async fn existing(sale: &Sale, id: String) -> Result<String, ApiError> {
    let catalog = sale.catalog();
    if catalog.loaded()?.remaining(&id).is_some() {
        return Ok(id);
    }
    // Another replica may have created it a moment ago.
    catalog.refresh().await?;
    let unknown = || PurchaseError::UnknownProduct(id.clone());
    catalog.remaining(&id).ok_or_else(unknown)?;
    Ok(id)
}

async fn change(
    sale: Arc<Sale>,
    actor: &str,
    change: ProductChange,
) -> Result<ManagedProduct, ApiError> {
    // `None`: another request deleted the product at the same time.
    let id = change.product_id().to_owned();
    let product = apply(sale, actor, change).await?;
    let unknown = || PurchaseError::UnknownProduct(id).into();
    product.map(ManagedProduct::from).ok_or_else(unknown)
}

/// Runs to its end even when the client disconnects, so that either both stores change or none.
async fn apply(
    sale: Arc<Sale>,
    actor: &str,
    change: ProductChange,
) -> Result<Option<Product>, ApiError> {
    let actor = actor.to_owned();
    let applied = tokio::spawn(async move { sale.change(&change, &actor).await });
    Ok(applied.await.map_err(anyhow::Error::from)??)
}
