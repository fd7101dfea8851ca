//! The product catalog, which the seed Job reads.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use serde::Serialize;

use super::metadata::metadata;
use crate::crd::{Price, Product};
use crate::flash_sale::names::{self, Component};
use crate::flash_sale::validate::ValidatedSale;

pub(super) const FILE: &str = "catalog.json";

#[derive(Serialize)]
struct Catalog<'a> {
    products: Vec<Entry<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit_claim: Option<&'a str>,
}

#[derive(Serialize)]
struct Entry<'a> {
    id: &'a str,
    name: &'a str,
    stock: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_per_buyer: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    wait_timeout_ms: Option<u128>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lease_time_ms: Option<u128>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hold_seconds: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    price: Option<&'a Price>,
}

impl<'a> Entry<'a> {
    fn new(product: &'a Product) -> Self {
        let lock = product.lock.as_ref();
        let millis = |duration| whole_millis(Duration::from(duration)).as_millis();
        Self {
            id: &product.id,
            name: product.name.as_ref().unwrap_or(&product.id),
            stock: product.stock,
            max_per_buyer: product.max_per_buyer,
            wait_timeout_ms: lock.and_then(|lock| lock.wait_timeout).map(millis),
            lease_time_ms: lock.and_then(|lock| lock.lease_time).map(millis),
            hold_seconds: product.hold_for.map(|hold| Duration::from(hold).as_secs()),
            price: product.price.as_ref(),
        }
    }
}

/// Rounded up, so that a longer duration stays longer.
pub(super) fn whole_millis(duration: Duration) -> Duration {
    Duration::from_nanos_u128(duration.as_nanos().next_multiple_of(1_000_000))
}

/// The catalog as JSON.
pub(super) fn json(sale: &ValidatedSale) -> Result<String, serde_json::Error> {
    let products = sale.spec.products.iter().map(Entry::new).collect();
    let limit_claim = sale.spec.limit_by.as_ref().map(|limit_by| limit_by.claim.as_str());
    serde_json::to_string(&Catalog { products, limit_claim })
}

pub(super) fn build(sale: &ValidatedSale, json: &str) -> ConfigMap {
    ConfigMap {
        metadata: metadata(sale, names::catalog(&sale.name), Component::Seed),
        data: Some(BTreeMap::from([(FILE.to_owned(), json.to_owned())])),
        ..ConfigMap::default()
    }
}
