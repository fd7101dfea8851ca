//! The sale itself, in statements that are transactions: one that grants all purchases, or a read of the
//! products and then one that changes those whose fence is still the one that was read.

use std::collections::{HashMap, HashSet};

use sqlx::postgres::{PgArguments, PgPool, PgTypeInfo};
use sqlx::{Arguments, Either, Executor, PgConnection, SqlSafeStr, Statement};
use uuid::Uuid;

use super::at_once_sql::{SELL_AT_ONCE, SELL_BY_LIMIT_KEY, SELL_REPEATED_AT_ONCE};
use super::connection::{IsRepeated, fetch};
use super::rows::{Columns, limit_keys, row};
use crate::demand::{Decided, Demand, ProductState};
use crate::error::LedgerError;
use crate::limit_key::units_of_person;
use crate::money::Price;
use crate::orders::sql::ORDER_STATEMENTS;
use crate::sql;
use crate::types::{Decision, Order, OrderRow, Outcome, Purchase};

/// The second half of both statements that sell: it writes the orders of the products in `taken`. In the
/// order of the keys, so that transactions which use the same ones wait for each other, not in a circle.
/// The arguments: the column of limit keys, and the array of its values.
macro_rules! sold {
    ($limit_key:literal, $limit_keys:literal) => {
        concat!(
            "sold AS (\
               INSERT INTO orders \
                 (id, product_id, buyer, quantity, idempotency_key, fence, unit_price, currency",
            $limit_key,
            ") SELECT id, product_id, buyer, quantity, key, fence, unit_price, currency",
            $limit_key,
            " FROM unnest($4::BIGINT[], $5::UUID[], $6::TEXT[], $7::BIGINT[], $8::TEXT[]",
            $limit_keys,
            ") AS wanted (number, id, buyer, quantity, key",
            $limit_key,
            ") JOIN taken USING (number) \
               ORDER BY buyer, key) \
             SELECT number, available, nullif(unit_price, 0), currency FROM taken"
        )
    };
}

/// Grants all purchases of a product, or none of them: the token must be above the fence, there must be
/// enough units, and no limit per buyer. A key that was used before undoes the whole statement. The
/// statement is a transaction, so it costs one round trip for all products together. Where it waited for another
/// transaction, the limit and the price are older than the row of the stock, so a product whose fence moved is left out.
const SELL_ALL: &str = concat!(
    "WITH taken AS (\
       UPDATE stock SET fence = token, available = stock.available - units \
       FROM unnest($1::TEXT[], $2::BIGINT[], $3::BIGINT[]) WITH ORDINALITY \
         AS demand (product, token, units, number) JOIN products ON products.id = product \
         JOIN stock seen ON seen.product_id = product \
       WHERE stock.product_id = product AND stock.fence < token AND stock.fence = seen.fence \
         AND stock.available >= units AND stock.deleted_at IS NULL AND max_per_buyer IS NULL \
       RETURNING number, stock.product_id, stock.fence, stock.available, \
         coalesce(price, 0) AS unit_price, currency), ",
    sold!("", "")
);

/// What was decided from [`READ`], of the products whose fence is still the one that was read: all
/// that changes a product, or who has how many of it, installs a token in the same transaction. A
/// statement that waited for such a transaction sees its fence, though not its orders.
const SELL_AS_READ: &str = concat!(
    "WITH taken AS (\
       UPDATE stock SET fence = token, available = available - units \
       FROM unnest($1::TEXT[], $2::BIGINT[], $3::BIGINT[], $9::BIGINT[]) WITH ORDINALITY \
         AS demand (product, token, units, seen, number) JOIN products ON products.id = product \
       WHERE product_id = product AND fence = seen AND available >= units \
         AND deleted_at IS NULL \
       RETURNING number, product_id, fence, available, coalesce(price, 0) AS unit_price, currency), ",
    sold!(", limit_key", ", $10::TEXT[]")
);

