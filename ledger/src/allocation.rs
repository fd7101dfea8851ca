//! The decision itself, without a database: who gets how many, in order of arrival.

use std::collections::HashMap;

use crate::limit_key::counted_names;
use crate::types::{Order, Outcome, Purchase};

/// The state that the transaction read, and the decision made from it.
pub(crate) struct Allocation<'a> {
    pub(crate) product_id: &'a str,
    pub(crate) available: i64,
    pub(crate) max_per_buyer: Option<i64>,
    /// Orders that exist under keys of this batch, by buyer and key.
    pub(crate) existing: HashMap<(String, String), Order>,
    /// Units that buyers and persons of this batch have already, by buyer and limit key.
    pub(crate) bought: HashMap<String, i64>,
}

impl Allocation<'_> {
    /// Decides one purchase after the other; `available` ends at what is left.
    pub(crate) fn decide(&mut self, purchases: &[&Purchase]) -> Vec<Outcome> {
        purchases.iter().map(|purchase| self.decide_one(purchase)).collect()
    }

    fn decide_one(&mut self, purchase: &Purchase) -> Outcome {
        let key =
            purchase.idempotency_key.as_ref().map(|key| (purchase.buyer.clone(), key.clone()));
        if let Some(order) = key.as_ref().and_then(|key| self.existing.get(key)) {
            return Outcome::of_existing(order.clone(), self.product_id, purchase.quantity);
        }
        if purchase.quantity > self.available {
            return Outcome::SoldOut;
        }
        if let Some(limit) = self.max_per_buyer {
            let names = counted_names(&purchase.buyer, purchase.limit_key.as_deref());
            let bought = |name| self.bought.get(name).copied().unwrap_or(0);
            if names.clone().any(|name| bought(name).saturating_add(purchase.quantity) > limit) {
                return Outcome::LimitReached;
            }
            for name in names {
                *self.bought.entry(name.to_owned()).or_default() += purchase.quantity;
            }
        }
        self.available -= purchase.quantity;
        let order = purchase.order(self.product_id);
        if let Some(key) = key {
            self.existing.insert(key, order.clone());
        }
        Outcome::Sold(order)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn purchase(buyer: &str, quantity: i64, key: Option<&str>) -> Purchase {
        let idempotency_key = key.map(str::to_owned);
        Purchase { buyer: buyer.to_owned(), quantity, idempotency_key, limit_key: None }
    }

    fn allocation(available: i64, max_per_buyer: Option<i64>) -> Allocation<'static> {
        Allocation {
            product_id: "1",
            available,
            max_per_buyer,
            existing: HashMap::new(),
            bought: HashMap::new(),
        }
    }

    fn decide(allocation: &mut Allocation<'_>, purchases: &[Purchase]) -> Vec<&'static str> {
        let outcomes = allocation.decide(&purchases.iter().collect::<Vec<_>>());
        let name = |outcome: &Outcome| match outcome {
            Outcome::Sold(_) => "sold",
            Outcome::Replayed(_) => "replayed",
            Outcome::KeyReused => "key reused",
            Outcome::SoldOut => "sold out",
            Outcome::LimitReached => "limit",
        };
        outcomes.iter().map(name).collect()
    }

    #[test]
    fn first_come_first_served_and_not_one_more() {
        let mut allocation = allocation(3, None);
        let purchases = [
            purchase("a", 2, None),
            purchase("b", 2, None),
            purchase("c", 1, None),
            purchase("d", 1, None),
        ];
        assert_eq!(decide(&mut allocation, &purchases), ["sold", "sold out", "sold", "sold out"]);
        assert_eq!(allocation.available, 0);
    }

    #[test]
    fn a_key_buys_once_even_within_a_batch() {
        let mut allocation = allocation(9, None);
        let purchases = [
            purchase("a", 1, Some("k")),
            purchase("a", 1, Some("k")),
            purchase("a", 2, Some("k")),
            purchase("b", 1, Some("k")),
        ];
        assert_eq!(decide(&mut allocation, &purchases), ["sold", "replayed", "key reused", "sold"]);
        assert_eq!(allocation.available, 7);
    }

    #[test]
    fn a_key_still_answers_when_all_is_sold() {
        let mut allocation = allocation(1, Some(1));
        let purchases = [purchase("a", 1, Some("k")), purchase("a", 1, Some("k"))];
        assert_eq!(decide(&mut allocation, &purchases), ["sold", "replayed"]);
    }

    #[test]
    fn the_limit_counts_what_was_bought_before_and_in_this_batch() {
        let mut allocation = allocation(9, Some(3));
        allocation.bought.insert("a".to_owned(), 1);
        let purchases = [
            purchase("a", 1, None),
            purchase("a", 2, None),
            purchase("a", 1, None),
            purchase("a", 1, None),
            purchase("b", 3, None),
        ];
        assert_eq!(decide(&mut allocation, &purchases), ["sold", "limit", "sold", "limit", "sold"]);
        assert_eq!(allocation.available, 4);
    }

    #[test]
    fn neither_an_account_nor_a_person_has_more_than_the_limit() {
        let by = |buyer: &str, person: Option<&str>| Purchase {
            limit_key: person.map(str::to_owned),
            ..purchase(buyer, 1, None)
        };
        let mut allocation = allocation(9, Some(2));
        allocation.bought.insert("old".to_owned(), 2);
        let purchases = [
            by("a", Some("p")),
            by("b", Some("p")),
            by("a", Some("p")),
            by("c", Some("p")),
            by("c", Some("q")),
            by("old", Some("new")),
        ];
        let expected = ["sold", "sold", "limit", "limit", "sold", "limit"];
        assert_eq!(decide(&mut allocation, &purchases), expected);
        assert_eq!(allocation.available, 6);
    }
}
