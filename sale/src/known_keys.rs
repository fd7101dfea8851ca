//! Finds earlier purchases of a sold-out product by their idempotency keys. After a sale, thousands of
//! buyers repeat their requests each second, and each key must be checked before the refusal.
//!
//! The keys of a product with few orders are kept in memory, so most requests are refused without the
//! database. Keys of a product with more orders are looked up by the database's index, many in one
//! query. So memory is bounded, whatever the number of orders.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use ledger::{Ledger, LedgerError, Order, Outcome, Purchase};
use tokio::sync::Semaphore;
use tracing::warn;

use crate::batch_loader::{BatchLoader, RowQuery};
use crate::error::PurchaseError;
use crate::purchase::{Receipt, receipt};

/// The keys of a product with more orders are not kept in memory.
const MAX_KEPT_PER_PRODUCT: usize = 100_000;
/// Keys that are kept of all products together, some 16 bytes each.
const MAX_KEPT: usize = 1_000_000;
/// The shortest pause between two reads of a product's keys.
const READ_EVERY: Duration = Duration::from_secs(1);
/// The pause after a slow read, as a multiple of its duration.
const READ_PAUSE_FACTOR: u32 = 20;
/// How long a product that had too many orders is not read again.
const RECHECK_TOO_MANY: Duration = Duration::from_mins(1);

/// Idempotency keys by product, see the module.
#[derive(Debug)]
pub(crate) struct KnownKeys {
    ledger: Ledger,
    hasher: RandomState,
    products: RwLock<HashMap<String, ProductKeys>>,
    /// Lets one read run at a time.
    reading: Semaphore,
    orders: BatchLoader<OrdersByKey>,
}

/// The keys of one product's orders.
#[derive(Debug)]
struct ProductKeys {
    /// The earliest time of the next read.
    read_again: Instant,
    /// The set has all orders with this fencing token or a lower one.
    token: u64,
    reading: bool,
    /// Hashes of buyer and key; `None`: not read yet, or too many.
    hashes: Option<HashSet<u64>>,
}

#[derive(Debug)]
struct OrdersByKey(Ledger);

impl RowQuery for OrdersByKey {
    /// Buyer and key.
    type Key = (String, String);
    type Value = Order;

    async fn load(
        &self,
        keys: &[Self::Key],
    ) -> Result<HashMap<Self::Key, Self::Value>, LedgerError> {
        let orders = self.0.orders_by_keys(keys).await?;
        let by_key =
            |order: Order| Some(((order.buyer.clone(), order.idempotency_key.clone()?), order));
        Ok(orders.into_iter().filter_map(by_key).collect())
    }
}

impl KnownKeys {
    pub(crate) fn new(ledger: Ledger) -> Self {
        let orders = BatchLoader::new(OrdersByKey(ledger.clone()));
        let (hasher, products, reading) =
            (RandomState::new(), RwLock::default(), Semaphore::new(1));
        Self { ledger, hasher, products, reading, orders }
    }

    /// The order of this buyer's key in the database.
    pub(crate) async fn order(
        &self,
        buyer: &str,
        key: &str,
    ) -> Result<Option<Order>, PurchaseError> {
        self.orders.get((buyer.to_owned(), key.to_owned())).await
    }

    /// The answer to a purchase of which too few units are left, given the fencing token of the product's last change:
    /// the earlier order of its key, otherwise `SoldOut`.
    pub(crate) async fn answer_sold_out(
        self: &Arc<Self>,
        product_id: &str,
        token: u64,
        purchase: &Purchase,
    ) -> Result<Receipt, PurchaseError> {
        match &purchase.idempotency_key {
            Some(key) if !self.rule_out(product_id, token, purchase) => {
                // Boxed: the future of each waiting purchase stays small.
                match Box::pin(self.order(&purchase.buyer, key)).await? {
                    Some(order) => {
                        receipt(Outcome::of_existing(order, product_id, purchase.quantity))
                    }
                    None => Err(PurchaseError::SoldOut),
                }
            }
            _ => Err(PurchaseError::SoldOut),
        }
    }

    /// Whether the purchase was certainly not made before, given the fencing token of the product's
    /// last change. If that is unknown, starts a read of the keys for later callers.
    pub(crate) fn rule_out(
        self: &Arc<Self>,
        product_id: &str,
        token: u64,
        purchase: &Purchase,
    ) -> bool {
        let Some(key) = &purchase.idempotency_key else { return true };
        let products = self.products.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(keys) = products.get(product_id) {
            if let Some(hashes) = keys.hashes.as_ref().filter(|_| keys.token == token) {
                return !hashes.contains(&self.hash(&purchase.buyer, key));
            }
            if keys.reading || Instant::now() < keys.read_again {
                return false;
            }
        }
        drop(products);
        self.read(product_id, token);
        false
    }