/// A row for each product ($1), with its fence, and one for each of the buyers ($2 product, $3
/// buyer) of a limited product who has some of it, and of the limit keys ($4 product, $5 key). One statement,
/// so that they belong together.
const READ: &str = concat!(
    "SELECT product_id, fence, available, max_per_buyer, NULL AS buyer, 0::BIGINT AS bought \
     FROM stock JOIN products ON id = product_id \
     WHERE product_id = ANY($1) AND deleted_at IS NULL \
     UNION ALL \
     SELECT product, 0, 0, NULL, asked.buyer, units::BIGINT \
     FROM unnest($2::TEXT[], $3::TEXT[]) AS asked (product, buyer) \
     JOIN products ON id = product AND max_per_buyer IS NOT NULL CROSS JOIN LATERAL \
       (SELECT sum(quantity) AS units FROM orders \
        WHERE buyer = asked.buyer AND product_id = asked.product AND ",
    sql::kept!(),
    ") had WHERE units IS NOT NULL \
     UNION ALL \
     SELECT product, 0, 0, NULL, asked.key, had.units::BIGINT \
     FROM unnest($4::TEXT[], $5::TEXT[]) AS asked (product, key) \
     JOIN products ON id = product AND max_per_buyer IS NOT NULL CROSS JOIN LATERAL \
       (SELECT sum(units) AS units FROM (",
    units_of_person!("asked.key", "asked.product"),
    ") of_person) had WHERE had.units IS NOT NULL"
);

/// Those of a sale, the most frequent first.
const STATEMENTS: [&str; 7] = [
    SELL_ALL,
    SELL_AT_ONCE,
    SELL_REPEATED_AT_ONCE,
    READ,
    sql::ORDERS_BY_KEYS,
    SELL_AS_READ,
    SELL_BY_LIMIT_KEY,
];

