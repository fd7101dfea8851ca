//! The decision itself, without a database: who gets what, in order of arrival, all or nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use uuid::Uuid;

use crate::money::Price;

use super::order::{OrderLine, PlacedOrder};
use super::types::{FencedStock, NewOrder, Settled, Task};
use crate::limit_key::counted_names;

/// The state that the transaction read, and the decision made from it.
pub(crate) struct OrderAllocation {
    /// What was left of each product before.
    before: BTreeMap<String, i64>,
    /// The database's time, in milliseconds since 1970.
    now_ms: i64,
    /// What is left of it now.
    pub(crate) available: BTreeMap<String, i64>,
    /// Products that were deleted: nothing of them is sold, but what was sold can be given back.
    deleted: BTreeSet<String>,
    /// Units one buyer may have of a product.
    pub(crate) limits: HashMap<String, i64>,
    /// The price of a unit of a product.
    pub(crate) prices: HashMap<String, Price>,
    /// Units that a buyer or a person has of a product already: by buyer or limit key, and product.
    pub(crate) bought: HashMap<(String, String), i64>,
    /// Orders that exist under keys of these tasks, by buyer and key.
    pub(crate) existing: HashMap<(String, String), PlacedOrder>,
    /// Orders that are to be written.
    pub(crate) placed: Vec<PlacedOrder>,
}

impl OrderAllocation {
    pub(crate) fn new(available: BTreeMap<String, i64>) -> Self {
        Self {
            before: available.clone(),
            now_ms: 0,
            available,
            deleted: BTreeSet::new(),
            limits: HashMap::new(),
            prices: HashMap::new(),
            bought: HashMap::new(),
            existing: HashMap::new(),
            placed: Vec::new(),
        }
    }

    /// From the rows: what is left of each product, whether it was deleted, and what was read with it.
    pub(crate) fn of_rows(FencedStock { rows, now_ms, limits, prices }: FencedStock) -> Self {
        let deleted = rows.iter().filter(|(_, (_, deleted))| *deleted);
        let deleted = deleted.map(|(product, _)| product.clone()).collect();
        let left = rows.into_iter().map(|(product, (units, _))| (product, units));
        Self { now_ms, deleted, limits, prices, ..Self::new(left.collect()) }
    }

    /// The products of which units can be taken, and how many.
    pub(crate) fn with_units(&self) -> Vec<(&str, i64)> {
        let left = self
            .available
            .iter()
            .filter(|(product, units)| **units > 0 && !self.deleted.contains(*product));
        left.map(|(product, units)| (product.as_str(), *units)).collect()
    }

    /// What is left of each product that is on sale.
    pub(crate) fn on_sale(self) -> BTreeMap<String, i64> {
        let Self { mut available, deleted, .. } = self;
        available.retain(|product, _| !deleted.contains(product));
        available
    }

    /// The units of an order whose state was just changed are there again.
    pub(crate) fn give_back(&mut self, order: &PlacedOrder) {
        for line in &order.lines {
            self.give_back_units(&line.product_id, line.quantity);
        }
    }

    /// As [`Self::give_back`], for units of one product.
    pub(crate) fn give_back_units(&mut self, product_id: &str, units: i64) {
        *self.available.entry(product_id.to_owned()).or_default() += units;
    }

    /// Why these lines cannot be taken for a buyer.
    pub(crate) fn refusal(
        &self,
        buyer: &str,
        limit_key: Option<&str>,
        lines: &[OrderLine],
    ) -> Option<Settled> {
        for line in lines {
            let left = self.available.get(&line.product_id).copied().unwrap_or(0);
            if line.quantity > left || self.deleted.contains(&line.product_id) {
                return Some(Settled::SoldOut(line.product_id.clone()));
            }
        }
        for line in lines {
            let Some(limit) = self.limits.get(&line.product_id) else { continue };
            for name in counted_names(buyer, limit_key) {
                let bought = (name.to_owned(), line.product_id.clone());
                let bought = self.bought.get(&bought).copied().unwrap_or(0);
                if bought.saturating_add(line.quantity) > *limit {
                    return Some(Settled::LimitReached(line.product_id.clone()));
                }
            }
        }
        None
    }