    fn hash(&self, buyer: &str, key: &str) -> u64 {
        self.hasher.hash_one((buyer, key))
    }

    fn read(self: &Arc<Self>, product_id: &str, token: u64) {
        let mut products = self.products.write().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if products.get(product_id).is_some_and(|keys| keys.reading || now < keys.read_again) {
            return;
        }
        // The known keys are outdated.
        let keys = ProductKeys { read_again: now, token, reading: true, hashes: None };
        products.insert(product_id.to_owned(), keys);
        let (this, product_id) = (Arc::clone(self), product_id.to_owned());
        tokio::spawn(async move {
            let _one_at_a_time = this.reading.acquire().await;
            let begun = Instant::now();
            let hashes = this.hashes(&product_id).await;
            let pause = match &hashes {
                Ok(None) => RECHECK_TOO_MANY,
                _ => READ_EVERY.max(begun.elapsed() * READ_PAUSE_FACTOR),
            };
            let hashes = hashes.unwrap_or_else(|error| {
                warn!(product_id, %error, "cannot read the orders' keys");
                None
            });
            let mut products = this.products.write().unwrap_or_else(PoisonError::into_inner);
            let keys = ProductKeys { read_again: begun + pause, token, reading: false, hashes };
            products.insert(product_id, keys);
        });
    }

    /// The hashes of a product's keys; `None`: too many to keep.
    async fn hashes(&self, product_id: &str) -> Result<Option<HashSet<u64>>, LedgerError> {
        let at_most = MAX_KEPT_PER_PRODUCT.min(MAX_KEPT.saturating_sub(self.kept_count()));
        let mut hashes = HashSet::new();
        let all = self
            .ledger
            .each_key_of(product_id, at_most, |buyer, key| {
                hashes.insert(self.hash(buyer, key));
            })
            .await?;
        Ok(all.then_some(hashes))
    }

    /// How many hashes are in memory.
    fn kept_count(&self) -> usize {
        let products = self.products.read().unwrap_or_else(PoisonError::into_inner);
        products.values().filter_map(|keys| keys.hashes.as_ref()).map(HashSet::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use sqlx::{Connection, SqliteConnection};

    use super::*;
    use ledger::ProductDeclaration;

    /// Asks for a key, and waits until the keys were read.
    async fn read(keys: &Arc<KnownKeys>, product_id: &str, purchase: &Purchase) {
        assert!(!keys.rule_out(product_id, 1, purchase), "nothing is known yet");
        let reading = || {
            let products = keys.products.read().unwrap();
            products[product_id].reading
        };
        while reading() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn the_keys_of_many_orders_are_looked_up_and_not_kept() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("sale.db").display());
        let ledger = Ledger::connect_lazy(&url, 2).unwrap();
        ledger.migrate().await.unwrap();
        for (product_id, orders) in [("few", 1_000), ("many", MAX_KEPT_PER_PRODUCT + 1)] {
            let product = serde_json::json!({"id": product_id, "name": "Console", "stock": 1});
            let product: ProductDeclaration = serde_json::from_value(product).unwrap();
            ledger.declare(&product, 1).await.unwrap();
            let mut database = SqliteConnection::connect(&url).await.unwrap();
            let insert = format!(
                "WITH RECURSIVE numbers (n) AS \
                 (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {orders}) \
                 INSERT INTO orders (id, product_id, buyer, quantity, idempotency_key, fence) \
                 SELECT '{product_id}-' || n, '{product_id}', '{product_id}', 1, 'key-' || n, 1 \
                 FROM numbers"
            );
            let insert = sqlx::raw_sql(sqlx::AssertSqlSafe(insert));
            insert.execute(&mut database).await.unwrap();
        }
        let keys = Arc::new(KnownKeys::new(ledger));
        let purchase = |buyer: &str, key: &str| Purchase {
            buyer: buyer.to_owned(),
            quantity: 1,
            idempotency_key: Some(key.to_owned()),
            limit_key: None,
        };
        read(&keys, "few", &purchase("few", "key-1")).await;
        assert!(!keys.rule_out("few", 1, &purchase("few", "key-1")));
        assert!(keys.rule_out("few", 1, &purchase("few", "another")));
        assert!(!keys.rule_out("few", 2, &purchase("few", "another")), "sold from since");

        read(&keys, "many", &purchase("many", "another")).await;
        assert!(!keys.rule_out("many", 1, &purchase("many", "another")), "not known");
        assert_eq!(keys.kept_count(), 1_000);
        assert_eq!(keys.order("many", "another").await, Ok(None));
    }
}
