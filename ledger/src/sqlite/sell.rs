//! The sale itself: all purchases of a product are granted together, or decided in their order.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;
use serde::Serialize;
use sqlx::{QueryBuilder, Sqlite, SqliteConnection};
use uuid::fmt::Hyphenated;

use crate::allocation::Allocation;
use crate::demand::{Decided, Demand};
use crate::error::LedgerError;
use crate::limit_key::units_of_person;
use crate::money::Price;
use crate::sql;
use crate::types::{Decision, Order, OrderRow, Outcome, Purchase};

/// Units for everybody, where no buyer has a limit.
const TAKE_ALL: &str = "UPDATE stock SET fence = $2, available = available - $3 \
     WHERE product_id = $1 AND fence < $2 AND available >= $3 AND deleted_at IS NULL \
       AND NOT EXISTS \
       (SELECT 1 FROM products WHERE id = $1 AND max_per_buyer IS NOT NULL) \
     RETURNING available";

/// Rows of the longest statement. Those below have a power of two of them, so that there are few,
/// and each is prepared once.
const MAX_ROWS: usize = 256;

/// Orders by their keys ($1: an array of buyer and key). CROSS JOIN keeps the order of the tables: one look into the
/// index for each, whatever the planner thinks.
const EXISTING: &str = concat!(
    "SELECT ",
    sql::keyed_columns!(),
    " FROM json_each($1) asked CROSS JOIN orders o \
     WHERE o.buyer = asked.value ->> 0 AND o.idempotency_key = asked.value ->> 1 AND o.line = 0"
);

/// Units of the product ($1) that buyers ($2: an array without duplicates) have.
const BOUGHT: &str = concat!(
    "SELECT o.buyer, sum(o.quantity) FROM json_each($2) asked CROSS JOIN orders o \
     WHERE o.buyer = asked.value AND o.product_id = $1 AND ",
    sql::kept!(),
    " GROUP BY o.buyer"
);

/// Units of the product ($1) that persons have (limit keys in $2, an array without duplicates).
pub(crate) const BOUGHT_BY_PERSONS: &str = concat!(
    "SELECT asked.value, (SELECT sum(units) FROM (",
    units_of_person!("asked.value", "$1"),
    ")) AS had FROM json_each($2) asked WHERE had IS NOT NULL"
);

/// Units of the product ($1) that a buyer or a limit key ($2) has.
pub(crate) const BOUGHT_BY_NAME: &str = concat!(
    "SELECT coalesce(sum(units), 0) FROM (SELECT quantity AS units FROM orders \
     WHERE product_id = $1 AND buyer = $2 AND ",
    sql::kept!(),
    " UNION ALL ",
    units_of_person!("$2", "$1"),
    ")"
);

