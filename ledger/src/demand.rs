//! The purchases that wait for a product, and the decisions on them.

use std::collections::HashMap;

use crate::allocation::Allocation;
use crate::error::LedgerError;
use crate::types::{Decision, Order, Purchase};

/// The purchases of one product that a lease covers.
#[derive(Debug, Clone)]
pub struct Demand<'a> {
    /// The product.
    pub product_id: &'a str,
    /// The lease's fencing token.
    pub token: i64,
    /// In order of arrival.
    pub purchases: Vec<&'a Purchase>,
}

/// The decision on each demand; `None`: not decided yet.
pub type Decided = Vec<Option<Result<Decision, LedgerError>>>;

impl Demand<'_> {
    /// Whether the sale limits by a claim: then orders have limit keys.
    pub(crate) fn has_limit_keys(&self) -> bool {
        self.purchases.iter().any(|purchase| purchase.limit_key.is_some())
    }

    pub(crate) fn units(&self) -> i64 {
        self.purchases.iter().map(|purchase| purchase.quantity).sum()
    }

    /// The orders if every purchase is granted.
    pub(crate) fn orders(&self) -> Vec<Order> {
        self.purchases.iter().map(|purchase| purchase.order(self.product_id)).collect()
    }
}

/// A product as a decision needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProductState {
    pub(crate) fence: i64,
    pub(crate) available: i64,
    pub(crate) max_per_buyer: Option<i64>,
    /// See [`Allocation::bought`].
    pub(crate) bought: HashMap<String, i64>,
}

impl ProductState {
    /// An error unless the token is above the product's fence.
    pub(crate) fn allocation<'a>(
        self,
        demand: &Demand<'a>,
        existing: HashMap<(String, String), Order>,
    ) -> Result<Allocation<'a>, LedgerError> {
        let Self { fence, available, max_per_buyer, bought } = self;
        if fence >= demand.token {
            return Err(LedgerError::refused(demand.product_id, demand.token, Some(fence)));
        }
        Ok(Allocation { product_id: demand.product_id, available, max_per_buyer, existing, bought })
    }
}

/// The state before the first step: nothing is decided.
#[must_use]
pub fn undecided(demands: usize) -> Decided {
    std::iter::repeat_with(|| None).take(demands).collect()
}