    /// Takes lines that are not refused.
    pub(crate) fn take(&mut self, buyer: &str, limit_key: Option<&str>, lines: &[OrderLine]) {
        for line in lines {
            *self.available.entry(line.product_id.clone()).or_default() -= line.quantity;
            for name in counted_names(buyer, limit_key) {
                *self.bought.entry((name.to_owned(), line.product_id.clone())).or_default() +=
                    line.quantity;
            }
        }
    }

    /// Takes all lines, or none.
    pub(crate) fn place(&mut self, new: &NewOrder) -> Settled {
        let key = new.idempotency_key.as_ref().map(|key| (new.buyer.clone(), key.clone()));
        if let Some(order) = key.as_ref().and_then(|key| self.existing.get(key)) {
            return Settled::of_existing(order.clone(), &new.lines);
        }
        let limit_key = new.limit_key.as_deref();
        if let Some(refusal) = self.refusal(&new.buyer, limit_key, &new.lines) {
            return refusal;
        }
        let prices: Vec<Option<Price>> =
            new.lines.iter().map(|line| self.prices.get(&line.product_id).copied()).collect();
        let mut known = prices.iter().flatten();
        if let Some(first) = known.next()
            && known.any(|price| price.currency != first.currency)
        {
            return Settled::MixedCurrencies;
        }
        self.take(&new.buyer, limit_key, &new.lines);
        let order = new.placed(Uuid::now_v7(), prices, self.now_ms);
        if let Some(key) = key {
            self.existing.insert(key, order.clone());
        }
        self.placed.push(order.clone());
        Settled::Done(order)
    }

    /// By how much what is left of each product changed.
    pub(crate) fn moved(&self) -> Vec<(&str, i64)> {
        let moved =
            |(product, units): (&String, &i64)| units - self.before.get(product).unwrap_or(&0);
        let moved = self.available.iter().map(|entry| (entry.0.as_str(), moved(entry)));
        moved.filter(|(_, units)| *units != 0).collect()
    }
}

/// The orders among the tasks.
pub(crate) fn new_orders<'a>(tasks: &[&'a Task]) -> Vec<&'a NewOrder> {
    let order = |task: &&'a Task| match task {
        Task::Place(order) => Some(order),
        Task::GiveBack { .. } | Task::Expire { .. } | Task::HandOut | Task::PayLate { .. } => None,
    };
    tasks.iter().filter_map(order).collect()
}

#[cfg(test)]
mod tests {
    use super::super::order::OrderState;
    use super::*;

    fn lines(lines: &[(&str, i64)]) -> Vec<OrderLine> {
        let line = |(product_id, quantity): &(&str, i64)| OrderLine {
            product_id: (*product_id).to_owned(),
            quantity: *quantity,
        };
        lines.iter().map(line).collect()
    }

    fn new(buyer: &str, of: &[(&str, i64)], key: Option<&str>) -> NewOrder {
        NewOrder {
            buyer: buyer.to_owned(),
            lines: lines(of),
            idempotency_key: key.map(str::to_owned),
            state: OrderState::Confirmed,
            hold_ms: None,
            limit_key: None,
        }
    }

    fn allocation(available: &[(&str, i64)]) -> OrderAllocation {
        let units = available.iter().map(|(product, units)| ((*product).to_owned(), *units));
        OrderAllocation::new(units.collect())
    }

    #[test]
    fn an_order_that_is_short_of_one_product_takes_nothing_of_the_others() {
        let mut allocation = allocation(&[("a", 2), ("b", 1)]);
        let short = allocation.place(&new("ann", &[("a", 1), ("b", 2)], None));
        assert_eq!(short, Settled::SoldOut("b".to_owned()));
        assert_eq!((allocation.moved(), allocation.placed.len()), (vec![], 0));
        assert!(matches!(
            allocation.place(&new("bob", &[("a", 2), ("b", 1)], None)),
            Settled::Done(_)
        ));
        assert_eq!(allocation.moved(), [("a", -2), ("b", -1)]);
    }

