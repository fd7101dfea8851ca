//! The counts of the products for the status: at most [`MAX_LISTED`], whatever administrators add.

use std::collections::BTreeSet;

use crate::crd::{FlashSaleSpec, ProductStatus, Totals};

/// Maximum number of products in the status, as `crd/status.rs` documents. A sale can declare as many.
pub const MAX_LISTED: usize = 100;

/// The listed products, sorted by id, because another order would change the status: the declared products, then
/// others.
#[must_use]
pub fn listed(spec: &FlashSaleSpec, mut products: Vec<ProductStatus>) -> Vec<ProductStatus> {
    products.sort_by(|a, b| a.id.cmp(&b.id));
    if products.len() > MAX_LISTED {
        let declared: BTreeSet<&str> = spec.products.iter().map(|it| it.id.as_str()).collect();
        products.sort_by_key(|product| !declared.contains(product.id.as_str()));
        products.truncate(MAX_LISTED);
        products.sort_by(|a, b| a.id.cmp(&b.id));
    }
    products
}

/// The sum over all products.
#[must_use]
pub fn total(products: &[ProductStatus]) -> Totals {
    let sum = |count: fn(&ProductStatus) -> i64| products.iter().map(count).sum();
    Totals {
        stock: sum(|product| product.stock),
        sold: sum(|product| product.sold),
        remaining: sum(|product| product.remaining),
    }
}
