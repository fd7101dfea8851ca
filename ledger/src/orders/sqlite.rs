//! Orders in SQLite: one row after the other.

use std::collections::BTreeMap;

use sqlx::SqliteConnection;
use uuid::Uuid;
use uuid::fmt::Hyphenated;

use super::allocation::OrderAllocation;
use super::change::Change;
use super::order::{OrderState, PlacedOrder};
use super::rows::{self, Row};
use super::settle::{OrderStatements, change_state, settle};
use super::types::{FencedStock, NewOrder, Settlement, Task, Waiter, WaiterRow};
use super::{holds, sql};
use crate::error::LedgerError;
use crate::limit_key::counted_names;
use crate::money::Price;
use crate::sqlite::{SqliteLedger, sell};

impl SqliteLedger {
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
        let mut connection = self.readers.acquire().await?;
        connection.placed(id).await
    }

    pub(crate) async fn placed_by_payment(
        &self,
        reference: &str,
    ) -> Result<Option<PlacedOrder>, LedgerError> {
        let placed = sqlx::query_as(sql::PLACED_BY_PAYMENT).bind(reference);
        let rows: Vec<Row<Hyphenated>> = placed.fetch_all(&self.readers).await?;
        rows::order(rows)
    }

    pub(crate) async fn placed_by_key(
        &self,
        buyer: &str,
        key: &str,
    ) -> Result<Option<PlacedOrder>, LedgerError> {
        let mut connection = self.readers.acquire().await?;
        placed_by_key(&mut connection, buyer, key).await
    }

    pub(crate) async fn placed_by(
        &self,
        buyer: &str,
        after: Option<Uuid>,
        limit: i64,
    ) -> Result<Vec<PlacedOrder>, LedgerError> {
        let rows: Vec<Row<Hyphenated>> = sqlx::query_as(sql::PLACED_BY)
            .bind(buyer)
            .bind(after.map(Uuid::hyphenated))
            .bind(limit)
            .fetch_all(&self.readers)
            .await?;
        rows::orders(rows)
    }
}

impl OrderStatements for SqliteConnection {
    async fn fence(&mut self, tokens: &BTreeMap<String, i64>) -> Result<FencedStock, LedgerError> {
        let mut rows = BTreeMap::new();
        let (mut refused, mut seen) = (Vec::new(), Vec::new());
        for (product, token) in tokens {
            let row: Option<(i64, bool)> = sqlx::query_as(crate::sql::FENCE_FOR_ORDERS)
                .bind(product)
                .bind(token)
                .fetch_optional(&mut *self)
                .await?;
            if let Some(row) = row {
                rows.insert(product.clone(), row);
                continue;
            }
            let fence = sqlx::query_scalar(crate::sql::FENCE_OF_ANY)
                .bind(product)
                .fetch_optional(&mut *self)
                .await?;
            refused.push(product.as_str());
            seen.extend(fence.map(|fence| (product.clone(), fence)));
        }
        if refused.is_empty() {
            return Ok(FencedStock { rows, now_ms: holds::now_ms(), ..FencedStock::default() });
        }
        Err(LedgerError::refused_among(&refused, seen))
    }

    async fn change_state(
        &mut self,
        id: Uuid,
        change: &Change,
    ) -> Result<Option<PlacedOrder>, LedgerError> {
        let rows: Vec<Row<Hyphenated>> = if let Change::Refund { units_back, .. } = change {
            let statement = if *units_back { sql::REFUND_WITH_UNITS } else { sql::REFUND };
            let refund = sqlx::query_as(statement).bind(id.hyphenated());
            let refund = refund.bind(holds::now_ms()).bind(change.reference());
            refund.fetch_all(self).await?
        } else {
            let changed = sqlx::query_as(sql::CHANGE_STATE).bind(id.hyphenated());
            let changed = changed.bind(change.target().name()).bind(change.reference());
            changed.fetch_all(self).await?
        };
        rows::order(rows)
    }

    async fn expire(&mut self, ids: &[Uuid]) -> Result<(i64, Vec<(String, i64)>), LedgerError> {
        let (mut orders, mut units) = (0, Vec::new());
        for id in ids {
            let expired =
                sqlx::query_as(sql::EXPIRE_ON_SQLITE).bind(id.hyphenated()).bind(holds::now_ms());
            let lines: Vec<(String, i64)> = expired.fetch_all(&mut *self).await?;
            orders += i64::from(!lines.is_empty());
            units.extend(lines);
        }
        Ok((orders, units))
    }