    #[test]
    fn the_amount_is_that_of_the_prices_and_an_order_has_one_currency() {
        use crate::money::Currency;
        let price = |amount, code| Price { amount, currency: Currency::of(code).unwrap() };
        let mut allocation = allocation(&[("a", 9), ("b", 9), ("c", 9), ("d", 9)]);
        let prices = [("a", price(250, "EUR")), ("b", price(1, "EUR")), ("c", price(100, "USD"))];
        allocation.prices = prices.map(|(product, price)| (product.to_owned(), price)).into();
        let order = allocation.place(&new("ann", &[("a", 2), ("b", 3), ("d", 1)], None));
        let Settled::Done(order) = order else { panic!("{order:?}") };
        assert_eq!(order.amount(), Some(price(503, "EUR")));
        let free = allocation.place(&new("ann", &[("d", 1)], None));
        let Settled::Done(free) = free else { panic!("{free:?}") };
        assert_eq!(free.amount(), None);
        let moved = allocation.moved().len();
        let mixed = allocation.place(&new("ann", &[("a", 1), ("c", 1)], None));
        assert_eq!((mixed, allocation.moved().len()), (Settled::MixedCurrencies, moved));
    }

    #[test]
    fn a_limit_of_one_product_refuses_the_whole_order_and_counts_within_the_batch() {
        let mut allocation = allocation(&[("a", 9), ("b", 9)]);
        allocation.limits.insert("b".to_owned(), 2);
        allocation.bought.insert(("ann".to_owned(), "b".to_owned()), 1);
        let order = new("ann", &[("a", 1), ("b", 1)], None);
        assert!(matches!(allocation.place(&order), Settled::Done(_)));
        assert_eq!(allocation.place(&order), Settled::LimitReached("b".to_owned()));
        assert_eq!(allocation.moved(), [("a", -1), ("b", -1)]);
    }

    #[test]
    fn a_key_orders_once_even_within_a_batch_and_when_all_is_sold() {
        let mut allocation = allocation(&[("a", 1)]);
        let order = new("ann", &[("a", 1)], Some("k"));
        let Settled::Done(placed) = allocation.place(&order) else { panic!("there is one") };
        assert_eq!(allocation.place(&order), Settled::DoneBefore(placed));
        assert_eq!(allocation.place(&new("ann", &[("a", 2)], Some("k"))), Settled::KeyReused);
        let other = new("bob", &[("a", 1)], Some("k"));
        assert_eq!(allocation.place(&other), Settled::SoldOut("a".to_owned()));
    }

    #[test]
    fn of_a_deleted_product_nothing_is_sold_and_what_comes_back_is_not_told() {
        let rows = [("a", (5, true)), ("b", (5, false))];
        let rows = rows.map(|(product, row)| (product.to_owned(), row));
        let stock = FencedStock { rows: BTreeMap::from(rows), ..FencedStock::default() };
        let mut allocation = OrderAllocation::of_rows(stock);
        let order = new("ann", &[("a", 1), ("b", 1)], None);
        assert_eq!(allocation.place(&order), Settled::SoldOut("a".to_owned()));
        assert!(matches!(allocation.place(&new("ann", &[("b", 1)], None)), Settled::Done(_)));
        assert_eq!(allocation.on_sale(), BTreeMap::from([("b".to_owned(), 4)]));
    }

    #[test]
    fn what_was_given_back_can_be_bought() {
        let mut allocation = allocation(&[("a", 0)]);
        let Settled::SoldOut(_) = allocation.place(&new("ann", &[("a", 1)], None)) else {
            panic!("there is none")
        };
        let back = PlacedOrder {
            id: Uuid::nil(),
            buyer: "bob".to_owned(),
            state: OrderState::Cancelled,
            lines: lines(&[("a", 1)]),
            prices: vec![None],
            idempotency_key: None,
            payment_reference: None,
            expires_at_ms: None,
            refund: None,
            limit_key: None,
        };
        allocation.give_back(&back);
        assert!(matches!(allocation.place(&new("ann", &[("a", 1)], None)), Settled::Done(_)));
        assert_eq!(allocation.moved(), []);
    }
}
