//! The products on sale, and the remaining units as far as this replica knows them.
//!
//! The stock comes with the notices of each release and, in case a notice is lost, with the ledger's
//! rows once a second. The value with the higher fencing token is the newer one.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use ledger::waitlist::WaitCounts;
use ledger::{Ledger, LedgerError, LimitBy, Price, Product};
use redlock::{Policy, Published, QueueDiscipline, REMOVED, Redlock};
use tokio::sync::{Mutex, watch};

use crate::config::{SaleConfig, Strategy};
use crate::error::PurchaseError;
use crate::resource::{product_of, stock_resource};
use crate::rules::LeaseBounds;

/// The products on sale.
#[derive(Debug)]
pub struct Catalog {
    ledger: Ledger,
    redlock: Redlock,
    sale_name: String,
    policy: Policy,
    leases: LeaseBounds,
    strategy: Strategy,
    entries: RwLock<HashMap<String, CatalogEntry>>,
    limit_by: RwLock<Option<Arc<LimitBy>>>,
    loaded: AtomicBool,
    /// Serializes refreshes, so that an earlier read never replaces a later one.
    refreshing: Mutex<()>,
}

#[derive(Debug)]
struct CatalogEntry {
    product: Product,
    waiting: i64,
    servable: i64,
    published: watch::Receiver<Published>,
}

/// A product and its remaining units.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// The ledger's row. Its stock may be older than `remaining`.
    pub product: Product,
    /// Units left, by the newest value known here.
    pub remaining: i64,
    /// Buyers who wait for units, by the last refresh.
    pub waiting: i64,
    /// Those of them who waited for no more units than were left.
    pub servable: i64,
}

/// The newest known stock of a product.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stock {
    /// Units left.
    pub(crate) remaining: i64,
    /// The fencing token of the transaction that left them.
    pub(crate) token: u64,
}

impl CatalogEntry {
    /// `None`: the product was deleted after the last refresh.
    fn stock(&self) -> Option<Stock> {
        let published = self.published.borrow();
        let announced = match published.value.as_deref() {
            Some(REMOVED) => return None,
            value => value.and_then(|value| value.parse().ok()),
        };
        let remaining = announced.unwrap_or(self.product.available);
        Some(Stock { remaining, token: published.token })
    }
}

impl Catalog {
    pub(crate) fn new(ledger: Ledger, redlock: Redlock, config: &SaleConfig) -> Self {
        let SaleConfig { name, lock, strategy, .. } = config;
        Self {
            ledger,
            redlock,
            sale_name: name.clone(),
            policy: lock.policy,
            leases: LeaseBounds::from(&lock.nodes),
            strategy: *strategy,
            entries: RwLock::default(),
            limit_by: RwLock::default(),
            loaded: AtomicBool::new(false),
            refreshing: Mutex::default(),
        }
    }

    /// Reads the ledger again.
    ///
    /// # Errors
    /// When the ledger fails. The known products stay, unless the database belongs to another sale by
    /// now.
    pub async fn refresh(&self) -> Result<(), LedgerError> {
        let _one_at_a_time = self.refreshing.lock().await;
        if let Err(error) = self.ledger.check_installation(&self.sale_name).await {
            if matches!(error, LedgerError::Unusable(_)) {
                self.loaded.store(false, Ordering::Release);
            }
            return Err(error);
        }
        let products = self.ledger.products().await?;
        // After the products: it is seeded before them.
        let limit_by = self.ledger.limit_by().await?.map(Arc::new);
        *self.limit_by.write().unwrap_or_else(PoisonError::into_inner) = limit_by;
        let waitlists = self.ledger.waitlist_counts().await?.into_iter();
        let waitlists: HashMap<String, WaitCounts> =
            waitlists.map(|counts| (counts.product_id.clone(), counts)).collect();
        // Redlock writes these values again to each node that comes back.
        for (id, fence) in self.ledger.deleted_products().await? {
            let resource = stock_resource(&id);
            match self.strategy {
                Strategy::Locked => {
                    let token = u64::try_from(fence).unwrap_or(0);
                    self.redlock.observe_value(&resource, token, REMOVED);
                }
                Strategy::Atomic => self.supersede(&resource, REMOVED),
            }
        }
        let entry = |product: Product| {
            let resource = stock_resource(&product.id);
            // With `Atomic` the database lags behind: the stock comes from Redis.
            if self.strategy == Strategy::Locked {
                let token = u64::try_from(product.fence).unwrap_or(0);
                self.redlock.observe_value(&resource, token, &product.available.to_string());
            }
            let published = self.redlock.published(&resource);
            let counts = waitlists.get(&product.id);
            let (waiting, servable) =
                counts.map_or((0, 0), |counts| (counts.waiting, counts.servable));
            (product.id.clone(), CatalogEntry { product, waiting, servable, published })
        };
        let entries = products.into_iter().map(entry).collect();
        *self.entries.write().unwrap_or_else(PoisonError::into_inner) = entries;
        self.loaded.store(true, Ordering::Release);
        Ok(())
    }

