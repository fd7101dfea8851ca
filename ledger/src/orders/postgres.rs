//! Orders in PostgreSQL: statements for many rows at once.

mod at_once;
mod expire_at_once;

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
use crate::limit_key::BOUGHT_BY_NAMES;
use crate::money::Price;
use crate::postgres::PostgresLedger;

impl PostgresLedger {
    pub(crate) async fn settle(
        &self,
        tokens: &BTreeMap<String, i64>,
        tasks: &[&Task],
    ) -> Result<Settlement, LedgerError> {
        let may_be_settled = match self.settle_at_once(tokens, tasks).await {
            Ok(Some(settlement)) => return Ok(settlement),
            Ok(None) => false,
            // The tokens say it: they are installed if the lost statement was carried out, and keep it out if not.
            Err(LedgerError::ConnectionLost) => true,
            Err(error) => return Err(error),
        };
        let mut transaction = self.begin_without_ping().await?;
        let settlement = settle(&mut *transaction, tokens, tasks).await;
        match transaction.end(settlement).await {
            Err(LedgerError::StaleTokens(_)) if may_be_settled => Err(LedgerError::ConnectionLost),
            settled => settled,
        }
    }

    /// Each of the two sends nothing for tasks of the other kind.
    async fn settle_at_once(
        &self,
        tokens: &BTreeMap<String, i64>,
        tasks: &[&Task],
    ) -> Result<Option<Settlement>, LedgerError> {
        match self.expire_at_once(tokens, tasks).await? {
            None => self.place_at_once(tokens, tasks).await,
            expired => Ok(expired),
        }
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
        let mut stock = FencedStock::default();
        loop {
            let (products, values) = missing(tokens, &stock);
            let fence = sqlx::query_as(sql::FENCE_ON_POSTGRES).bind(&products).bind(&values);
            let rows: Vec<FencedRow> = fence.fetch_all(&mut *self).await?;
            for (product, units, deleted, now_ms, limit, price, currency) in rows {
                stock.now_ms = now_ms;
                if let Some(limit) = limit {
                    stock.limits.insert(product.clone(), limit);
                }
                if let Some(price) = Price::of_columns(price, currency.as_deref()) {
                    stock.prices.insert(product.clone(), price);
                }
                stock.rows.insert(product, (units, deleted));
            }
            if stock.rows.len() == tokens.len() {
                return Ok(stock);
            }
            let (products, values) = missing(tokens, &stock);
            let refused = sqlx::query_as(sql::REFUSED_ON_POSTGRES).bind(&products).bind(&values);
            let refused: Vec<(String, Option<i64>)> = refused.fetch_all(&mut *self).await?;
            // The others changed while the statement waited for their rows: they are read once more.
            if !refused.is_empty() {
                let names: Vec<&str> = refused.iter().map(|(name, _)| name.as_str()).collect();
                let seen =
                    refused.iter().filter_map(|(name, fence)| Some((name.clone(), (*fence)?)));
                return Err(LedgerError::refused_among(&names, seen.collect()));
            }
        }
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
            sqlx::query_as(sql::EXPIRE_ON_POSTGRES).bind(ids).fetch_all(self).await?;
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
        if !allocation.limits.is_empty() {
            for (bought_by, units) in bought(self, allocation, orders).await? {
                allocation.bought.entry(bought_by).or_insert(units);
            }
        }
        allocation.existing.extend(existing(self, orders).await?);
        Ok(())
    }

    async fn write(
        &mut self,
        tokens: &BTreeMap<String, i64>,
        moved: &[(&str, i64)],
        orders: &[PlacedOrder],
    ) -> Result<usize, LedgerError> {
        if moved.is_empty() && orders.is_empty() {
            return Ok(0);
        }
        let (products, units): (Vec<&str>, Vec<i64>) = moved.iter().copied().unzip();
        let fences: Vec<Option<i64>> =
            products.iter().map(|product| tokens.get(*product).copied()).collect();
        let lines: Vec<_> = orders
            .iter()
            .flat_map(|order| {
                (0_i16..).zip(&order.lines).map(move |(number, line)| (order, number, line))
            })
            .collect();
        let write = sqlx::query_scalar(sql::WRITE_ON_POSTGRES)
            .bind(&products)
            .bind(&units)
            .bind(&fences)
            .bind(lines.iter().map(|(order, ..)| order.id).collect::<Vec<_>>())
            .bind(lines.iter().map(|(_, number, _)| *number).collect::<Vec<_>>())
            .bind(lines.iter().map(|(.., line)| line.product_id.as_str()).collect::<Vec<_>>())
            .bind(lines.iter().map(|(order, ..)| order.buyer.as_str()).collect::<Vec<_>>())
            .bind(lines.iter().map(|(.., line)| line.quantity).collect::<Vec<_>>())
            .bind(
                lines
                    .iter()
                    .map(|(order, ..)| order.idempotency_key.as_deref())
                    .collect::<Vec<_>>(),
            )
            .bind(
                lines
                    .iter()
                    .map(|(.., line)| tokens.get(&line.product_id).copied())
                    .collect::<Vec<_>>(),
            )
            .bind(lines.iter().map(|(order, ..)| order.state.name()).collect::<Vec<_>>())
            .bind(lines.iter().map(|(order, ..)| order.expires_at_ms).collect::<Vec<_>>())
            .bind(
                orders
                    .iter()
                    .flat_map(PlacedOrder::price_columns)
                    .map(|it| it.0)
                    .collect::<Vec<_>>(),
            )
            .bind(
                orders
                    .iter()
                    .flat_map(PlacedOrder::price_columns)
                    .map(|it| it.1)
                    .collect::<Vec<_>>(),
            )
            .bind(lines.iter().map(|(order, ..)| order.limit_key.as_deref()).collect::<Vec<_>>());
        let moved: Vec<String> = write.fetch_all(self).await?;
        Ok(moved.len())
    }
}

/// Id, units left, whether it was deleted, the time, units one buyer may have, price and currency of a product.
type FencedRow = (String, i64, bool, i64, Option<i64>, Option<i64>, Option<String>);

/// The products whose tokens are not installed yet, and their tokens.
fn missing<'a>(tokens: &'a BTreeMap<String, i64>, stock: &FencedStock) -> (Vec<&'a str>, Vec<i64>) {
    let missing = tokens.iter().filter(|(product, _)| !stock.rows.contains_key(*product));
    missing.map(|(product, token)| (product.as_str(), *token)).unzip()
}

async fn bought(
    connection: &mut PgConnection,
    allocation: &OrderAllocation,
    orders: &[&NewOrder],
) -> Result<HashMap<(String, String), i64>, LedgerError> {
    let buyers: Vec<&str> = orders.iter().map(|order| order.buyer.as_str()).collect();
    let keys: Vec<&str> = orders.iter().filter_map(|order| order.limit_key.as_deref()).collect();
    let products: Vec<&String> = allocation.limits.keys().collect();
    let bought = sqlx::query_as(BOUGHT_BY_NAMES).bind(&buyers).bind(&keys).bind(&products);
    let rows: Vec<(String, String, i64)> = bought.fetch_all(connection).await?;
    Ok(rows.into_iter().map(|(name, product, units)| ((name, product), units)).collect())
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

#[cfg(test)]
mod tests;
