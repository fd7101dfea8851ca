//! The sale itself: all who wait are sold to in one statement, or each purchase is decided on its
//! own, in one transaction a product.

use std::collections::HashMap;

use sqlx::PgConnection;
use sqlx::postgres::PgPool;

use super::{Columns, PostgresLedger, Row};
use crate::ledger::decide::Ruling;
use crate::ledger::{Decision, Demand, LedgerError, Order, Outcome, Purchase, sql};

/// Whoever waits for a product gets what he asked for, or none of them: the token is above all
/// others, the units are there, and no buyer is limited. Nobody gets anything if a key was used
/// before. A statement is a transaction, so that costs one round trip, for all products together.
const SELL_ALL: &str = "WITH taken AS (\
       UPDATE stock SET fence = token, available = available - units \
       FROM unnest($1::TEXT[], $2::BIGINT[], $3::BIGINT[]) WITH ORDINALITY \
         AS demand (product, token, units, number) \
       WHERE product_id = product AND fence < token AND available >= units \
         AND deleted_at IS NULL AND NOT EXISTS \
         (SELECT FROM products WHERE id = product AND max_per_buyer IS NOT NULL) \
       RETURNING number, product_id, fence, available), \
     sold AS (\
       INSERT INTO orders (id, product_id, buyer, quantity, idempotency_key, fence) \
       SELECT id, product_id, buyer, quantity, key, fence \
       FROM unnest($4::BIGINT[], $5::UUID[], $6::TEXT[], $7::BIGINT[], $8::TEXT[]) \
         AS wanted (number, id, buyer, quantity, key) JOIN taken USING (number) \
       ORDER BY buyer, key) \
     SELECT number, available FROM taken";

/// `None` where not everybody can be sold to, or it cannot be told in one statement.
pub(super) async fn sell_all(
    pool: &PgPool,
    demands: &[Demand<'_>],
) -> Result<Vec<Option<Decision>>, LedgerError> {
    let products: Vec<&str> = demands.iter().map(|demand| demand.product_id).collect();
    let tokens: Vec<i64> = demands.iter().map(|demand| demand.token).collect();
    let units: Vec<i64> = demands.iter().map(Demand::units).collect();
    let sold: Vec<Vec<Order>> = demands.iter().map(Demand::orders).collect();
    let numbered = sold.iter().zip(1_i64..);
    let numbers: Vec<i64> =
        numbered.flat_map(|(orders, number)| orders.iter().map(move |_| number)).collect();
    let (ids, buyers, quantities, keys): Columns<'_> = sold.iter().flatten().map(row).collect();
    let taken: Vec<(i64, i64)> = sqlx::query_as(SELL_ALL)
        .bind(products)
        .bind(tokens)
        .bind(units)
        .bind(numbers)
        .bind(ids)
        .bind(buyers)
        .bind(quantities)
        .bind(keys)
        .fetch_all(pool)
        .await?;
    let available: HashMap<i64, i64> = taken.into_iter().collect();
    let decision = |(orders, number): (Vec<Order>, i64)| {
        let available = *available.get(&number)?;
        Some(Decision { outcomes: orders.into_iter().map(Outcome::Sold).collect(), available })
    };
    Ok(sold.into_iter().zip(1..).map(decision).collect())
}

pub(super) async fn sell_one_by_one(
    ledger: &PostgresLedger,
    demand: &Demand<'_>,
) -> Result<Decision, LedgerError> {
    let mut transaction = ledger.begin().await?;
    let decision = decide(&mut transaction, demand).await;
    transaction.end(decision).await
}

async fn decide(
    connection: &mut PgConnection,
    demand: &Demand<'_>,
) -> Result<Decision, LedgerError> {
    let Demand { product_id, token, ref purchases } = *demand;
    let available = fence(connection, product_id, token).await?;
    let max_per_buyer =
        sqlx::query_scalar(sql::MAX_PER_BUYER).bind(product_id).fetch_one(&mut *connection).await?;
    let bought = match max_per_buyer {
        Some(_) => bought(connection, product_id, purchases).await?,
        None => HashMap::new(),
    };
    let existing = existing(connection, purchases).await?;
    let mut ruling = Ruling { product_id, available, max_per_buyer, existing, bought };
    let outcomes = ruling.decide(purchases);
    record(connection, product_id, token, available - ruling.available, &outcomes).await?;
    Ok(Decision { outcomes, available: ruling.available })
}

fn row(order: &Order) -> Row<'_> {
    let Order { id, buyer, quantity, idempotency_key, .. } = order;
    (*id, buyer, *quantity, idempotency_key.as_deref())
}

