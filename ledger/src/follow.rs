//! What keeps Redis and the ledger in agreement: the stock rows that Redis is compared with, and the
//! orders that Redis decided. Each order is recorded once, however often it is delivered.

mod statements;

use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use sqlx::{PgConnection, Postgres, Row as _, SqliteConnection};
use uuid::Uuid;

use self::statements::{
    INSERT_NEW, INSERT_NEW_BY_LIMIT_KEY, INSERT_UNKNOWN, INSERT_UNKNOWN_BY_LIMIT_KEY, REINCARNATE,
    ROW, ROWS, TAKE_RECORDED,
};
use crate::calls::bounded;
use crate::error::LedgerError;
use crate::ledger::Ledger;
use crate::money::Price;
use crate::postgres::PostgresLedger;
use crate::postgres::rows::{Columns, Row};
use crate::sql;
use crate::sqlite::SqliteLedger;

/// The stock row of a product, for the comparison with Redis.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct StockRow {
    /// See [`crate::Product::id`].
    pub product_id: String,
    /// Units left.
    pub available: i64,
    /// The highest fencing token that changed the stock.
    pub fence: i64,
    /// The Redis stock that was made from this row, if Redis decides.
    pub incarnation: i64,
    /// Units sold by that one and recorded here.
    pub recorded: i64,
}

/// A sale that Redis decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecidedOrder {
    /// Made by the replica before it called Redis, so a second delivery is recognised.
    pub id: Uuid,
    /// Who bought.
    pub buyer: String,
    /// How many units.
    pub quantity: i64,
    /// The key the purchase came with.
    pub idempotency_key: Option<String>,
    /// The price of a unit at that moment.
    pub sold_for: SoldFor,
    /// The person for whose limit it counts: see [`crate::LimitBy::key`]. `None`: it counts for the buyer alone.
    pub limit_key: Option<String>,
}

/// The price of a unit that was sold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SoldFor {
    /// A replica of the release before sold it, which knows no price: the product has it.
    Unknown,
    /// It had none.
    Nothing,
    /// This one.
    Price(Price),
}

impl SoldFor {
    /// The price of a product.
    #[must_use]
    pub fn of(price: Option<Price>) -> Self {
        price.map_or(Self::Nothing, Self::Price)
    }

    /// Amount and currency, as a row has them.
    fn columns(self) -> (Option<i64>, Option<&'static str>) {
        match self {
            Self::Unknown => (None, None),
            Self::Nothing => (Some(0), None),
            Self::Price(price) => (Some(price.amount), Some(price.currency.code())),
        }
    }
}

/// The result of recording orders.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recorded {
    /// Number of orders that this call wrote.
    pub new: usize,
    /// Orders that cannot be recorded: the buyer's key belongs to another order.
    pub refused: Vec<Uuid>,
}

/// Orders in one statement. Where PostgreSQL shares processors with Redis, purchases may wait as long
/// as a statement takes.
const STATEMENT: usize = 128;

/// Calls the method of the same name on the database in use.
macro_rules! either {
    ($self:ident, $ledger:ident => $call:expr) => {
        bounded(async {
            match $self {
                Ledger::Postgres($ledger) => $call.await,
                Ledger::Sqlite($ledger) => $call.await,
            }
        })
        .await
    };
}

impl Ledger {
    /// The stock of every product, by id.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn stock_rows(&self) -> Result<Vec<StockRow>, LedgerError> {
        either!(self, ledger => ledger.stock_rows())
    }

    /// The stock of one product; `None`: it does not exist or was deleted.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn stock_row(&self, product_id: &str) -> Result<Option<StockRow>, LedgerError> {
        either!(self, ledger => ledger.stock_row(product_id))
    }

    /// Installs a fencing token and returns the units left. They don't change until a later holder
    /// installs its token.
    ///
    /// # Errors
    /// [`LedgerError::StaleToken`], [`LedgerError::UnknownProduct`], or when the database fails.
    pub async fn install(&self, product_id: &str, token: i64) -> Result<i64, LedgerError> {
        either!(self, ledger => ledger.advance(sql::FENCE, product_id, token))
    }

    /// As [`Ledger::install`], for the holder that makes a new Redis stock from what is left.
    ///
    /// # Errors
    /// As [`Ledger::install`].
    pub async fn reincarnate(&self, product_id: &str, token: i64) -> Result<i64, LedgerError> {
        either!(self, ledger => ledger.advance(REINCARNATE, product_id, token))
    }

    /// Records what a Redis stock sold, in one transaction: orders that are not there yet, and their
    /// units taken.
    ///
    /// # Errors
    /// In every case nothing was recorded, but for a connection lost during the commit; trying again
    /// records nothing twice.
    pub async fn record(
        &self,
        product_id: &str,
        incarnation: i64,
        mut orders: Vec<&DecidedOrder>,
    ) -> Result<Recorded, LedgerError> {
        // Every replica uses the same order of rows, so two that record the same orders can't deadlock.
        orders.sort_unstable_by_key(|order| order.id);
        either!(self, ledger => ledger.record(product_id, incarnation, &orders))
    }
}

