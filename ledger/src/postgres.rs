//! The ledger in PostgreSQL.

mod at_once;
mod at_once_sql;
pub(crate) mod connection;
mod known_units;
pub(crate) mod rows;
mod sell;
mod sessions;

use std::str::FromStr;
use std::sync::{Arc, LazyLock};

use futures::future::join_all;
use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{Connection, PgConnection, Postgres};

use crate::calls::{ACQUIRE_TIMEOUT, answers, beside_later_ones};
use crate::change::{self, ProductChange};
use crate::demand::{Decided, Demand};
use crate::error::LedgerError;
use crate::lately::Lately;
use crate::orders::types::UnitRow;
use crate::sql;
use crate::transaction::Transaction;
use crate::types::{Account, Product};

/// What the app's connections are called in `pg_stat_activity`.
pub(crate) const APPLICATION_NAME: &str = "flashsale";

pub(crate) static MIGRATIONS: LazyLock<Migrator> =
    LazyLock::new(|| beside_later_ones(sqlx::migrate!("migrations/postgres")));

/// Unless there is an account of this id, in whatever spelling: such were made before ids that differ
/// in case only became one.
const CREATE_ACCOUNT: &str = "INSERT INTO accounts (id, password_hash, role) \
     SELECT CAST($1 AS TEXT), CAST($2 AS TEXT), CAST($3 AS TEXT) \
     WHERE NOT EXISTS (SELECT 1 FROM accounts WHERE lower(id COLLATE \"C\") = lower($1 COLLATE \"C\")) \
     ON CONFLICT (id) DO NOTHING";

/// The account of this spelling, or else of any; of several, which are as old, the first.
const ACCOUNT: &str = "SELECT id, password_hash, role FROM accounts \
     WHERE lower(id COLLATE \"C\") = lower($1 COLLATE \"C\") ORDER BY id = $1 DESC, created_at, id LIMIT 1";

/// sqlx's own record of the first migration; it is part of a dump, as the tables are.
const TABLES_MADE_AT: &str = "SELECT to_char(installed_on AT TIME ZONE 'UTC', \
     'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') FROM _sqlx_migrations ORDER BY version LIMIT 1";

const VERSION_NUMBER: &str = "SELECT current_setting('server_version_num')::int";

/// See [`crate::Ledger`].
#[derive(Debug, Clone)]
pub struct PostgresLedger {
    pub(crate) pool: PgPool,
    known_units: Arc<known_units::KnownUnits>,
    /// Whether the rules had to decide orders lately: then the next ones go to them at once.
    pub(crate) refusals: Arc<Lately>,
}

impl PostgresLedger {
    pub(crate) fn connect_lazy(url: &str, max_connections: u32) -> Result<Self, LedgerError> {
        let options = PgConnectOptions::from_str(url)?
            .application_name(APPLICATION_NAME)
            // No column is a floating-point number, and PgBouncer refuses the setting.
            .extra_float_digits(None);
        let pool = PgPoolOptions::new()
            .max_connections(max_connections)
            // Only replaces those that were idle for long: a new pool opens none.
            .min_connections(max_connections)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .after_connect(|connection, _| Box::pin(made_ready(connection)))
            .after_release(|connection, _| Box::pin(answers(connection)))
            .connect_lazy_with(options);
        Ok(Self { pool, known_units: Arc::default(), refusals: Arc::default() })
    }

    /// Another process on the same database.
    #[cfg(test)]
    pub(crate) fn of(pool: PgPool) -> Self {
        Self { pool, known_units: Arc::default(), refusals: Arc::default() }
    }

    pub(crate) async fn begin(&self) -> Result<Transaction<Postgres>, LedgerError> {
        Transaction::begin(&self.pool, connection::BEGIN).await
    }

    /// As [`Self::begin`], without a ping before it.
    pub(crate) async fn begin_without_ping(&self) -> Result<Transaction<Postgres>, LedgerError> {
        connection::begin(&self.pool).await
    }

    pub(crate) async fn migrate(&self) -> Result<(), LedgerError> {
        let mut connection = sessions::connect(&self.pool.connect_options()).await?;
        // Takes an advisory lock, so replicas that start together wait for each other. It is kept
        // when the migration fails, so the connection is not the pool's.
        let migrated = MIGRATIONS.run_direct(None, &mut connection, false).await;
        connection.close().await?;
        migrated?;
        self.open_all_connections().await;
        Ok(())
    }

    /// Opens all connections, because a sale begins with a burst and connecting then would cost its first buyers the
    /// time. Prepares the statements of a sale on those that are older than the tables. A connection that the database
    /// refuses is opened when it is needed.
    async fn open_all_connections(&self) {
        let mut idle: Vec<_> = std::iter::from_fn(|| self.pool.try_acquire()).collect();
        for connection in &mut idle {
            if made_ready(connection).await.is_err() {
                connection.close_on_drop();
            }
        }
        let all = self.pool.options().get_max_connections();
        let new = (self.pool.size()..all).map(|_| self.pool.acquire());
        // Each is kept until all are there, else one would be taken again and again.
        drop(join_all(new).await);
    }

