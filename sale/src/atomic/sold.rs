//! What this replica sold and has not recorded yet, in memory: it need not be read from the stream.
//!
//! It is a copy. What is forgotten here, because the database is slow or the replica died, is found
//! in the stream ([`super::recorder`]).

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::entry::Entry;

/// Orders that are remembered at most; some megabytes.
const MOST: usize = 32_768;

/// Entries of streams that this replica made.
#[derive(Debug, Default)]
pub(crate) struct Sold {
    memory: Mutex<Memory>,
    more: Notify,
}

#[derive(Debug, Default)]
struct Memory {
    by_product: HashMap<String, Vec<Entry>>,
    orders: usize,
}

impl Sold {
    /// Remembers an entry, unless there are too many.
    pub(crate) fn remember(&self, product_id: &str, entry: Entry) {
        let mut memory = self.memory();
        if memory.orders + entry.orders.len() > MOST {
            return;
        }
        memory.orders += entry.orders.len();
        if let Some(entries) = memory.by_product.get_mut(product_id) {
            entries.push(entry);
        } else {
            memory.by_product.insert(product_id.to_owned(), vec![entry]);
        }
        drop(memory);
        self.more.notify_one();
    }

    /// Waits until something was remembered since it was taken last.
    pub(crate) async fn more(&self) {
        self.more.notified().await;
    }

    /// All there is, by product; it is to be recorded, or forgotten.
    pub(crate) fn take(&self) -> HashMap<String, Vec<Entry>> {
        std::mem::take(&mut *self.memory()).by_product
    }

    /// The ids of a product's entries that will be taken yet.
    pub(crate) fn ids(&self, product_id: &str) -> HashSet<String> {
        let memory = self.memory();
        let entries = memory.by_product.get(product_id).map(Vec::as_slice).unwrap_or_default();
        entries.iter().map(|entry| entry.id.clone()).collect()
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
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
        };
        Entry { id: id.to_string(), incarnation: 1, orders: vec![order; orders] }
    }

    #[test]
    fn what_is_sold_is_taken_once() {
        let sold = Sold::default();
        sold.remember("a", entry(1, 1));
        sold.remember("b", entry(2, 1));
        sold.remember("a", entry(3, 1));
        assert_eq!(sold.ids("a"), HashSet::from(["1".to_owned(), "3".to_owned()]));
        let taken = sold.take();
        assert_eq!(taken["a"], [entry(1, 1), entry(3, 1)]);
        assert_eq!(taken["b"], [entry(2, 1)]);
        assert!(sold.take().is_empty());
        assert!(sold.ids("a").is_empty());
    }

    #[test]
    fn a_database_that_takes_nothing_costs_a_bounded_memory() {
        let sold = Sold::default();
        for id in 0..100 {
            sold.remember("a", entry(id, MOST / 8));
        }
        assert_eq!(sold.take()["a"].len(), 8);
        // There is room again.
        sold.remember("a", entry(100, MOST));
        assert_eq!(sold.take()["a"], [entry(100, MOST)]);
    }
}
