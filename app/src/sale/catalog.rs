//! What is on sale and, as far as this replica has heard, how much of it is left.
//!
//! The stock comes with the notices of each release and, in case one is lost, with the ledger's
//! rows once a second; the higher fencing token is the newer news.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use redlock::{Policy, Published, Redlock};
use tokio::sync::watch;

use super::{PurchaseError, stock_resource};
use crate::ledger::{Ledger, LedgerError, Product};

/// The products on sale.
#[derive(Debug)]
pub struct Catalog {
    ledger: Ledger,
    redlock: Redlock,
    policy: Policy,
    entries: RwLock<HashMap<String, CatalogEntry>>,
    loaded: AtomicBool,
}

#[derive(Debug)]
struct CatalogEntry {
    product: Product,
    published: watch::Receiver<Published>,
}

/// A product and what is left of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// As the ledger has it, but for the stock.
    pub product: Product,
    /// Units left, by the newest news.
    pub remaining: i64,
}

impl CatalogEntry {
    fn remaining(&self) -> i64 {
        let published = self.published.borrow();
        let heard = published.value.as_deref().and_then(|value| value.parse().ok());
        heard.unwrap_or(self.product.available)
    }
}

impl Catalog {
    pub(super) fn new(ledger: Ledger, redlock: Redlock, policy: Policy) -> Self {
        Self { ledger, redlock, policy, entries: RwLock::default(), loaded: AtomicBool::new(false) }
    }

    /// Reads the ledger again.
    ///
    /// # Errors
    /// When the ledger fails; what was known stays.
    pub async fn refresh(&self) -> Result<(), LedgerError> {
        let products = self.ledger.products().await?;
        let entry = |product: Product| {
            let resource = stock_resource(&product.id);
            let token = u64::try_from(product.fence).unwrap_or(0);
            self.redlock.saw_value(&resource, token, &product.available.to_string());
            let published = self.redlock.published(&resource);
            (product.id.clone(), CatalogEntry { product, published })
        };
        let entries = products.into_iter().map(entry).collect();
        *self.entries.write().unwrap_or_else(PoisonError::into_inner) = entries;
        self.loaded.store(true, Ordering::Release);
        Ok(())
    }

    /// The catalog, once it has been read: before, nobody can say that a product is unknown.
    ///
    /// # Errors
    /// [`PurchaseError::DatabaseUnavailable`]
    pub fn loaded(&self) -> Result<&Self, PurchaseError> {
        if self.loaded.load(Ordering::Acquire) {
            Ok(self)
        } else {
            Err(PurchaseError::DatabaseUnavailable)
        }
    }

    /// Units left of a product; `None` when there is no such product.
    #[must_use]
    pub fn remaining(&self, product_id: &str) -> Option<i64> {
        self.read(product_id, CatalogEntry::remaining)
    }

    /// All products, by id.
    #[must_use]
    pub fn list(&self) -> Vec<Listing> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        let mut list: Vec<Listing> = entries
            .values()
            .map(|entry| Listing { product: entry.product.clone(), remaining: entry.remaining() })
            .collect();
        list.sort_unstable_by(|a, b| a.product.id.cmp(&b.product.id));
        list
    }

    /// The sale's policy with what the product overrides.
    pub(super) fn policy(&self, resource: &str) -> Policy {
        let product_id = resource.strip_prefix("stock:").unwrap_or(resource);
        let own = self.read(product_id, |entry| {
            (millis(entry.product.wait_timeout_ms), millis(entry.product.lease_time_ms))
        });
        let (wait_timeout, lease_time) = own.unwrap_or_default();
        Policy {
            wait_timeout: wait_timeout.unwrap_or(self.policy.wait_timeout),
            lease_time: lease_time.unwrap_or(self.policy.lease_time),
            order: self.policy.order,
        }
    }

    fn read<T>(&self, product_id: &str, get: impl FnOnce(&CatalogEntry) -> T) -> Option<T> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        entries.get(product_id).map(get)
    }
}

fn millis(value: Option<i64>) -> Option<Duration> {
    Some(Duration::from_millis(value?.try_into().ok()?))
}
