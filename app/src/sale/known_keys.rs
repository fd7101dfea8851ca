//! Which purchases of a sold-out product were made, so that the others can be refused from memory:
//! after a sale thousands ask again each second, each with a key that must be looked for first.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tracing::warn;

use crate::ledger::{Ledger, Purchase};

/// More orders of one product are not kept in memory: 16 bytes each.
const ORDERS_AT_MOST: i64 = 1_000_000;
/// The database is read for one product at most so often, however often its stock changes.
const READ_EVERY: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug)]
pub(super) struct KnownKeys {
    ledger: Ledger,
    hasher: RandomState,
    products: RwLock<HashMap<String, Keys>>,
}

/// The keys of one product's orders.
#[derive(Debug)]
struct Keys {
    /// Begun then.
    read_at: Instant,
    /// All orders under this token and those below are in the set.
    token: u64,
    /// Hashes of buyer and key; `None`: not read yet.
    hashes: Option<HashSet<u64>>,
}

impl KnownKeys {
    pub(super) fn new(ledger: Ledger) -> Self {
        Self { ledger, hasher: RandomState::new(), products: RwLock::default() }
    }

    /// Whether it is certain that this purchase was not made before, by what is known of the stock:
    /// the last token that changed it. If it is not, reads what is missing, for the next who ask.
    pub(super) fn rule_out(
        self: &Arc<Self>,
        product_id: &str,
        token: u64,
        purchase: &Purchase,
    ) -> bool {
        let Some(key) = &purchase.idempotency_key else { return true };
        let products = self.products.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(keys) = products.get(product_id) {
            if let Some(hashes) = keys.hashes.as_ref().filter(|_| keys.token == token) {
                return !hashes.contains(&self.hasher.hash_one((&purchase.buyer, key)));
            }
            if keys.read_at.elapsed() < READ_EVERY {
                return false;
            }
        }
        drop(products);
        self.read(product_id, token);
        false
    }

    fn read(self: &Arc<Self>, product_id: &str, token: u64) {
        let mut products = self.products.write().unwrap_or_else(PoisonError::into_inner);
        let begun = |keys: &Keys| keys.read_at.elapsed() < READ_EVERY;
        if products.get(product_id).is_some_and(begun) {
            return;
        }
        let keys = Keys { read_at: Instant::now(), token, hashes: None };
        products.insert(product_id.to_owned(), keys);
        let (this, product_id) = (Arc::clone(self), product_id.to_owned());
        tokio::spawn(async move {
            let keys = match this.ledger.keys_of(&product_id, ORDERS_AT_MOST).await {
                Ok(keys) => keys,
                Err(error) => return warn!(product_id, %error, "cannot read the orders' keys"),
            };
            let hash = |(buyer, key): (String, String)| this.hasher.hash_one((&buyer, &key));
            let hashes = keys.map(|keys| keys.into_iter().map(hash).collect());
            let mut products = this.products.write().unwrap_or_else(PoisonError::into_inner);
            if let Some(known) = products.get_mut(&product_id).filter(|known| known.token == token)
            {
                known.hashes = hashes;
            }
        });
    }
}