impl PostgresLedger {
    async fn stock_rows(&self) -> Result<Vec<StockRow>, LedgerError> {
        Ok(sqlx::query_as(ROWS).fetch_all(&self.pool).await?)
    }

    async fn stock_row(&self, product_id: &str) -> Result<Option<StockRow>, LedgerError> {
        Ok(sqlx::query_as(ROW).bind(product_id).fetch_optional(&self.pool).await?)
    }

    async fn advance(
        &self,
        statement: &'static str,
        product_id: &str,
        token: i64,
    ) -> Result<i64, LedgerError> {
        let query = sqlx::query_scalar(statement).bind(product_id).bind(token);
        if let Some(available) = query.fetch_optional(&self.pool).await? {
            return Ok(available);
        }
        let query = sqlx::query_scalar(sql::FENCE_SEEN).bind(product_id);
        Err(LedgerError::refused(product_id, token, query.fetch_optional(&self.pool).await?))
    }

    async fn record(
        &self,
        product_id: &str,
        incarnation: i64,
        orders: &[&DecidedOrder],
    ) -> Result<Recorded, LedgerError> {
        match self.record_new(product_id, incarnation, orders).await {
            // Some exist, perhaps, and what is left may be less than the units of all.
            Err(error) if error.is_crossed_keys() || error.is_refused_by_a_rule() => {
                self.record_unknown(product_id, incarnation, orders).await
            }
            Err(error) => Err(error),
            Ok(()) => Ok(Recorded { new: orders.len(), refused: Vec::new() }),
        }
    }

    /// Records all of them, or nothing if one of them exists.
    async fn record_new(
        &self,
        product_id: &str,
        incarnation: i64,
        orders: &[&DecidedOrder],
    ) -> Result<(), LedgerError> {
        let mut transaction = self.begin().await?;
        let recorded = insert_new(&mut transaction, product_id, incarnation, orders).await;
        transaction.end(recorded).await
    }

    /// The orders that don't exist yet.
    async fn record_unknown(
        &self,
        product_id: &str,
        incarnation: i64,
        orders: &[&DecidedOrder],
    ) -> Result<Recorded, LedgerError> {
        let mut transaction = self.begin().await?;
        let recorded = insert_unknown(&mut transaction, product_id, incarnation, orders).await;
        transaction.end(recorded).await
    }
}

