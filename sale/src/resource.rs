//! The names that the sale has in Redis.

/// The lock's resource, and the Redis key of the stock, of a product: `stock:<product>`.
#[must_use]
pub fn stock_resource(product_id: &str) -> String {
    format!("stock:{product_id}")
}