/// Installs the token and locks the row; returns the units left.
async fn fence(
    connection: &mut PgConnection,
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

async fn bought(
    connection: &mut PgConnection,
    product_id: &str,
    purchases: &[&Purchase],
) -> Result<HashMap<String, i64>, LedgerError> {
    let buyers: Vec<&str> = purchases.iter().map(|purchase| purchase.buyer.as_str()).collect();
    let rows: Vec<(String, i64)> = sqlx::query_as(concat!(
        "SELECT buyer, sum(quantity)::BIGINT FROM orders \
         WHERE product_id = $1 AND buyer = ANY($2) AND ",
        sql::kept!(),
        " GROUP BY buyer"
    ))
    .bind(product_id)
    .bind(&buyers)
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().collect())
}

async fn existing(
    connection: &mut PgConnection,
    purchases: &[&Purchase],
) -> Result<HashMap<(String, String), Order>, LedgerError> {
    let (buyers, keys): (Vec<&str>, Vec<&str>) = purchases
        .iter()
        .filter_map(|purchase| {
            Some((purchase.buyer.as_str(), purchase.idempotency_key.as_deref()?))
        })
        .unzip();
    if keys.is_empty() {
        return Ok(HashMap::new());
    }
    let orders: Vec<Order> = sqlx::query_as(
        // LATERAL: one look into the index for each, whatever the planner thinks of the table.
        "SELECT o.id, o.product_id, o.buyer, o.quantity, o.idempotency_key, \
         (SELECT count(*) FROM orders l WHERE l.id = o.id) AS lines \
         FROM unnest($1::TEXT[], $2::TEXT[]) AS asked (buyer, key) CROSS JOIN LATERAL \
         (SELECT * FROM orders WHERE buyer = asked.buyer AND idempotency_key = asked.key \
          AND line = 0) o",
    )
    .bind(&buyers)
    .bind(&keys)
    .fetch_all(connection)
    .await?;
    let by_key =
        |order: Order| Some(((order.buyer.clone(), order.idempotency_key.clone()?), order));
    Ok(orders.into_iter().filter_map(by_key).collect())
}

/// Writes what was decided.
async fn record(
    connection: &mut PgConnection,
    product_id: &str,
    token: i64,
    units: i64,
    outcomes: &[Outcome],
) -> Result<(), LedgerError> {
    if units == 0 {
        return Ok(());
    }
    let done = sqlx::query(sql::TAKE)
        .bind(product_id)
        .bind(units)
        .bind(token)
        .execute(&mut *connection)
        .await?;
    // The row is ours since `fence`, so this cannot happen; if it does, nothing may be sold.
    if done.rows_affected() != 1 {
        return Err(LedgerError::Database(sqlx::Error::RowNotFound));
    }
    // In order of the keys: transactions that use the same ones wait for each other, not in a circle.
    let sold: Vec<&Order> = outcomes
        .iter()
        .filter_map(|outcome| if let Outcome::Sold(order) = outcome { Some(order) } else { None })
        .collect();
    let (ids, buyers, quantities, keys): Columns<'_> = sold.into_iter().map(row).collect();
    sqlx::query(
        "INSERT INTO orders (id, product_id, buyer, quantity, idempotency_key, fence) \
         SELECT id, $1, buyer, quantity, key, $2 \
         FROM unnest($3::UUID[], $4::TEXT[], $5::BIGINT[], $6::TEXT[]) \
         AS sold (id, buyer, quantity, key) \
         ORDER BY buyer, key",
    )
    .bind(product_id)
    .bind(token)
    .bind(ids)
    .bind(buyers)
    .bind(quantities)
    .bind(keys)
    .execute(connection)
    .await?;
    Ok(())
}