    /// The catalog, once it was read: before that, no product can be called unknown.
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

    /// The sale that the database must belong to.
    #[must_use]
    pub fn sale_name(&self) -> &str {
        &self.sale_name
    }

    /// Units left of a product; `None` when there is no such product.
    #[must_use]
    pub fn remaining(&self, product_id: &str) -> Option<i64> {
        self.stock(product_id).map(|stock| stock.remaining)
    }

    pub(crate) fn stock(&self, product_id: &str) -> Option<Stock> {
        self.read(product_id, CatalogEntry::stock).flatten()
    }

    /// All products, by id.
    #[must_use]
    pub fn list(&self) -> Vec<Listing> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        let mut list: Vec<Listing> = entries
            .values()
            .filter_map(|entry| {
                let Stock { remaining, .. } = entry.stock()?;
                let (product, waiting) = (entry.product.clone(), entry.waiting);
                Some(Listing { product, remaining, waiting, servable: entry.servable })
            })
            .collect();
        list.sort_unstable_by(|a, b| a.product.id.cmp(&b.product.id));
        list
    }

    /// The claim of access tokens by which the sale limits buyers; `None`: by their account.
    #[must_use]
    pub fn limit_by(&self) -> Option<Arc<LimitBy>> {
        self.limit_by.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The leases that a product may ask for.
    #[must_use]
    pub fn leases(&self) -> LeaseBounds {
        self.leases
    }

    /// Takes over a stock that Redis reported, where Redis decides. Ignores a product that was deleted
    /// meanwhile.
    pub(crate) fn on_notice(&self, product_id: &str, available: i64) {
        if self.read(product_id, |_known| ()).is_some() {
            self.supersede(&stock_resource(product_id), &available.to_string());
        }
    }

    /// Replaces the value whatever its token: where Redis decides, the latest report counts.
    fn supersede(&self, resource: &str, value: &str) {
        let newest = self.redlock.published(resource).borrow().clone();
        if newest.value.as_deref() != Some(value) {
            self.redlock.observe_value(resource, newest.token + 1, value);
        }
    }

    /// The products' ids.
    pub(crate) fn ids(&self) -> Vec<String> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        entries.keys().cloned().collect()
    }

    /// Units one buyer may have of a product; `None`: no limit.
    pub(crate) fn max_per_buyer(&self, product_id: &str) -> Option<i64> {
        self.read(product_id, |entry| entry.product.max_per_buyer).flatten()
    }

    /// The price of a unit; `None`: it has none.
    pub(crate) fn unit_price(&self, product_id: &str) -> Option<Price> {
        self.read(product_id, |entry| entry.product.unit_price()).flatten()
    }

    /// How long an order holds units of this product; `None`: as long as the sale says.
    pub(crate) fn hold(&self, product_id: &str) -> Option<Duration> {
        let own = self.read(product_id, |entry| entry.product.hold_seconds).flatten();
        Some(Duration::from_secs(own?.try_into().ok()?))
    }

    /// The order in which waiting callers are served, the same for all products.
    pub(crate) fn discipline(&self) -> QueueDiscipline {
        self.policy.discipline
    }

    /// The sale's policy with the product's own times.
    pub(crate) fn policy(&self, resource: &str) -> Policy {
        let own = self.read(product_of(resource), |entry| {
            (millis(entry.product.wait_timeout_ms), millis(entry.product.lease_time_ms))
        });
        let (wait_timeout, lease_time) = own.unwrap_or_default();
        Policy {
            wait_timeout: wait_timeout.unwrap_or(self.policy.wait_timeout),
            // A product may have been seeded when the longest lease was higher.
            lease_time: lease_time.unwrap_or(self.policy.lease_time).min(self.leases.longest),
            discipline: self.discipline(),
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
