//! New orders of one product in one statement: all of them are placed, or nothing is changed and the rules decide.

use std::collections::{BTreeMap, HashMap, HashSet};

use uuid::Uuid;

use crate::error::LedgerError;
use crate::money::Price;
use crate::orders::sql::PLACE_AT_ONCE;
use crate::orders::types::{NewOrder, Settled, Settlement, Task};
use crate::postgres::PostgresLedger;
use crate::postgres::connection::fetch;

/// Units left, the price of a unit, and the time.
type TakenRow = (i64, Option<i64>, Option<String>, i64);

/// Orders of one line each, all of one product.
struct Asked<'a> {
    product: &'a str,
    token: i64,
    orders: Vec<&'a NewOrder>,
    /// What each buyer asks for.
    of_buyers: HashMap<&'a str, i64>,
    /// What each person asks for.
    of_persons: HashMap<&'a str, i64>,
}

impl<'a> Asked<'a> {
    /// `None`: other tasks are among them, or a key twice.
    fn new(tokens: &'a BTreeMap<String, i64>, tasks: &[&'a Task]) -> Option<Self> {
        let (product, token) = tokens.first_key_value().filter(|_| tokens.len() == 1)?;
        let mut asked = Self {
            product,
            token: *token,
            orders: Vec::with_capacity(tasks.len()),
            of_buyers: HashMap::with_capacity(tasks.len()),
            of_persons: HashMap::new(),
        };
        let mut keys = HashSet::new();
        for task in tasks {
            let Task::Place(order) = task else { return None };
            let [line] = &order.lines[..] else { return None };
            let is_new = |key| keys.insert((order.buyer.as_str(), key));
            if line.product_id != *product || !order.idempotency_key.as_deref().is_none_or(is_new) {
                return None;
            }
            let units = asked.of_buyers.entry(&order.buyer).or_default();
            *units = units.checked_add(line.quantity)?;
            if let Some(person) = &order.limit_key {
                let units = asked.of_persons.entry(person).or_default();
                *units = units.checked_add(line.quantity)?;
            }
            asked.orders.push(order);
        }
        Some(asked).filter(|asked| !asked.orders.is_empty())
    }

    fn quantity(order: &NewOrder) -> i64 {
        order.lines.iter().map(|line| line.quantity).sum()
    }

    fn settlement(
        self,
        ids: Vec<Uuid>,
        (available, amount, currency, now_ms): TakenRow,
    ) -> Settlement {
        let price = Price::of_columns(amount, currency.as_deref());
        let placed =
            |(order, id): (&NewOrder, Uuid)| Settled::Done(order.placed(id, vec![price], now_ms));
        let outcomes = self.orders.into_iter().zip(ids).map(placed).collect();
        let available = BTreeMap::from([(self.product.to_owned(), available)]);
        Settlement { outcomes, available, handed_out: 0 }
    }
}

impl PostgresLedger {
    /// `None`: nothing was changed, and the rules must decide. [`LedgerError::ConnectionLost`]: the same, unless a statement
    /// whose answer was lost placed them.
    pub(super) async fn place_at_once(
        &self,
        tokens: &BTreeMap<String, i64>,
        tasks: &[&Task],
    ) -> Result<Option<Settlement>, LedgerError> {
        let Some(asked) = Asked::new(tokens, tasks) else { return Ok(None) };
        if self.refusals.is_noted() {
            return Ok(None);
        }
        let ids: Vec<Uuid> = asked.orders.iter().map(|_| Uuid::now_v7()).collect();
        let placed = match self.place(&asked, &ids).await {
            Err(error) if error.is_crossed_keys() => None,
            placed => placed?,
        };
        if placed.is_none() {
            self.refusals.note();
        }
        Ok(placed.map(|taken| asked.settlement(ids, taken)))
    }

    async fn place(
        &self,
        asked: &Asked<'_>,
        ids: &[Uuid],
    ) -> Result<Option<TakenRow>, LedgerError> {
        let Asked { product, token, orders, of_buyers, of_persons } = asked;
        let (buyers, of_buyers): (Vec<&str>, Vec<i64>) = of_buyers.iter().unzip();
        let (persons, of_persons): (Vec<&str>, Vec<i64>) = of_persons.iter().unzip();
        let quantities: Vec<i64> = orders.iter().map(|order| Asked::quantity(order)).collect();
        let units = quantities.iter().copied().fold(0, i64::saturating_add);
        let each = || orders.iter();
        let names: Vec<&str> = each().map(|order| order.buyer.as_str()).collect();
        let keys: Vec<Option<&str>> =
            each().map(|order| order.idempotency_key.as_deref()).collect();
        let states: Vec<&str> = each().map(|order| order.state.name()).collect();
        let holds: Vec<Option<i64>> = each().map(|order| order.hold_ms).collect();
        let limit_keys: Vec<Option<&str>> =
            each().map(|order| order.limit_key.as_deref()).collect();
        let query = || {
            sqlx::query_as(PLACE_AT_ONCE)
                .bind(*product)
                .bind(token)
                .bind(units)
                .bind(&buyers)
                .bind(&of_buyers)
                .bind(&persons)
                .bind(&of_persons)
                .bind(ids)
                .bind(&names)
                .bind(&quantities)
                .bind(&keys)
                .bind(&states)
                .bind(&holds)
                .bind(&limit_keys)
        };
        let (mut taken, is_repeated): (Vec<TakenRow>, _) = fetch(&self.pool, query).await?;
        match taken.pop() {
            // The lost statement may have placed them.
            None if is_repeated => Err(LedgerError::ConnectionLost),
            taken => Ok(taken),
        }
    }
}

#[cfg(test)]
mod tests;
