//! Names of the sale in Redis.

/// The lock's resource of a product, which is also the Redis key of its stock: `stock:<product>`.
#[must_use]
pub fn stock_resource(product_id: &str) -> String {
    format!("stock:{product_id}")
}