    pub(crate) async fn create_account(&self, account: &Account) -> Result<bool, LedgerError> {
        let done = sqlx::query(CREATE_ACCOUNT)
            .bind(&account.id)
            .bind(&account.password_hash)
            .bind(&account.role)
            .execute(&self.pool)
            .await?;
        Ok(done.rows_affected() == 1)
    }

    pub(crate) async fn account(&self, id: &str) -> Result<Option<Account>, LedgerError> {
        Ok(sqlx::query_as(ACCOUNT).bind(id).fetch_optional(&self.pool).await?)
    }

    pub(crate) async fn set_admin_password(
        &self,
        id: &str,
        password_hash: &str,
    ) -> Result<(), LedgerError> {
        let set = sqlx::query(sql::SET_ADMIN_PASSWORD).bind(id).bind(password_hash);
        set.execute(&self.pool).await?;
        Ok(())
    }

    pub(crate) async fn tables_made_at(&self) -> Result<Option<String>, LedgerError> {
        Ok(sqlx::query_scalar(TABLES_MADE_AT).fetch_optional(&self.pool).await?)
    }

    /// Such as 180006.
    pub(crate) async fn version_number(&self) -> Result<i32, LedgerError> {
        Ok(sqlx::query_scalar(VERSION_NUMBER).fetch_one(&self.pool).await?)
    }

    pub(crate) async fn products(&self) -> Result<Vec<Product>, LedgerError> {
        Ok(sqlx::query_as(sql::PRODUCTS).fetch_all(&self.pool).await?)
    }

    pub(crate) async fn sell_all(&self, demands: &[Demand<'_>]) -> Result<Decided, LedgerError> {
        if demands.iter().any(Demand::has_limit_keys) {
            return self.sell_at_once(demands, false).await;
        }
        sell::sell_all(&self.pool, demands).await
    }

    pub(crate) async fn sell_at_once(
        &self,
        demands: &[Demand<'_>],
        looks_up_keys: bool,
    ) -> Result<Decided, LedgerError> {
        at_once::sell_at_once(&self.pool, &self.known_units, demands, looks_up_keys).await
    }

    pub(crate) async fn sell_by_rules(
        &self,
        demands: &[Demand<'_>],
    ) -> Result<Decided, LedgerError> {
        sell::sell_by_rules(&self.pool, demands).await
    }

    pub(crate) async fn deleted_products(&self) -> Result<Vec<(String, i64)>, LedgerError> {
        Ok(sqlx::query_as(sql::DELETED_PRODUCTS).fetch_all(&self.pool).await?)
    }

    pub(crate) async fn count_units(&self) -> Result<Vec<UnitRow>, LedgerError> {
        // It needs all rows.
        let begin = "BEGIN READ ONLY; SET LOCAL enable_seqscan = on";
        let mut transaction = Transaction::begin(&self.pool, begin).await?;
        let units = sqlx::query_as(sql::COUNT_UNITS).fetch_all(&mut *transaction).await;
        Ok(transaction.end(units).await?)
    }

    pub(crate) async fn change(
        &self,
        change: &ProductChange,
        token: i64,
        actor: Option<&str>,
    ) -> Result<Option<Product>, LedgerError> {
        let mut transaction = self.begin().await?;
        let product = change::on_postgres(&mut transaction, change, token, actor).await;
        transaction.end(product).await
    }
}

async fn made_ready(connection: &mut PgConnection) -> sqlx::Result<()> {
    // A replica that freezes in the middle of a sale would keep its product's row from all others.
    // To prepare a statement that writes, PostgreSQL locks its tables: where somebody else has locked
    // one, the connection must still be there for those who only read.
    // An index leads to every row that a sale needs. Reading all of a table that was small when its
    // statistics were taken looks cheaper, and the plan is kept while the table grows. A table without an index for a
    // statement then looks so expensive that PostgreSQL would compile the statement each time, for a tenth of a second.
    // The plan of a statement does not depend on its values, so it is made once, before the first buyer comes; PostgreSQL
    // would make another for each batch whose arrays are shorter than it assumes.
    let limits = "SET idle_in_transaction_session_timeout = '2s'; SET lock_timeout = '200ms'; \
         SET enable_seqscan = off; SET jit = off; SET plan_cache_mode = force_generic_plan";
    sqlx::raw_sql(limits).execute(&mut *connection).await?;
    sell::prepare(connection).await?;
    sqlx::raw_sql("RESET lock_timeout").execute(connection).await?;
    Ok(())
}
