//! Orders by the run that made them. Those of the run are kept; the others may be millions, and are only added up.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::observed::{Foreign, Order, Purchases};

/// Orders that are added up: the same orders have the same sums, in whatever order they come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OrderSums {
    /// How many there are
    pub count: u64,
    /// Of two hashes of each id
    ids: [u64; 2],
    /// Units that are sold and not given back
    held_units: i64,
}

impl OrderSums {
    /// Adds an order.
    pub fn add(&mut self, order: &Order) {
        self.count += 1;
        self.ids[0] = self.ids[0].wrapping_add(hash(&order.id, 0));
        self.ids[1] = self.ids[1].wrapping_add(hash(&order.id, 1));
        if order.holds_units() {
            self.held_units += order.quantity;
        }
    }

    /// What came and went since `before`; absent if these are the same orders. Their states may have changed.
    #[must_use]
    pub fn since(&self, before: &Self) -> Option<Foreign> {
        let signed = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        (self.count != before.count || self.ids != before.ids).then(|| Foreign {
            orders: signed(self.count) - signed(before.count),
            units: self.held_units - before.held_units,
        })
    }

    /// Units that these orders gave back since `before`; negative if they took some again. 0 if orders came or went: then
    /// [`since`](Self::since) has the difference.
    #[must_use]
    pub fn given_back(&self, before: &Self) -> i64 {
        self.since(before).map_or(before.held_units - self.held_units, |_| 0)
    }
}

fn hash(id: &str, seed: u8) -> u64 {
    let mut hasher = DefaultHasher::new();
    (seed, id).hash(&mut hasher);
    hasher.finish()
}

/// Orders that a run has made: its users' orders, and those in answers to its users.
pub struct OfRun {
    /// How the names of its users begin
    users: String,
    /// Hashes of the ids of orders that were answered, ascending
    answered: Vec<u64>,
}

impl OfRun {
    /// `users` begins the names of all users.
    pub fn new(users: String, purchases: &Purchases) -> Self {
        let sold = purchases.sold.iter();
        let mut answered: Vec<u64> = sold.map(|(_, order)| hash(&order.id, 0)).collect();
        answered.sort_unstable();
        Self { users, answered }
    }

    /// Whether this one is.
    pub fn has(&self, order: &Order) -> bool {
        order.buyer.starts_with(&self.users)
            || self.answered.binary_search(&hash(&order.id, 0)).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(id: &str, buyer: &str, state: &str) -> Order {
        Order { id: id.to_owned(), buyer: buyer.to_owned(), quantity: 2, state: state.to_owned() }
    }

    fn sums(orders: &[Order]) -> OrderSums {
        let mut sums = OrderSums::default();
        for order in orders {
            sums.add(order);
        }
        sums
    }

    #[test]
    fn the_same_orders_have_the_same_sums_and_others_are_noticed() {
        let [a, b, c] = ["a", "b", "c"].map(|id| order(id, "x", "paid"));
        let before = sums(&[a.clone(), b.clone()]);
        assert_eq!(sums(&[b.clone(), a.clone()]).since(&before), None, "in any order");
        let cancelled = order("a", "x", "cancelled");
        let ended = sums(&[cancelled, b.clone()]);
        assert_eq!(ended.since(&before), None, "another state");
        assert_eq!((ended.given_back(&before), before.given_back(&ended)), (2, -2));
        let came = sums(&[a.clone(), b.clone(), c.clone()]).since(&before);
        assert_eq!(came, Some(Foreign { orders: 1, units: 2 }));
        assert_eq!(sums(&[a.clone(), b.clone(), c.clone()]).given_back(&before), 0);
        let gone = sums(std::slice::from_ref(&a)).since(&before);
        assert_eq!(gone, Some(Foreign { orders: -1, units: -2 }));
        assert_eq!(sums(&[a, c]).since(&before), Some(Foreign { orders: 0, units: 0 }));
    }

    #[test]
    fn a_run_has_its_users_orders_and_those_it_was_told_of() {
        let told = order("1", "load-7-0", "confirmed");
        let purchases = Purchases { sold: vec![(0, told)], ..Purchases::default() };
        let of_run = OfRun::new("load-7-".to_owned(), &purchases);
        assert!(
            of_run.has(&order("1", "somebody else", "confirmed")),
            "recorded for another buyer"
        );
        assert!(of_run.has(&order("2", "load-7-1", "confirmed")), "recorded without an answer");
        assert!(!of_run.has(&order("2", "load-8-1", "confirmed")));
    }
}