async fn insert_new(
    connection: &mut PgConnection,
    product_id: &str,
    incarnation: i64,
    orders: &[&DecidedOrder],
) -> Result<(), LedgerError> {
    sqlx::query(TAKE_RECORDED)
        .bind(product_id)
        .bind(orders.iter().map(|order| order.quantity).sum::<i64>())
        .bind(incarnation)
        .execute(&mut *connection)
        .await?;
    for orders in orders.chunks(STATEMENT) {
        insert([INSERT_NEW, INSERT_NEW_BY_LIMIT_KEY], product_id, incarnation, orders)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

async fn insert_unknown(
    connection: &mut PgConnection,
    product_id: &str,
    incarnation: i64,
    orders: &[&DecidedOrder],
) -> Result<Recorded, LedgerError> {
    // Stock before orders: every transaction locks in this order.
    sqlx::query("SELECT FROM stock WHERE product_id = $1 FOR UPDATE")
        .bind(product_id)
        .execute(&mut *connection)
        .await?;
    let statements = [INSERT_UNKNOWN, INSERT_UNKNOWN_BY_LIMIT_KEY];
    let new =
        insert(statements, product_id, incarnation, orders).fetch_all(&mut *connection).await?;
    let units: i64 =
        new.iter().map(|quantity| quantity.try_get::<i64, _>(0)).sum::<Result<_, _>>()?;
    let refused = if new.len() == orders.len() {
        Vec::new()
    } else {
        refused_by_postgres(connection, orders).await?
    };
    sqlx::query(TAKE_RECORDED)
        .bind(product_id)
        .bind(units)
        .bind(incarnation)
        .execute(&mut *connection)
        .await?;
    Ok(Recorded { new: new.len(), refused })
}

/// Either of the statements that insert orders: without and with limit keys.
fn insert<'q>(
    [plain, with_limit_keys]: [&'static str; 2],
    product_id: &'q str,
    incarnation: i64,
    orders: &[&'q DecidedOrder],
) -> Query<'q, Postgres, PgArguments> {
    let (ids, buyers, quantities, keys): Columns<'q> = orders.iter().copied().map(row).collect();
    let (prices, currencies): (Vec<Option<i64>>, Vec<Option<&str>>) =
        orders.iter().map(|order| order.sold_for.columns()).unzip();
    let persons: Vec<Option<&str>> = orders.iter().map(|it| it.limit_key.as_deref()).collect();
    let has_limit_keys = persons.iter().any(Option::is_some);
    let query = sqlx::query(if has_limit_keys { with_limit_keys } else { plain })
        .bind(product_id)
        .bind(incarnation)
        .bind(ids)
        .bind(buyers)
        .bind(quantities)
        .bind(keys)
        .bind(prices)
        .bind(currencies);
    if has_limit_keys { query.bind(persons) } else { query }
}

fn row(order: &DecidedOrder) -> Row<'_> {
    let DecidedOrder { id, buyer, quantity, idempotency_key, .. } = order;
    (*id, buyer, *quantity, idempotency_key.as_deref())
}

/// Orders that are not there although they were to be recorded in this transaction.
async fn refused_by_postgres(
    connection: &mut PgConnection,
    orders: &[&DecidedOrder],
) -> Result<Vec<Uuid>, LedgerError> {
    let ids: Vec<Uuid> = orders.iter().map(|order| order.id).collect();
    let there: Vec<Uuid> = sqlx::query_scalar("SELECT id FROM orders WHERE id = ANY($1)")
        .bind(&ids)
        .fetch_all(connection)
        .await?;
    Ok(ids.into_iter().filter(|id| !there.contains(id)).collect())
}

impl SqliteLedger {
    async fn stock_rows(&self) -> Result<Vec<StockRow>, LedgerError> {
        Ok(sqlx::query_as(ROWS).fetch_all(&self.readers).await?)
    }

    async fn stock_row(&self, product_id: &str) -> Result<Option<StockRow>, LedgerError> {
        Ok(sqlx::query_as(ROW).bind(product_id).fetch_optional(&self.readers).await?)
    }

    async fn advance(
        &self,
        statement: &'static str,
        product_id: &str,
        token: i64,
    ) -> Result<i64, LedgerError> {
        let query = sqlx::query_scalar(statement).bind(product_id).bind(token);
        if let Some(available) = query.fetch_optional(&self.writer).await? {
            return Ok(available);
        }
        let query = sqlx::query_scalar(sql::FENCE_SEEN).bind(product_id);
        Err(LedgerError::refused(product_id, token, query.fetch_optional(&self.readers).await?))
    }

    async fn record(
        &self,
        product_id: &str,
        incarnation: i64,
        orders: &[&DecidedOrder],
    ) -> Result<Recorded, LedgerError> {
        let mut transaction = self.begin().await?;
        let recorded = insert_one_by_one(&mut transaction, product_id, incarnation, orders).await;
        transaction.end(recorded).await
    }
}

async fn insert_one_by_one(
    connection: &mut SqliteConnection,
    product_id: &str,
    incarnation: i64,
    orders: &[&DecidedOrder],
) -> Result<Recorded, LedgerError> {
    let (mut recorded, mut units) = (Recorded::default(), 0);
    for order in orders {
        let done = sqlx::query(
            "INSERT INTO orders \
             (id, product_id, buyer, quantity, idempotency_key, fence, unit_price, currency, limit_key) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING",
        )
        .bind(order.id.hyphenated())
        .bind(product_id)
        .bind(&order.buyer)
        .bind(order.quantity)
        .bind(&order.idempotency_key)
        .bind(incarnation)
        .bind(order.sold_for.columns().0)
        .bind(order.sold_for.columns().1)
        .bind(&order.limit_key)
        .execute(&mut *connection)
        .await?;
        if done.rows_affected() == 1 {
            recorded.new += 1;
            units += order.quantity;
        } else if !is_there(connection, order.id).await? {
            recorded.refused.push(order.id);
        }
    }
    sqlx::query(TAKE_RECORDED)
        .bind(product_id)
        .bind(units)
        .bind(incarnation)
        .execute(&mut *connection)
        .await?;
    Ok(recorded)
}

async fn is_there(connection: &mut SqliteConnection, id: Uuid) -> Result<bool, LedgerError> {
    let query = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM orders WHERE id = $1)");
    Ok(query.bind(id.hyphenated()).fetch_one(connection).await?)
}
