//! Orders in PostgreSQL: statements for many rows at once.

use std::collections::{BTreeMap, HashMap};

use sqlx::PgConnection;
use uuid::Uuid;

use super::allocation::OrderAllocation;
use super::change::Change;
use super::order::{OrderState, PlacedOrder};
use super::rows::{self, Row};
use super::settle::{OrderStatements, change_state, settle};
use super::types::{FencedStock, NewOrder, Settlement, Task, Waiter, WaiterRow};
use super::{holds, sql};
use crate::error::LedgerError;
use crate::limit_key::BOUGHT_BY_PERSONS;
use crate::money::Price;
use crate::postgres::PostgresLedger;
use crate::sql::{kept, postgres_now};

impl PostgresLedger {
    pub(crate) async fn settle(
        &self,
        tokens: &BTreeMap<String, i64>,
        tasks: &[&Task],
    ) -> Result<Settlement, LedgerError> {
        let mut transaction = self.begin().await?;
        let settlement = settle(&mut *transaction, tokens, tasks).await;
        transaction.end(settlement).await
    }

    pub(crate) async fn change_state(
        &self,
        id: Uuid,
        change: &Change,
        actor: Option<&str>,
    ) -> Result<Option<PlacedOrder>, LedgerError> {
        let mut transaction = self.begin().await?;
        let changed = change_state(&mut *transaction, id, change, actor).await;
        transaction.end(changed).await
    }

    pub(crate) async fn placed(&self, id: Uuid) -> Result<Option<PlacedOrder>, LedgerError> {
        let mut connection = self.pool.acquire().await?;
        connection.placed(id).await
    }

    pub(crate) async fn placed_by_payment(
        &self,
        reference: &str,
    ) -> Result<Option<PlacedOrder>, LedgerError> {
        let placed = sqlx::query_as(sql::PLACED_BY_PAYMENT).bind(reference);
        let rows: Vec<Row<Uuid>> = placed.fetch_all(&self.pool).await?;
        rows::order(rows)
    }

    pub(crate) async fn placed_by_key(
        &self,
        buyer: &str,
        key: &str,
    ) -> Result<Option<PlacedOrder>, LedgerError> {
        let rows: Vec<Row<Uuid>> =
            sqlx::query_as(sql::PLACED_BY_KEY).bind(buyer).bind(key).fetch_all(&self.pool).await?;
        rows::order(rows)
    }

    pub(crate) async fn placed_by(
        &self,
        buyer: &str,
        after: Option<Uuid>,
        limit: i64,
    ) -> Result<Vec<PlacedOrder>, LedgerError> {
        let rows: Vec<Row<Uuid>> = sqlx::query_as(sql::PLACED_BY)
            .bind(buyer)
            .bind(after)
            .bind(limit)
            .fetch_all(&self.pool)
            .await?;
        rows::orders(rows)
    }
}

impl OrderStatements for PgConnection {
    async fn fence(&mut self, tokens: &BTreeMap<String, i64>) -> Result<FencedStock, LedgerError> {
        let (products, values): (Vec<&str>, Vec<i64>) =
            tokens.iter().map(|(product, token)| (product.as_str(), *token)).unzip();
        let rows: Vec<(String, i64, bool, i64)> = sqlx::query_as(concat!(
            "UPDATE stock SET fence = token \
             FROM unnest($1::TEXT[], $2::BIGINT[]) AS held (product, token) \
             WHERE product_id = product AND fence < token \
             RETURNING product_id, available, deleted_at IS NOT NULL, ",
            postgres_now!()
        ))
        .bind(&products)
        .bind(&values)
        .fetch_all(&mut *self)
        .await?;
        let now_ms = rows.first().map_or(0, |row| row.3);
        let rows = rows.into_iter().map(|(product, units, deleted, _)| (product, (units, deleted)));
        let rows: BTreeMap<String, (i64, bool)> = rows.collect();
        if rows.len() == tokens.len() {
            return Ok(FencedStock { rows, now_ms });
        }
        let refused: Vec<&str> =
            products.into_iter().filter(|product| !rows.contains_key(*product)).collect();
        let seen: Vec<(String, i64)> =
            sqlx::query_as("SELECT product_id, fence FROM stock WHERE product_id = ANY($1)")
                .bind(&refused)
                .fetch_all(self)
                .await?;
        Err(LedgerError::refused_among(&refused, seen))
    }

