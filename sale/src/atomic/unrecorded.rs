//! Orders that this replica sold and has not recorded yet, in memory, so that they need not be read
//! from the stream.
//!
//! This is only a copy. If orders are dropped here, because the database is slow or the replica dies,
//! the stream still has them ([`super::recorder`]).

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::entry::Entry;

/// The most orders in memory; some megabytes.
const MAX_ORDERS: usize = 32_768;

/// Entries of streams that this replica made.
#[derive(Debug, Default)]
pub(crate) struct UnrecordedOrders {
    state: Mutex<State>,
    added: Notify,
}

#[derive(Debug, Default)]
struct State {
    by_product: HashMap<String, Vec<Entry>>,
    orders: usize,
}

impl UnrecordedOrders {
    /// Keeps an entry, unless too many orders are in memory.
    pub(crate) fn remember(&self, product_id: &str, entry: Entry) {
        let mut state = self.state();
        if state.orders + entry.orders.len() > MAX_ORDERS {
            return;
        }
        state.orders += entry.orders.len();
        if let Some(entries) = state.by_product.get_mut(product_id) {
            entries.push(entry);
        } else {
            state.by_product.insert(product_id.to_owned(), vec![entry]);
        }
        drop(state);
        self.added.notify_one();
    }

    /// Waits until an entry was added since the last call.
    pub(crate) async fn added(&self) {
        self.added.notified().await;
    }

    /// Takes all entries, by product. The caller records or drops them.
    pub(crate) fn take(&self) -> HashMap<String, Vec<Entry>> {
        std::mem::take(&mut *self.state()).by_product
    }

    /// The ids of a product's entries that have not been taken yet.
    pub(crate) fn entry_ids(&self, product_id: &str) -> HashSet<String> {
        let state = self.state();
        let entries = state.by_product.get(product_id).map(Vec::as_slice).unwrap_or_default();
        entries.iter().map(|entry| entry.id.clone()).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use ledger::DecidedOrder;

    fn entry(id: usize, orders: usize) -> Entry {
        let order = DecidedOrder {
            id: Uuid::nil(),
            buyer: String::new(),
            quantity: 1,
            idempotency_key: None,
            sold_for: ledger::SoldFor::Nothing,
            limit_key: None,
        };
        Entry { id: id.to_string(), incarnation: 1, orders: vec![order; orders] }
    }

    #[test]
    fn each_entry_is_taken_once() {
        let unrecorded = UnrecordedOrders::default();
        unrecorded.remember("a", entry(1, 1));
        unrecorded.remember("b", entry(2, 1));
        unrecorded.remember("a", entry(3, 1));
        assert_eq!(unrecorded.entry_ids("a"), HashSet::from(["1".to_owned(), "3".to_owned()]));
        let taken = unrecorded.take();
        assert_eq!(taken["a"], [entry(1, 1), entry(3, 1)]);
        assert_eq!(taken["b"], [entry(2, 1)]);
        assert!(unrecorded.take().is_empty());
        assert!(unrecorded.entry_ids("a").is_empty());
    }

    #[test]
    fn while_the_database_is_away_memory_is_bounded() {
        let unrecorded = UnrecordedOrders::default();
        for id in 0..100 {
            unrecorded.remember("a", entry(id, MAX_ORDERS / 8));
        }
        assert_eq!(unrecorded.take()["a"].len(), 8);
        // The memory is free again.
        unrecorded.remember("a", entry(100, MAX_ORDERS));
        assert_eq!(unrecorded.take()["a"], [entry(100, MAX_ORDERS)]);
    }
}