/// Decides all products. A key that was used before may undo it: that is an error.
pub(crate) async fn sell_at_once(
    connection: &mut SqliteConnection,
    demands: &[Demand<'_>],
) -> Result<Decided, LedgerError> {
    let mut decided = Vec::with_capacity(demands.len());
    for demand in demands {
        decided.push(match take_all(connection, demand).await? {
            Some(decision) => Some(Ok(decision)),
            None => Some(decide_one(connection, demand).await?),
        });
    }
    Ok(decided)
}

/// `None` where not everybody can be sold to, or it cannot be told so quickly: nothing was changed.
async fn take_all(
    connection: &mut SqliteConnection,
    demand: &Demand<'_>,
) -> Result<Option<Decision>, LedgerError> {
    let left: Option<i64> = sqlx::query_scalar(TAKE_ALL)
        .bind(demand.product_id)
        .bind(demand.token)
        .bind(demand.units())
        .fetch_optional(&mut *connection)
        .await?;
    let Some(available) = left else { return Ok(None) };
    let sold = demand.orders();
    let orders: Vec<&Order> = sold.iter().collect();
    let unit_price = record_orders(connection, demand.product_id, demand.token, &orders).await?;
    let outcome = |order| Outcome::Sold(Order { unit_price, ..order });
    let outcomes = sold.into_iter().map(outcome).collect();
    Ok(Some(Decision { outcomes, available, fenced: true }))
}

/// Each product by the rules.
pub(crate) async fn decide_all(
    connection: &mut SqliteConnection,
    demands: &[Demand<'_>],
) -> Result<Decided, LedgerError> {
    let mut decided = Vec::with_capacity(demands.len());
    for demand in demands {
        decided.push(Some(decide_one(connection, demand).await?));
    }
    Ok(decided)
}

/// The outer error ends the transaction; after the inner one nothing was changed.
async fn decide_one(
    connection: &mut SqliteConnection,
    demand: &Demand<'_>,
) -> Result<Result<Decision, LedgerError>, LedgerError> {
    match decide(connection, demand).await {
        Err(refused @ (LedgerError::StaleToken { .. } | LedgerError::UnknownProduct(_))) => {
            Ok(Err(refused))
        }
        decision => decision.map(Ok),
    }
}

async fn decide(
    connection: &mut SqliteConnection,
    demand: &Demand<'_>,
) -> Result<Decision, LedgerError> {
    let Demand { product_id, token, ref purchases } = *demand;
    let available = fence(connection, product_id, token).await?;
    let max_per_buyer: Option<i64> =
        sqlx::query_scalar(sql::MAX_PER_BUYER).bind(product_id).fetch_one(&mut *connection).await?;
    let mut allocation = Allocation {
        product_id,
        available,
        max_per_buyer,
        existing: existing(connection, purchases).await?,
        bought: HashMap::new(),
    };
    if max_per_buyer.is_some() {
        allocation.bought = bought_by_each(connection, product_id, purchases).await?;
    }
    let mut outcomes = allocation.decide(purchases);
    let units = available - allocation.available;
    let price = record(connection, product_id, token, units, &outcomes).await?;
    Outcome::set_price(&mut outcomes, price);
    Ok(Decision { outcomes, available: allocation.available, fenced: true })
}

/// The orders that have keys of these purchases.
async fn existing(
    connection: &mut SqliteConnection,
    purchases: &[&Purchase],
) -> Result<HashMap<(String, String), Order>, LedgerError> {
    let keyed = purchases.iter().filter_map(|purchase| {
        Some((purchase.buyer.as_str(), purchase.idempotency_key.as_deref()?))
    });
    let keyed: Vec<(&str, &str)> = keyed.collect();
    if keyed.is_empty() {
        return Ok(HashMap::new());
    }
    let rows: Vec<OrderRow<Hyphenated>> =
        sqlx::query_as(EXISTING).bind(json(&keyed)?).fetch_all(connection).await?;
    let by_key = |row| {
        let order = Order::of_row(row);
        Some(((order.buyer.clone(), order.idempotency_key.clone()?), order))
    };
    Ok(rows.into_iter().filter_map(by_key).collect())
}

/// Units of the product that buyers and persons of these purchases have.
async fn bought_by_each(
    connection: &mut SqliteConnection,
    product_id: &str,
    purchases: &[&Purchase],
) -> Result<HashMap<String, i64>, LedgerError> {
    let buyers: HashSet<&str> = purchases.iter().map(|purchase| purchase.buyer.as_str()).collect();
    let query = sqlx::query_as(BOUGHT).bind(product_id).bind(json(&buyers)?);
    let mut rows: Vec<(String, i64)> = query.fetch_all(&mut *connection).await?;
    let keys: HashSet<&str> =
        purchases.iter().filter_map(|purchase| purchase.limit_key.as_deref()).collect();
    if !keys.is_empty() {
        let query = sqlx::query_as(BOUGHT_BY_PERSONS).bind(product_id).bind(json(&keys)?);
        rows.extend(query.fetch_all(connection).await?);
    }
    Ok(rows.into_iter().collect())
}

/// The text of an array, for `json_each`.
fn json(value: &impl Serialize) -> Result<String, LedgerError> {
    serde_json::to_string(value)
        .map_err(|error| LedgerError::Database(sqlx::Error::Encode(Box::new(error))))
}

/// Installs the token; returns the units left.
async fn fence(
    connection: &mut SqliteConnection,
    product_id: &str,
    token: i64,
) -> Result<i64, LedgerError> {
    let available = sqlx::query_scalar(sql::FENCE)
        .bind(product_id)
        .bind(token)
        .fetch_optional(&mut *connection)
        .await?;
    if let Some(available) = available {
        return Ok(available);
    }
    let seen =
        sqlx::query_scalar(sql::FENCE_SEEN).bind(product_id).fetch_optional(connection).await?;
    Err(LedgerError::refused(product_id, token, seen))
}

/// Units of the product that belong to a buyer or to a limit key.
pub(crate) async fn bought(
    connection: &mut SqliteConnection,
    product_id: &str,
    name: &str,
) -> Result<i64, LedgerError> {
    Ok(sqlx::query_scalar(BOUGHT_BY_NAME).bind(product_id).bind(name).fetch_one(connection).await?)
}

pub(crate) async fn find_order(
    connection: &mut SqliteConnection,
    buyer: &str,
    key: &str,
) -> Result<Option<Order>, LedgerError> {
    let row: Option<OrderRow<Hyphenated>> =
        sqlx::query_as(sql::ORDER_BY_KEY).bind(buyer).bind(key).fetch_optional(connection).await?;
    Ok(row.map(Order::of_row))
}

/// Writes what was decided. Returns the price of a unit.
async fn record(
    connection: &mut SqliteConnection,
    product_id: &str,
    token: i64,
    units: i64,
    outcomes: &[Outcome],
) -> Result<Option<Price>, LedgerError> {
    if units == 0 {
        return Ok(None);
    }
    let done = sqlx::query(sql::TAKE)
        .bind(product_id)
        .bind(units)
        .bind(token)
        .execute(&mut *connection)
        .await?;
    // The database is ours since `BEGIN IMMEDIATE`, so this cannot happen; if it does, nothing may
    // be sold.
    if done.rows_affected() != 1 {
        return Err(LedgerError::Database(sqlx::Error::RowNotFound));
    }
    let sold = outcomes.iter().filter_map(|outcome| match outcome {
        Outcome::Sold(order) => Some(order),
        _ => None,
    });
    record_orders(connection, product_id, token, &sold.collect::<Vec<_>>()).await
}

/// Returns the price of a unit.
async fn record_orders(
    connection: &mut SqliteConnection,
    product_id: &str,
    token: i64,
    orders: &[&Order],
) -> Result<Option<Price>, LedgerError> {
    let (price, currency): (Option<i64>, Option<String>) =
        sqlx::query_as(sql::PRICE).bind(product_id).fetch_one(&mut *connection).await?;
    // As the column's default, which would be made for each row.
    let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string();
    let mut rest = orders;
    while let Some(power) = rest.len().checked_ilog2() {
        let (rows, others) = rest.split_at(MAX_ROWS.min(1 << power));
        rest = others;
        QueryBuilder::<Sqlite>::new(
            "INSERT INTO orders \
             (id, product_id, buyer, quantity, idempotency_key, fence, created_at, unit_price, currency, \
              limit_key) ",
        )
        .push_values(rows, |mut row, order| {
            row.push_bind(order.id.hyphenated())
                .push_bind(product_id)
                .push_bind(order.buyer.as_str())
                .push_bind(order.quantity)
                .push_bind(order.idempotency_key.as_deref())
                .push_bind(token)
                .push_bind(now.as_str())
                .push_bind(price.unwrap_or(0))
                .push_bind(currency.as_deref())
                .push_bind(order.limit_key.as_deref());
        })
        .build()
        .execute(&mut *connection)
        .await?;
    }
    Ok(Price::of_columns(price, currency.as_deref()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sqlite::SqliteLedger;
    use crate::{Ledger, ProductDeclaration};

    /// More than one statement has rows, and no power of two.
    const BUYERS: usize = 2 * MAX_ROWS + 89;

    #[tokio::test]
    async fn each_purchase_of_a_long_batch_is_written_once() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("sale.db").display());
        let ledger = Ledger::connect_lazy(&url, 2).unwrap();
        ledger.migrate().await.unwrap();
        let product = serde_json::json!({"id": "1", "name": "Console", "stock": BUYERS + 1});
        let product: ProductDeclaration = serde_json::from_value(product).unwrap();
        ledger.declare(&product, 1).await.unwrap();
        let purchase = |buyer: usize| Purchase {
            buyer: format!("buyer-{buyer}"),
            quantity: 1,
            idempotency_key: buyer.is_multiple_of(2).then(|| format!("key-{buyer}")),
            limit_key: None,
        };
        let purchases: Vec<Purchase> = (0..BUYERS).map(purchase).collect();
        let demand = Demand { product_id: "1", token: 2, purchases: purchases.iter().collect() };
        let mut decisions = ledger.sell(&[demand]).await.unwrap();
        let decision = decisions.remove(0).unwrap();
        assert_eq!(decision.available, 1);
        for (purchase, outcome) in purchases.iter().zip(decision.outcomes) {
            let Outcome::Sold(order) = outcome else { panic!("{outcome:?}") };
            assert_eq!(order.buyer, purchase.buyer);
            let written = ledger.placed_by(&purchase.buyer, None, 2).await.unwrap();
            assert_eq!(written.iter().map(|order| order.id).collect::<Vec<_>>(), [order.id]);
            assert_eq!(written[0].idempotency_key, purchase.idempotency_key);
        }
    }

    #[tokio::test]
    async fn only_the_writer_can_write() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("sale.db").display());
        let ledger = SqliteLedger::connect_lazy(&url, 1).unwrap();
        ledger.migrate().await.unwrap();
        let delete = "DELETE FROM products";
        assert!(sqlx::query(delete).execute(&ledger.readers).await.is_err());
        assert!(sqlx::query(delete).execute(&ledger.writer).await.is_ok());
    }
}