    async fn change_state(
        &mut self,
        id: Uuid,
        change: &Change,
    ) -> Result<Option<PlacedOrder>, LedgerError> {
        let rows: Vec<Row<Uuid>> = if let Change::Refund { units_back, .. } = change {
            let statement = if *units_back { sql::REFUND_WITH_UNITS } else { sql::REFUND };
            let refund = sqlx::query_as(statement).bind(id).bind(holds::now_ms());
            refund.bind(change.reference()).fetch_all(self).await?
        } else {
            let changed = sqlx::query_as(sql::CHANGE_STATE).bind(id).bind(change.target().name());
            changed.bind(change.reference()).fetch_all(self).await?
        };
        rows::order(rows)
    }

    async fn expire(&mut self, ids: &[Uuid]) -> Result<(i64, Vec<(String, i64)>), LedgerError> {
        let rows: Vec<(String, i64, i64)> =
            sqlx::query_as(holds::EXPIRE_ON_POSTGRES).bind(ids).fetch_all(self).await?;
        let orders = rows.iter().map(|row| row.2).sum();
        Ok((orders, rows.into_iter().map(|(product, units, _)| (product, units)).collect()))
    }

    async fn waiting(
        &mut self,
        left: &[(&str, i64)],
        most: u16,
    ) -> Result<Vec<Waiter>, LedgerError> {
        let (products, units): (Vec<&str>, Vec<i64>) = left.iter().copied().unzip();
        let waiting = sqlx::query_as(sql::WAITING_ON_POSTGRES).bind(&products).bind(&units);
        let rows: Vec<WaiterRow> = waiting.bind(i64::from(most)).fetch_all(self).await?;
        Ok(rows.into_iter().map(Into::into).collect())
    }

    async fn stop_waiting(&mut self, places: &[i64]) -> Result<(), LedgerError> {
        sqlx::query(sql::STOP_WAITING_ON_POSTGRES).bind(places).execute(self).await?;
        Ok(())
    }

    async fn pay_late(
        &mut self,
        id: Uuid,
        to: OrderState,
        reference: Option<&str>,
    ) -> Result<Option<PlacedOrder>, LedgerError> {
        let paid = sqlx::query_as(sql::PAY_LATE).bind(id).bind(to.name()).bind(reference);
        let rows: Vec<Row<Uuid>> = paid.fetch_all(self).await?;
        rows::order(rows)
    }

    async fn placed(&mut self, id: Uuid) -> Result<Option<PlacedOrder>, LedgerError> {
        let rows: Vec<Row<Uuid>> = sqlx::query_as(sql::PLACED).bind(id).fetch_all(self).await?;
        rows::order(rows)
    }

    async fn read(
        &mut self,
        allocation: &mut OrderAllocation,
        orders: &[&NewOrder],
    ) -> Result<(), LedgerError> {
        (allocation.limits, allocation.prices) = terms(self, allocation.products()).await?;
        if !allocation.limits.is_empty() {
            for (bought_by, units) in bought(self, allocation, orders).await? {
                allocation.bought.entry(bought_by).or_insert(units);
            }
        }
        allocation.existing.extend(existing(self, orders).await?);
        Ok(())
    }

    async fn move_units(
        &mut self,
        product_id: &str,
        units: i64,
        token: Option<i64>,
    ) -> Result<u64, LedgerError> {
        let moved = sqlx::query(sql::MOVE_UNITS).bind(product_id).bind(units).bind(token);
        Ok(moved.execute(self).await?.rows_affected())
    }

