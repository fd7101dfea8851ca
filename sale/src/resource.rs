//! Names of the sale in Redis.

/// The lock's resource of a product, which is also the Redis key of its stock: `stock:<product>`.
#[must_use]
pub fn stock_resource(product_id: &str) -> String {
    format!("stock:{product_id}")
}

/// The product of a resource.
pub(crate) fn product_of(resource: &str) -> &str {
    resource.strip_prefix("stock:").unwrap_or(resource)
}