    async fn waiting(
        &mut self,
        left: &[(&str, i64)],
        most: u16,
    ) -> Result<Vec<Waiter>, LedgerError> {
        let mut rows: Vec<WaiterRow> = Vec::new();
        for &(product, units) in left {
            let waiting = sqlx::query_as(sql::WAITING_ON_SQLITE).bind(product).bind(units);
            let of_product: Vec<WaiterRow> =
                waiting.bind(i64::from(most)).fetch_all(&mut *self).await?;
            rows.extend(of_product);
        }
        rows.sort_unstable_by_key(|row| row.0);
        rows.truncate(usize::from(most));
        Ok(rows.into_iter().map(Into::into).collect())
    }

    async fn stop_waiting(&mut self, places: &[i64]) -> Result<(), LedgerError> {
        for place in places {
            sqlx::query(sql::STOP_WAITING_ON_SQLITE).bind(place).execute(&mut *self).await?;
        }
        Ok(())
    }

    async fn pay_late(
        &mut self,
        id: Uuid,
        to: OrderState,
        reference: Option<&str>,
    ) -> Result<Option<PlacedOrder>, LedgerError> {
        let paid =
            sqlx::query_as(sql::PAY_LATE).bind(id.hyphenated()).bind(to.name()).bind(reference);
        let rows: Vec<Row<Hyphenated>> = paid.fetch_all(self).await?;
        rows::order(rows)
    }

    async fn placed(&mut self, id: Uuid) -> Result<Option<PlacedOrder>, LedgerError> {
        let rows: Vec<Row<Hyphenated>> =
            sqlx::query_as(sql::PLACED).bind(id.hyphenated()).fetch_all(self).await?;
        rows::order(rows)
    }

    async fn read(
        &mut self,
        allocation: &mut OrderAllocation,
        orders: &[&NewOrder],
    ) -> Result<(), LedgerError> {
        for order in orders {
            read_one(self, allocation, order).await?;
        }
        Ok(())
    }

    async fn write(
        &mut self,
        tokens: &BTreeMap<String, i64>,
        moved: &[(&str, i64)],
        orders: &[PlacedOrder],
    ) -> Result<usize, LedgerError> {
        let mut products = 0;
        for &(product, units) in moved {
            let move_units = sqlx::query(sql::MOVE_UNITS_ON_SQLITE).bind(product).bind(units);
            let done = move_units.bind(tokens.get(product)).execute(&mut *self).await?;
            products += usize::from(done.rows_affected() == 1);
        }
        for order in orders {
            let lines = order.lines.iter().zip(order.price_columns());
            for (number, (line, (price, currency))) in (0_i16..).zip(lines) {
                sqlx::query(
                    "INSERT INTO orders \
                     (id, line, product_id, buyer, quantity, idempotency_key, fence, state, \
                      expires_at_ms, unit_price, currency, limit_key) \
                     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
                )
                .bind(order.id.hyphenated())
                .bind(number)
                .bind(&line.product_id)
                .bind(&order.buyer)
                .bind(line.quantity)
                .bind(&order.idempotency_key)
                .bind(tokens.get(&line.product_id))
                .bind(order.state.name())
                .bind(order.expires_at_ms)
                .bind(price)
                .bind(currency)
                .bind(&order.limit_key)
                .execute(&mut *self)
                .await?;
            }
        }
        Ok(products)
    }
}

async fn placed_by_key(
    connection: &mut SqliteConnection,
    buyer: &str,
    key: &str,
) -> Result<Option<PlacedOrder>, LedgerError> {
    let rows: Vec<Row<Hyphenated>> =
        sqlx::query_as(sql::PLACED_BY_KEY).bind(buyer).bind(key).fetch_all(connection).await?;
    rows::order(rows)
}

/// What the allocation must know of an order: its key, and the limits of its products.
async fn read_one(
    connection: &mut SqliteConnection,
    allocation: &mut OrderAllocation,
    order: &NewOrder,
) -> Result<(), LedgerError> {
    if let Some(key) = &order.idempotency_key
        && let Some(existing) = placed_by_key(connection, &order.buyer, key).await?
    {
        allocation.existing.insert((order.buyer.clone(), key.clone()), existing);
    }
    for line in &order.lines {
        let product = &line.product_id;
        let (price, currency): (Option<i64>, Option<String>) =
            sqlx::query_as(crate::sql::PRICE).bind(product).fetch_one(&mut *connection).await?;
        if let Some(price) = Price::of_columns(price, currency.as_deref()) {
            allocation.prices.insert(product.clone(), price);
        }
        let limit: Option<i64> = sqlx::query_scalar(crate::sql::MAX_PER_BUYER)
            .bind(product)
            .fetch_one(&mut *connection)
            .await?;
        let Some(limit) = limit else { continue };
        allocation.limits.insert(product.clone(), limit);
        for name in counted_names(&order.buyer, order.limit_key.as_deref()) {
            let bought = sell::bought(connection, product, name).await?;
            allocation.bought.entry((name.to_owned(), product.clone())).or_insert(bought);
        }
    }
    Ok(())
}
