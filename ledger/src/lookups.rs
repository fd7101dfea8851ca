//! Bounded, indexed reads of many orders: of given keys or buyers, and of all orders page by page. All use the index `(buyer, idempotency_key, line)`.

use futures::TryStreamExt;
use futures::stream::BoxStream;
use sqlx::AssertSqlSafe;
use uuid::Uuid;
use uuid::fmt::Hyphenated;

use crate::calls::bounded;
use crate::error::LedgerError;
use crate::ledger::{Ledger, either};
use crate::limit_key::units_of_person;
use crate::postgres::PostgresLedger;
use crate::sql;
use crate::sqlite::{SqliteLedger, sell};
use crate::types::{Order, OrderRow};

/// The purchase made under an idempotency key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyedOrder {
    /// The order.
    pub id: Uuid,
    /// What was bought.
    pub product_id: String,
    /// Who bought.
    pub buyer: String,
    /// Number of units; 0 for an order of several products, which is not a purchase.
    pub quantity: i64,
    /// The key.
    pub idempotency_key: String,
}

impl KeyedOrder {
    /// `None` for an order without a key.
    #[must_use]
    pub fn of(order: Order) -> Option<Self> {
        let Order { id, product_id, buyer, quantity, idempotency_key, lines, .. } = order;
        let quantity = if lines == 1 { quantity } else { 0 };
        Some(Self { id, product_id, buyer, quantity, idempotency_key: idempotency_key? })
    }
}

/// Units per name and product, sorted by name: a buyer or a limit key. All rows of a name are on one page.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnitsPage {
    /// Name, product, units.
    pub units: Vec<(String, String, i64)>,
    /// The last of these names, if there may be more.
    pub next: Option<String>,
}

/// Orders with a key, in order of buyer and key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeysPage {
    /// Those that have a key.
    pub orders: Vec<KeyedOrder>,
    /// Buyer and key from which to go on, if there may be more.
    pub next: Option<(String, String)>,
}

fn keys_page<Id: Into<Uuid>>(rows: Vec<OrderRow<Id>>, limit: i64) -> KeysPage {
    let is_full = i64::try_from(rows.len()).is_ok_and(|count| count >= limit);
    // Rows without a key are the first of a buyer or the last, by the database: they are passed once.
    let end = |row: &OrderRow<Id>| (row.2.clone(), row.4.clone().unwrap_or_default());
    let next = rows.last().filter(|_| is_full).map(end);
    let order = |row| KeyedOrder::of(Order::of_row(row));
    KeysPage { orders: rows.into_iter().filter_map(order).collect(), next }
}

/// The keys of a product's orders. The limit is a part of the text: of one among the values PostgreSQL expects a tenth of
/// the rows, and follows an index of all buyers to each order.
fn keys_of_product(limit: i64) -> String {
    format!(
        "SELECT buyer, idempotency_key FROM orders \
         WHERE product_id = $1 AND idempotency_key IS NOT NULL LIMIT {limit}"
    )
}

const KEYED_AFTER: &str = concat!(
    "SELECT ",
    sql::keyed_columns!(),
    " FROM orders o WHERE (o.buyer, o.idempotency_key) > ($1, $2) AND o.line = 0 \
     ORDER BY o.buyer, o.idempotency_key LIMIT $3"
);

pub(crate) const BOUGHT: &str = concat!(
    "SELECT asked.name, CAST(coalesce(found.units, 0) AS BIGINT) \
     FROM unnest($2::TEXT[]) AS asked (name) CROSS JOIN LATERAL \
     (SELECT sum(units) AS units FROM (SELECT o.quantity AS units FROM orders o \
      WHERE o.product_id = $1 AND o.buyer = asked.name AND o.",
    sql::kept!(),
    " UNION ALL ",
    units_of_person!("asked.name", "$1"),
    ") had) found"
);

/// The rows are not summed up here, and each part has the limit, so the database reads no more rows than that,
/// whatever plan it chooses.
pub(crate) const UNITS_AFTER: &str = concat!(
    "SELECT * FROM (\
     SELECT * FROM (SELECT buyer AS name, product_id, quantity FROM orders WHERE buyer > $1 AND ",
    sql::kept!(),
    " ORDER BY buyer LIMIT $2) of_buyers UNION ALL \
     SELECT * FROM (SELECT limit_key AS name, product_id, quantity FROM orders WHERE limit_key > $1 AND ",
    sql::kept!(),
    " ORDER BY limit_key LIMIT $2) of_persons UNION ALL \
     SELECT * FROM (SELECT limit_key AS name, item AS product_id, units AS quantity FROM erased_units \
                    WHERE limit_key > $1 ORDER BY limit_key LIMIT $2) of_erased) counted \
     ORDER BY name LIMIT $2"
);

