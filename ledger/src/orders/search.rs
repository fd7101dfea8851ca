//! Finds orders for administrators, page by page.

use sqlx::{Postgres, QueryBuilder, Sqlite};
use uuid::Uuid;
use uuid::fmt::Hyphenated;

use super::order::{OrderState, PlacedOrder};
use super::rows::{self, Row};
use crate::calls::COUNT_TIMEOUT;
use crate::calls::bounded_by;
use crate::error::LedgerError;
use crate::ledger::{Ledger, either};
use crate::postgres::PostgresLedger;
use crate::sqlite::SqliteLedger;

/// Selects orders; all that is given must apply.
#[derive(Debug, Clone, Default)]
pub struct OrderSearch {
    /// This order.
    pub id: Option<Uuid>,
    /// Who bought.
    pub buyer: Option<String>,
    /// Orders with this product.
    pub product_id: Option<String>,
    /// Where they stand.
    pub state: Option<OrderState>,
    /// The earliest time of the order, in milliseconds since 1970.
    pub from_ms: Option<u64>,
    /// The time of the order is before this one, in milliseconds since 1970.
    pub until_ms: Option<u64>,
    /// The page begins after this order.
    pub after: Option<Uuid>,
    /// The oldest first, instead of the newest.
    pub oldest_first: bool,
    /// Orders on the page.
    pub limit: i64,
}

/// The lowest id of an order of that time: ids begin with it.
fn first_id(millis: u64) -> Uuid {
    Uuid::from_u128(u128::from(millis.min((1 << 48) - 1)) << 80)
}

/// One text for two databases.
macro_rules! search {
    ($name:ident, $database:ty, $id:expr) => {
        fn $name(search: &OrderSearch) -> QueryBuilder<$database> {
            let mut query = QueryBuilder::new(super::sql::SELECT_ORDERS);
            query.push(" WHERE id IN (SELECT o.id FROM orders o WHERE o.line = 0");
            let after = if search.oldest_first { " AND o.id > " } else { " AND o.id < " };
            let ids = [
                (" AND o.id = ", search.id),
                (" AND o.id >= ", search.from_ms.map(first_id)),
                (" AND o.id < ", search.until_ms.map(first_id)),
                (after, search.after),
            ];
            for (condition, id) in ids {
                if let Some(id) = id {
                    query.push(condition).push_bind($id(id));
                }
            }
            if let Some(buyer) = &search.buyer {
                query.push(" AND o.buyer = ").push_bind(buyer.clone());
            }
            if let Some(state) = search.state {
                // The inner table's own columns: `orders` of the outer query has the same names.
                query.push(concat!(" AND ", crate::sql::shown_state!(), " = "));
                query.push_bind(state.name());
            }
            if let Some(product_id) = &search.product_id {
                query.push(
                    " AND EXISTS (SELECT 1 FROM orders l WHERE l.id = o.id AND l.product_id = ",
                );
                query.push_bind(product_id.clone()).push(")");
            }
            let order = if search.oldest_first { "ASC" } else { "DESC" };
            // A part of the text: of a limit among the values PostgreSQL expects a tenth of all orders, and reads all.
            query.push(" ORDER BY o.id ").push(order).push(" LIMIT ").push(search.limit);
            query.push(")");
            query
        }
    };
}

search!(on_postgres, Postgres, std::convert::identity::<Uuid>);
search!(on_sqlite, Sqlite, Uuid::hyphenated);

impl Ledger {
    /// A page of the orders that are searched. A search without an id or a buyer may read all orders.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn find_orders(&self, search: &OrderSearch) -> Result<Vec<PlacedOrder>, LedgerError> {
        let find = async { either!(self, ledger => ledger.find_orders(search)) };
        let mut orders = bounded_by(COUNT_TIMEOUT, find).await?;
        if search.oldest_first {
            orders.reverse();
        }
        Ok(orders)
    }
}

impl PostgresLedger {
    async fn find_orders(&self, search: &OrderSearch) -> Result<Vec<PlacedOrder>, LedgerError> {
        let mut query = on_postgres(search);
        let rows: Vec<Row<Uuid>> = query.build_query_as().fetch_all(&self.pool).await?;
        rows::orders(rows)
    }
}

impl SqliteLedger {
    async fn find_orders(&self, search: &OrderSearch) -> Result<Vec<PlacedOrder>, LedgerError> {
        let mut query = on_sqlite(search);
        let rows: Vec<Row<Hyphenated>> = query.build_query_as().fetch_all(&self.readers).await?;
        rows::orders(rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{on_postgres as database, plan, pool_of};

    const ORDERS: &str = "INSERT INTO orders (id, product_id, buyer, quantity, fence) \
         SELECT gen_random_uuid(), '1', 'b' || n, 1, 1 FROM generate_series(1, 20000) n; ANALYZE orders";

    /// The app's sessions plan a statement without its values.
    #[tokio::test]
    async fn a_page_is_found_without_reading_all_orders_on_postgres() {
        let (_server, ledger) = database(2).await;
        sqlx::raw_sql(ORDERS).execute(pool_of(&ledger)).await.unwrap();
        let first = OrderSearch { limit: 51, ..OrderSearch::default() };
        let next = OrderSearch { after: Some(Uuid::now_v7()), ..first.clone() };
        for search in [first, next] {
            let plan = plan(pool_of(&ledger), &on_postgres(&search).into_string()).await;
            // One look into the index for each order of the page.
            assert!(plan.starts_with("Nested Loop"), "{plan}");
        }
    }
}
