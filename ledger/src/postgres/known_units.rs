//! The units that buyers of limited products have, as this process read them last. They are valid while the product
//! has the fence that was written then: each transaction that changes a buyer's units moves the fence.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::demand::Demand;
use crate::types::Order;

/// Buyers that are remembered of all products together, some 100 bytes each.
const MAX_BUYERS: usize = 100_000;

/// By product.
#[derive(Debug, Default)]
pub(crate) struct KnownUnits(Mutex<HashMap<String, Known>>);

#[derive(Debug, Default)]
struct Known {
    fence: i64,
    units: HashMap<String, i64>,
}

/// What a statement may use for the purchases of one product, if its fence is still this one.
#[derive(Debug)]
pub(super) struct Usable {
    /// -1, which no fence is: nothing is known.
    pub(super) fence: i64,
    /// Units of the buyer of each order.
    pub(super) units: Vec<Option<i64>>,
}

impl Usable {
    /// Nothing is known.
    pub(super) fn nothing(orders: &[Order]) -> Self {
        Self { fence: -1, units: vec![None; orders.len()] }
    }
}

impl KnownUnits {
    pub(super) fn usable(&self, product_id: &str, orders: &[Order]) -> Usable {
        let products = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(known) = products.get(product_id) else {
            return Usable::nothing(orders);
        };
        let units = orders.iter().map(|order| known.units.get(&order.buyer).copied()).collect();
        Usable { fence: known.fence, units }
    }

    /// Takes in what a statement read and wrote: the fence before it, the units that each order's buyer had,
    /// and which orders were granted.
    pub(super) fn sold<'a>(
        &self,
        demand: &Demand<'_>,
        seen: i64,
        orders: impl Iterator<Item = (&'a Order, i64, bool)>,
    ) {
        let mut products = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if products.values().map(|known| known.units.len()).sum::<usize>() > MAX_BUYERS {
            products.clear();
        }
        let known = products.entry(demand.product_id.to_owned()).or_default();
        if known.fence != seen {
            known.units.clear();
        }
        known.fence = demand.token;
        let mut bought: HashMap<&str, i64> = HashMap::new();
        for (order, had, is_granted) in orders {
            let bought = bought.entry(&order.buyer).or_insert(had);
            *bought += if is_granted { order.quantity } else { 0 };
        }
        for (buyer, units) in bought {
            match known.units.get_mut(buyer) {
                Some(known) => *known = units,
                None => drop(known.units.insert(buyer.to_owned(), units)),
            }
        }
    }
}
