//! Sums of a sale's stock and orders, of one moment. The database adds up, so that memory does not grow with the number
//! of orders.

use std::collections::BTreeMap;

use sqlx::postgres::{PgConnection, PgRow};
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, FromRow};

use super::SaleDatabase;
use super::holds::{self, Holds};
use super::limits::{self, AboveLimit};
use crate::observed::GIVEN_BACK;

/// The sale that owns the database.
const OWNER: &str = "SELECT sale FROM installation";
const STOCK: &str = "SELECT s.product_id, s.declared, s.restocked, s.available, p.max_per_buyer, \
     CAST(CASE WHEN s.deleted_at IS NULL THEN 0 ELSE 1 END AS BIGINT) \
     FROM stock s LEFT JOIN products p ON p.id = s.product_id ORDER BY s.product_id";
const UNITS: &str = "SELECT product_id, STATE, CAST(count(*) AS BIGINT), CAST(SUM(quantity) AS BIGINT) \
     FROM orders GROUP BY product_id, STATE";
const ON_SALE: &str = "SELECT product_id, available FROM stock WHERE deleted_at IS NULL";

/// A product by its stock row and its orders.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProductTotals {
    /// Units ever put on sale, restocks included
    pub declared: i64,
    /// The part of them that administrators added
    pub restocked: i64,
    /// Units left
    pub available: i64,
    /// Limit per buyer
    pub max_per_buyer: Option<i64>,
    /// Whether an administrator deleted the product
    pub deleted: bool,
    /// Whether it has a stock row: every order's product must have one
    pub has_stock: bool,
    /// Units of orders by state
    pub units: BTreeMap<String, i64>,
    /// Lines of orders by state
    pub lines: BTreeMap<String, i64>,
}

impl ProductTotals {
    /// Units that belong to buyers.
    #[must_use]
    pub fn sold(&self) -> i64 {
        let kept = self.units.iter().filter(|(state, _)| !GIVEN_BACK.contains(&state.as_str()));
        kept.map(|(_, units)| units).sum()
    }
}

/// All products of a sale at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Totals {
    /// The sale that owns the database; absent: none does
    pub owner: Option<String>,
    /// By id
    pub products: BTreeMap<String, ProductTotals>,
    /// At most [`limits::MAX_COUNTED`]
    pub above_limit: Vec<AboveLimit>,
    /// Absent: the database is older than holds
    pub holds: Option<Holds>,
}

type StockRow = (String, i64, i64, i64, Option<i64>, i64);

impl SaleDatabase {
    /// The totals of one moment, also while the sale goes on.
    pub async fn totals(&self) -> sqlx::Result<Totals> {
        let has_holds = self.has_holds().await?;
        let has_limit_keys = self.has_limit_keys().await?;
        let state = holds::state_column(has_holds);
        let mut snapshot = Snapshot::begin(self).await?;
        let owner: Vec<(Option<String>,)> = snapshot.rows(OWNER).await?;
        let stock: Vec<StockRow> = snapshot.rows(STOCK).await?;
        let units: Vec<(String, String, i64, i64)> =
            snapshot.rows(&UNITS.replace("STATE", state)).await?;
        let above: Vec<limits::Row> = snapshot.rows(&limits::above_limit(has_limit_keys)).await?;
        let holds: Vec<holds::Row> = if has_holds {
            snapshot.rows(&holds::counts(self.now_ms())).await?
        } else {
            Vec::new()
        };
        let holds = holds.into_iter().next();

        let mut products: BTreeMap<String, ProductTotals> = stock
            .into_iter()
            .map(|(id, declared, restocked, available, max_per_buyer, deleted)| {
                let totals = ProductTotals {
                    declared,
                    restocked,
                    available,
                    max_per_buyer,
                    deleted: deleted != 0,
                    has_stock: true,
                    ..ProductTotals::default()
                };
                (id, totals)
            })
            .collect();
        for (product, state, lines, units) in units {
            let totals = products.entry(product).or_default();
            totals.lines.insert(state.clone(), lines);
            totals.units.insert(state, units);
        }
        Ok(Totals {
            owner: owner.into_iter().next().and_then(|(owner,)| owner),
            products,
            holds: holds.map(Holds::from),
            above_limit: above.into_iter().map(AboveLimit::from).collect(),
        })
    }

    /// Units left of each product on sale.
    pub async fn on_sale(&self) -> sqlx::Result<BTreeMap<String, i64>> {
        let rows: Vec<(String, i64)> = match self {
            Self::Postgres(pool) => sqlx::query_as(ON_SALE).fetch_all(pool).await?,
            Self::Sqlite(pool) => sqlx::query_as(ON_SALE).fetch_all(pool).await?,
        };
        Ok(rows.into_iter().collect())
    }
}

/// A connection inside a transaction that reads one moment. It belongs to no pool, so it is closed when it is dropped.
enum Snapshot {
    Postgres(PgConnection),
    Sqlite(SqliteConnection),
}

impl Snapshot {
    async fn begin(database: &SaleDatabase) -> sqlx::Result<Self> {
        Ok(match database {
            SaleDatabase::Postgres(pool) => {
                let mut connection = pool.acquire().await?.detach();
                let begin = sqlx::query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
                begin.execute(&mut connection).await?;
                Self::Postgres(connection)
            }
            SaleDatabase::Sqlite(pool) => {
                let mut connection = pool.acquire().await?.detach();
                sqlx::query("BEGIN").execute(&mut connection).await?;
                Self::Sqlite(connection)
            }
        })
    }

    /// All rows of a statement of this file.
    async fn rows<R>(&mut self, statement: &str) -> sqlx::Result<Vec<R>>
    where
        R: for<'r> FromRow<'r, PgRow> + for<'r> FromRow<'r, SqliteRow> + Send + Unpin,
    {
        let statement = AssertSqlSafe(statement.to_owned());
        match self {
            Self::Postgres(it) => sqlx::query_as(statement).fetch_all(it).await,
            Self::Sqlite(it) => sqlx::query_as(statement).fetch_all(it).await,
        }
    }
}