pub(crate) const UNITS_OF: &str = concat!(
    "SELECT CAST($1 AS TEXT), product_id, CAST(sum(quantity) AS BIGINT) FROM (\
     SELECT product_id, quantity FROM orders WHERE buyer = $1 AND ",
    sql::kept!(),
    " UNION ALL SELECT product_id, quantity FROM orders WHERE limit_key = $1 AND ",
    sql::kept!(),
    " UNION ALL SELECT item, units FROM erased_units WHERE limit_key = $1) counted GROUP BY product_id"
);

impl Ledger {
    /// Calls `each` with the buyer and the key of every keyed order of a product, one at a time. False:
    /// there are more than `at_most`, and `each` was called with some of them.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn each_key_of(
        &self,
        product_id: &str,
        at_most: usize,
        mut each: impl FnMut(&str, &str) + Send,
    ) -> Result<bool, LedgerError> {
        let limit = i64::try_from(at_most).unwrap_or(i64::MAX).saturating_add(1);
        let keys = AssertSqlSafe(keys_of_product(limit));
        let mut rows: BoxStream<'_, sqlx::Result<(String, String)>> = match self {
            Self::Postgres(ledger) => sqlx::query_as(keys).bind(product_id).fetch(&ledger.pool),
            Self::Sqlite(ledger) => sqlx::query_as(keys).bind(product_id).fetch(&ledger.readers),
        };
        let mut count = 0;
        while let Some((buyer, key)) = rows.try_next().await? {
            count += 1;
            each(&buyer, &key);
        }
        Ok(count <= at_most)
    }

    /// The orders that exist under these buyers' keys, in any order.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn orders_by_keys(
        &self,
        asked: &[(String, String)],
    ) -> Result<Vec<Order>, LedgerError> {
        bounded(async { either!(self, ledger => ledger.orders_by_keys(asked)) }).await
    }

    /// Orders with a key, in order of buyer and key, from the one after these; `limit` rows are read.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn keyed_after(
        &self,
        (buyer, key): (&str, &str),
        limit: i64,
    ) -> Result<KeysPage, LedgerError> {
        bounded(async { either!(self, ledger => ledger.keyed_after(buyer, key, limit)) }).await
    }

    /// Units of a product that each of these buyers or limit keys has.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn bought_by(
        &self,
        product_id: &str,
        buyers: &[String],
    ) -> Result<Vec<(String, i64)>, LedgerError> {
        bounded(async { either!(self, ledger => ledger.bought_by(product_id, buyers)) }).await
    }

    /// Units of all products that buyers and limit keys have, from the name after this one; some `limit` rows are
    /// read and kept.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn units_after(&self, buyer: &str, limit: i64) -> Result<UnitsPage, LedgerError> {
        let read = async { either!(self, ledger => ledger.units_after(buyer, limit)) };
        let mut rows = bounded(read).await?;
        if i64::try_from(rows.len()).is_ok_and(|count| count < limit) {
            return Ok(UnitsPage { units: summed(rows), next: None });
        }
        // The last buyer's rows may go on.
        let Some(cut) = rows.pop().map(|(buyer, ..)| buyer) else {
            return Ok(UnitsPage::default());
        };
        rows.retain(|(buyer, ..)| *buyer != cut);
        if let Some((next, ..)) = rows.last() {
            let next = Some(next.clone());
            return Ok(UnitsPage { units: summed(rows), next });
        }
        let units = bounded(async { either!(self, ledger => ledger.units_of(&cut)) }).await?;
        Ok(UnitsPage { units, next: Some(cut) })
    }
}

/// Of rows in order of the buyers.
fn summed(rows: Vec<(String, String, i64)>) -> Vec<(String, String, i64)> {
    let mut sums: Vec<(String, String, i64)> = Vec::new();
    let mut first_of_buyer = 0;
    for (buyer, product, units) in rows {
        if sums.last().is_some_and(|(last, ..)| *last != buyer) {
            first_of_buyer = sums.len();
        }
        let of_buyer = sums.get_mut(first_of_buyer..).unwrap_or_default();
        match of_buyer.iter_mut().find(|(_, same, _)| *same == product) {
            Some((.., sum)) => *sum += units,
            None => sums.push((buyer, product, units)),
        }
    }
    sums
}