    async fn write(
        &mut self,
        tokens: &BTreeMap<String, i64>,
        orders: &[PlacedOrder],
    ) -> Result<(), LedgerError> {
        if orders.is_empty() {
            return Ok(());
        }
        let lines: Vec<_> = orders
            .iter()
            .flat_map(|order| {
                (0_i16..).zip(&order.lines).map(move |(number, line)| (order, number, line))
            })
            .collect();
        // In order of the keys: transactions that use the same ones wait for each other, not in a circle.
        sqlx::query(
            "INSERT INTO orders \
             (id, line, product_id, buyer, quantity, idempotency_key, fence, state, expires_at_ms, \
              unit_price, currency, limit_key) \
             SELECT id, line, product, buyer, quantity, key, fence, state, expires, price, currency, person \
             FROM unnest($1::UUID[], $2::SMALLINT[], $3::TEXT[], $4::TEXT[], $5::BIGINT[], \
                         $6::TEXT[], $7::BIGINT[], $8::TEXT[], $9::BIGINT[], $10::BIGINT[], $11::TEXT[], $12::TEXT[]) \
             AS sold (id, line, product, buyer, quantity, key, fence, state, expires, price, currency, person) \
             ORDER BY buyer, key, line",
        )
        .bind(lines.iter().map(|(order, ..)| order.id).collect::<Vec<_>>())
        .bind(lines.iter().map(|(_, number, _)| *number).collect::<Vec<_>>())
        .bind(lines.iter().map(|(.., line)| line.product_id.as_str()).collect::<Vec<_>>())
        .bind(lines.iter().map(|(order, ..)| order.buyer.as_str()).collect::<Vec<_>>())
        .bind(lines.iter().map(|(.., line)| line.quantity).collect::<Vec<_>>())
        .bind(lines.iter().map(|(order, ..)| order.idempotency_key.as_deref()).collect::<Vec<_>>())
        .bind(
            lines
                .iter()
                .map(|(.., line)| tokens.get(&line.product_id).copied())
                .collect::<Vec<_>>(),
        )
        .bind(lines.iter().map(|(order, ..)| order.state.name()).collect::<Vec<_>>())
        .bind(lines.iter().map(|(order, ..)| order.expires_at_ms).collect::<Vec<_>>())
        .bind(orders.iter().flat_map(PlacedOrder::price_columns).map(|it| it.0).collect::<Vec<_>>())
        .bind(orders.iter().flat_map(PlacedOrder::price_columns).map(|it| it.1).collect::<Vec<_>>())
        .bind(lines.iter().map(|(order, ..)| order.limit_key.as_deref()).collect::<Vec<_>>())
        .execute(self)
        .await?;
        Ok(())
    }
}

/// Units one buyer may have, and prices, by product.
type Terms = (HashMap<String, i64>, HashMap<String, Price>);

/// Id, units one buyer may have, price and currency of a product.
type TermsRow = (String, Option<i64>, Option<i64>, Option<String>);

async fn terms(connection: &mut PgConnection, products: Vec<&str>) -> Result<Terms, LedgerError> {
    let rows: Vec<TermsRow> = sqlx::query_as(
        "SELECT id, max_per_buyer, price, currency FROM products \
         WHERE id = ANY($1) AND (max_per_buyer IS NOT NULL OR price IS NOT NULL)",
    )
    .bind(products)
    .fetch_all(connection)
    .await?;
    let (mut limits, mut prices) = Terms::default();
    for (product, limit, price, currency) in rows {
        if let Some(price) = Price::of_columns(price, currency.as_deref()) {
            prices.insert(product.clone(), price);
        }
        if let Some(limit) = limit {
            limits.insert(product, limit);
        }
    }
    Ok((limits, prices))
}

async fn bought(
    connection: &mut PgConnection,
    allocation: &OrderAllocation,
    orders: &[&NewOrder],
) -> Result<HashMap<(String, String), i64>, LedgerError> {
    let mut rows: Vec<(String, String, i64)> = sqlx::query_as(concat!(
        "SELECT buyer, product_id, sum(quantity)::BIGINT FROM orders \
         WHERE buyer = ANY($1) AND product_id = ANY($2) AND ",
        kept!(),
        " GROUP BY buyer, product_id"
    ))
    .bind(orders.iter().map(|order| order.buyer.as_str()).collect::<Vec<_>>())
    .bind(allocation.limits.keys().collect::<Vec<_>>())
    .fetch_all(&mut *connection)
    .await?;
    let keys: Vec<&str> = orders.iter().filter_map(|order| order.limit_key.as_deref()).collect();
    if !keys.is_empty() {
        let by_persons = sqlx::query_as(BOUGHT_BY_PERSONS).bind(&keys);
        let by_persons = by_persons.bind(allocation.limits.keys().collect::<Vec<_>>());
        rows.extend(by_persons.fetch_all(connection).await?);
    }
    Ok(rows.into_iter().map(|(buyer, product, units)| ((buyer, product), units)).collect())
}

async fn existing(
    connection: &mut PgConnection,
    orders: &[&NewOrder],
) -> Result<HashMap<(String, String), PlacedOrder>, LedgerError> {
    let (buyers, keys): (Vec<&str>, Vec<&str>) = orders
        .iter()
        .filter_map(|order| Some((order.buyer.as_str(), order.idempotency_key.as_deref()?)))
        .unzip();
    if keys.is_empty() {
        return Ok(HashMap::new());
    }
    let rows: Vec<Row<Uuid>> =
        sqlx::query_as(sql::PLACED_BY_KEYS).bind(&buyers).bind(&keys).fetch_all(connection).await?;
    let by_key =
        |order: PlacedOrder| Some(((order.buyer.clone(), order.idempotency_key.clone()?), order));
    Ok(rows::orders(rows)?.into_iter().filter_map(by_key).collect())
}