/// Prepares the statements of a sale and of orders on a new connection, and runs each for nobody: the first buyers would
/// wait for the plan, and for what a session reads of the catalog when it first uses a table. Statements that the database
/// refuses, because its tables are not made yet or are locked, are prepared when they are first used.
pub(crate) async fn prepare(connection: &mut PgConnection) -> sqlx::Result<()> {
    for statement in STATEMENTS.into_iter().chain(ORDER_STATEMENTS) {
        let prepared = connection.prepare(statement.into_sql_str()).await;
        let ran = match prepared.map(|statement| count(statement.parameters())) {
            Ok(parameters) => run_for_nobody(connection, statement, parameters).await,
            Err(error) => Err(error),
        };
        match ran {
            Ok(()) => {}
            // The others would be refused as well, and each would take its time.
            Err(sqlx::Error::Database(_)) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn count(parameters: Option<Either<&[PgTypeInfo], usize>>) -> usize {
    parameters.map_or(0, |parameters| parameters.either(<[_]>::len, |number| number))
}

/// Runs a statement whose arrays are all missing, as if they were empty.
async fn run_for_nobody(
    connection: &mut PgConnection,
    statement: &'static str,
    parameters: usize,
) -> sqlx::Result<()> {
    let mut nothing = PgArguments::default();
    for _ in 0..parameters {
        nothing.add(None::<String>).map_err(sqlx::Error::Encode)?;
    }
    sqlx::query_with(statement, nothing).execute(connection).await.map(drop)
}

/// What is left of a product, and the price of a unit.
type TakenRow = (i64, i64, Option<i64>, Option<String>);
type ReadRow = (String, i64, i64, Option<i64>, Option<String>, i64);

/// Sales that one statement writes: for each its number, and what it takes.
struct Sales<'a> {
    demands: Vec<&'a Demand<'a>>,
    orders: Vec<Vec<&'a Order>>,
    /// For [`SELL_AS_READ`].
    seen: Option<Vec<i64>>,
}

impl Sales<'_> {
    /// Returns what is left of the products that were changed, and the prices of their units, by their position.
    async fn write(
        &self,
        pool: &PgPool,
    ) -> Result<(HashMap<usize, (i64, Option<Price>)>, IsRepeated), LedgerError> {
        let Self { demands, orders, seen } = self;
        let products: Vec<&str> = demands.iter().map(|demand| demand.product_id).collect();
        let tokens: Vec<i64> = demands.iter().map(|demand| demand.token).collect();
        let units = |orders: &Vec<&Order>| orders.iter().map(|order| order.quantity).sum();
        let units: Vec<i64> = orders.iter().map(units).collect();
        let numbered = orders.iter().zip(1_i64..);
        let numbers: Vec<i64> =
            numbered.flat_map(|(orders, number)| orders.iter().map(move |_| number)).collect();
        let (ids, buyers, quantities, keys): Columns<'_> =
            orders.iter().flatten().copied().map(row).collect();
        let persons = limit_keys(orders.iter().flatten().copied());
        let statement = if seen.is_some() { SELL_AS_READ } else { SELL_ALL };
        let query = || {
            let query = sqlx::query_as(statement)
                .bind(&products)
                .bind(&tokens)
                .bind(&units)
                .bind(&numbers)
                .bind(&ids)
                .bind(&buyers)
                .bind(&quantities)
                .bind(&keys);
            match seen {
                Some(seen) => query.bind(seen).bind(&persons),
                None => query,
            }
        };
        let (taken, is_repeated): (Vec<TakenRow>, _) = fetch(pool, query).await?;
        let position = |(number, available, price, currency): TakenRow| {
            let price = Price::of_columns(price, currency.as_deref());
            Some((usize::try_from(number).ok()? - 1, (available, price)))
        };
        Ok((taken.into_iter().filter_map(position).collect(), is_repeated))
    }
}

/// `None` where not everybody can be sold to, or it cannot be told in one statement.
pub(crate) async fn sell_all(
    pool: &PgPool,
    demands: &[Demand<'_>],
) -> Result<Decided, LedgerError> {
    let sold: Vec<Vec<Order>> = demands.iter().map(Demand::orders).collect();
    let sales = Sales {
        demands: demands.iter().collect(),
        orders: sold.iter().map(|orders| orders.iter().collect()).collect(),
        seen: None,
    };
    let (available, is_repeated) = sales.write(pool).await?;
    let decision = |(position, orders): (usize, Vec<Order>)| match available.get(&position) {
        Some(&(available, unit_price)) => {
            let outcome = |order| Outcome::Sold(Order { unit_price, ..order });
            let outcomes = orders.into_iter().map(outcome).collect();
            Some(Ok(Decision { outcomes, available, fenced: true }))
        }
        // The lost statement may have sold it.
        None if is_repeated => Some(Err(LedgerError::ConnectionLost)),
        None => None,
    };
    Ok(sold.into_iter().enumerate().map(decision).collect())
}

pub(crate) async fn sell_by_rules(
    pool: &PgPool,
    demands: &[Demand<'_>],
) -> Result<Decided, LedgerError> {
    let states = read(pool, demands).await?;
    // After the fences: a key that was used since belongs to a transaction that moved one of them,
    // or to another product, and then the orders' index refuses it.
    let existing = existing(pool, demands).await?;
    decide(pool, demands, states, existing).await
}

/// Decides from what was read, and writes it.
async fn decide(
    pool: &PgPool,
    demands: &[Demand<'_>],
    mut states: HashMap<String, ProductState>,
    existing: HashMap<(String, String), Order>,
) -> Result<Decided, LedgerError> {
    let mut decided: Decided = demands.iter().map(|_| None).collect();
    let mut rulings = Vec::new();
    let mut keys = HashSet::new();
    for (position, demand) in demands.iter().enumerate() {
        let Some(state) = states.remove(demand.product_id) else {
            decided[position] = Some(Err(LedgerError::UnknownProduct(demand.product_id.into())));
            continue;
        };
        let seen = state.fence;
        match state.allocation(demand, of(demand, &existing)) {
            Err(error) => decided[position] = Some(Err(error)),
            Ok(mut allocation) => {
                let outcomes = allocation.decide(&demand.purchases);
                if sold(&outcomes).is_empty() {
                    // As it was at one moment under the lock, so there is nothing to write.
                    let available = allocation.available;
                    decided[position] = Some(Ok(Decision { outcomes, available, fenced: false }));
                } else if is_free(&mut keys, &outcomes) {
                    // A key of two products at once: the second is decided when the first is written.
                    rulings.push((position, seen, outcomes));
                }
            }
        }
    }
    if rulings.is_empty() {
        return Ok(decided);
    }
    let sales = Sales {
        demands: rulings.iter().map(|(position, ..)| &demands[*position]).collect(),
        orders: rulings.iter().map(|(.., outcomes)| sold(outcomes)).collect(),
        seen: Some(rulings.iter().map(|(_, seen, _)| *seen).collect()),
    };
    let (available, is_repeated) = sales.write(pool).await?;
    for (number, (position, _, mut outcomes)) in rulings.into_iter().enumerate() {
        decided[position] = match available.get(&number) {
            Some(&(available, price)) => {
                Outcome::set_price(&mut outcomes, price);
                Some(Ok(Decision { outcomes, available, fenced: true }))
            }
            // The lost statement may have sold it.
            None if is_repeated => Some(Err(LedgerError::ConnectionLost)),
            None => None,
        };
    }
    Ok(decided)
}

fn sold(outcomes: &[Outcome]) -> Vec<&Order> {
    outcomes
        .iter()
        .filter_map(|outcome| if let Outcome::Sold(order) = outcome { Some(order) } else { None })
        .collect()
}

/// Whether no other product's order has one of these keys; then they are this one's.
fn is_free(keys: &mut HashSet<(String, String)>, outcomes: &[Outcome]) -> bool {
    let of = |order: &Order| Some((order.buyer.clone(), order.idempotency_key.clone()?));
    let new: Vec<_> = sold(outcomes).into_iter().filter_map(of).collect();
    let free = new.iter().all(|key| !keys.contains(key));
    if free {
        keys.extend(new);
    }
    free
}

async fn read(
    pool: &PgPool,
    demands: &[Demand<'_>],
) -> Result<HashMap<String, ProductState>, LedgerError> {
    let mut asked: Vec<(&str, &str)> = demands
        .iter()
        .flat_map(|demand| demand.purchases.iter().map(|p| (demand.product_id, p.buyer.as_str())))
        .collect();
    asked.sort_unstable();
    asked.dedup();
    let (of, buyers): (Vec<&str>, Vec<&str>) = asked.into_iter().unzip();
    let (of_keys, keys) = asked_keys(demands);
    let products: Vec<&str> = demands.iter().map(|demand| demand.product_id).collect();
    let query = || {
        let read = sqlx::query_as(READ).bind(&products).bind(&of).bind(&buyers);
        read.bind(&of_keys).bind(&keys)
    };
    let (rows, _): (Vec<ReadRow>, _) = fetch(pool, query).await?;
    let mut states = HashMap::new();
    let mut bought = Vec::new();
    for (product_id, fence, available, max_per_buyer, buyer, units) in rows {
        if let Some(buyer) = buyer {
            bought.push((product_id, buyer, units));
        } else {
            let bought = HashMap::new();
            let state = ProductState { fence, available, max_per_buyer, bought };
            states.insert(product_id, state);
        }
    }
    for (product_id, buyer, units) in bought {
        if let Some(state) = states.get_mut(&product_id) {
            state.bought.insert(buyer, units);
        }
    }
    Ok(states)
}

/// The limit keys of the demands, each with its product.
fn asked_keys<'a>(demands: &'a [Demand<'_>]) -> (Vec<&'a str>, Vec<&'a str>) {
    let keys = |demand: &'a Demand<'_>| {
        let keys = demand.purchases.iter().filter_map(|purchase| purchase.limit_key.as_deref());
        keys.map(|key| (demand.product_id, key))
    };
    let asked: HashSet<(&str, &str)> = demands.iter().flat_map(keys).collect();
    asked.into_iter().unzip()
}

/// Those orders whose keys the demand has.
fn of(
    demand: &Demand<'_>,
    existing: &HashMap<(String, String), Order>,
) -> HashMap<(String, String), Order> {
    let find = |purchase: &&Purchase| {
        let key = (purchase.buyer.clone(), purchase.idempotency_key.clone()?);
        let order = existing.get(&key)?.clone();
        Some((key, order))
    };
    demand.purchases.iter().filter_map(find).collect()
}

async fn existing(
    pool: &PgPool,
    demands: &[Demand<'_>],
) -> Result<HashMap<(String, String), Order>, LedgerError> {
    let purchases = demands.iter().flat_map(|demand| &demand.purchases);
    let (buyers, keys): (Vec<&str>, Vec<&str>) = purchases
        .filter_map(|purchase| {
            Some((purchase.buyer.as_str(), purchase.idempotency_key.as_deref()?))
        })
        .unzip();
    if keys.is_empty() {
        return Ok(HashMap::new());
    }
    let query = || sqlx::query_as(sql::ORDERS_BY_KEYS).bind(&buyers).bind(&keys);
    let (rows, _): (Vec<OrderRow<Uuid>>, _) = fetch(pool, query).await?;
    let by_key =
        |order: Order| Some(((order.buyer.clone(), order.idempotency_key.clone()?), order));
    Ok(rows.into_iter().map(Order::of_row).filter_map(by_key).collect())
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the tests hold transactions open themselves")]
mod tests;