impl PostgresLedger {
    async fn orders_by_keys(&self, asked: &[(String, String)]) -> Result<Vec<Order>, LedgerError> {
        let (buyers, keys): (Vec<&str>, Vec<&str>) =
            asked.iter().map(|(buyer, key)| (buyer.as_str(), key.as_str())).unzip();
        let query = sqlx::query_as(sql::ORDERS_BY_KEYS).bind(buyers).bind(keys);
        let rows: Vec<OrderRow<Uuid>> = query.fetch_all(&self.pool).await?;
        Ok(rows.into_iter().map(Order::of_row).collect())
    }

    async fn keyed_after(
        &self,
        buyer: &str,
        key: &str,
        limit: i64,
    ) -> Result<KeysPage, LedgerError> {
        let query = sqlx::query_as(KEYED_AFTER).bind(buyer).bind(key).bind(limit);
        let rows: Vec<OrderRow<Uuid>> = query.fetch_all(&self.pool).await?;
        Ok(keys_page(rows, limit))
    }

    async fn bought_by(
        &self,
        product_id: &str,
        buyers: &[String],
    ) -> Result<Vec<(String, i64)>, LedgerError> {
        Ok(sqlx::query_as(BOUGHT).bind(product_id).bind(buyers).fetch_all(&self.pool).await?)
    }

    async fn units_after(
        &self,
        buyer: &str,
        limit: i64,
    ) -> Result<Vec<(String, String, i64)>, LedgerError> {
        Ok(sqlx::query_as(UNITS_AFTER).bind(buyer).bind(limit).fetch_all(&self.pool).await?)
    }

    async fn units_of(&self, buyer: &str) -> Result<Vec<(String, String, i64)>, LedgerError> {
        Ok(sqlx::query_as(UNITS_OF).bind(buyer).fetch_all(&self.pool).await?)
    }
}

impl SqliteLedger {
    async fn orders_by_keys(&self, asked: &[(String, String)]) -> Result<Vec<Order>, LedgerError> {
        let mut connection = self.readers.acquire().await?;
        let mut orders = Vec::new();
        for (buyer, key) in asked {
            orders.extend(sell::find_order(&mut connection, buyer, key).await?);
        }
        Ok(orders)
    }

    async fn keyed_after(
        &self,
        buyer: &str,
        key: &str,
        limit: i64,
    ) -> Result<KeysPage, LedgerError> {
        let query = sqlx::query_as(KEYED_AFTER).bind(buyer).bind(key).bind(limit);
        let rows: Vec<OrderRow<Hyphenated>> = query.fetch_all(&self.readers).await?;
        Ok(keys_page(rows, limit))
    }

    async fn bought_by(
        &self,
        product_id: &str,
        buyers: &[String],
    ) -> Result<Vec<(String, i64)>, LedgerError> {
        let mut connection = self.readers.acquire().await?;
        let mut bought = Vec::new();
        for buyer in buyers {
            let units = sell::bought(&mut connection, product_id, buyer).await?;
            bought.push((buyer.clone(), units));
        }
        Ok(bought)
    }

    async fn units_after(
        &self,
        buyer: &str,
        limit: i64,
    ) -> Result<Vec<(String, String, i64)>, LedgerError> {
        Ok(sqlx::query_as(UNITS_AFTER).bind(buyer).bind(limit).fetch_all(&self.readers).await?)
    }

    async fn units_of(&self, buyer: &str) -> Result<Vec<(String, String, i64)>, LedgerError> {
        Ok(sqlx::query_as(UNITS_OF).bind(buyer).fetch_all(&self.readers).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{on_postgres, plan, pool_of};

    const ORDERS: &str = "INSERT INTO orders (id, product_id, buyer, quantity, idempotency_key, fence) \
         SELECT gen_random_uuid(), 'p' || n % 20, md5(n::TEXT), 1, 'k', 1 FROM generate_series(1, 20000) n; \
         ANALYZE orders";

    /// The app's sessions plan a statement without its values.
    #[tokio::test]
    async fn the_keys_of_a_product_are_read_in_the_order_of_the_table_on_postgres() {
        let (_server, ledger) = on_postgres(2).await;
        sqlx::raw_sql(ORDERS).execute(pool_of(&ledger)).await.unwrap();
        let plan = plan(pool_of(&ledger), &keys_of_product(100_001)).await;
        assert!(plan.contains("Bitmap Heap Scan on orders"), "{plan}");
        let mut count = 0;
        assert!(ledger.each_key_of("p7", 1_000, |_, _| count += 1).await.unwrap());
        assert_eq!(count, 1_000);
        assert!(!ledger.each_key_of("p7", 999, |_, _| {}).await.unwrap());
    }
}
