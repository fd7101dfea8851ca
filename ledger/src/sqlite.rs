//! The ledger in SQLite, for development and small sales: one writer at a time.
//!
//! One connection does all writes of this process. Writers queue for it, where SQLite would make them
//! poll. Its page cache stays valid, because no other connection of the process writes.

pub(crate) mod sell;

use std::str::FromStr;
use std::sync::LazyLock;
use std::time::Duration;

use sqlx::Sqlite;
use sqlx::migrate::Migrator;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};

use crate::calls::{ACQUIRE_TIMEOUT, answers, beside_later_ones};
use crate::change::{self, ProductChange};
use crate::demand::{Decided, Demand};
use crate::error::LedgerError;
use crate::orders::types::UnitRow;
use crate::sql;
use crate::transaction::Transaction;
use crate::types::{Account, Product};

pub(crate) static MIGRATIONS: LazyLock<Migrator> =
    LazyLock::new(|| beside_later_ones(sqlx::migrate!("migrations/sqlite")));

/// How long a writer waits for the one before it, perhaps in another process.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Pages in the log when they are copied into the database, 32 MiB: a page that many batches changed
/// is copied once, and the commit that copies waits for the disk once more. SQLite's own limit of 1000
/// pages is reached after ten batches.
const CHECKPOINT_PAGES: &str = "8192";
/// What the writer keeps of the database in memory: 8 MiB.
const WRITER_CACHE_KIB: &str = "-8192";

/// Unless there is an account of this id, in whatever spelling: such were made before ids that differ
/// in case only became one.
const CREATE_ACCOUNT: &str = "INSERT INTO accounts (id, password_hash, role) \
     SELECT CAST($1 AS TEXT), CAST($2 AS TEXT), CAST($3 AS TEXT) \
     WHERE NOT EXISTS (SELECT 1 FROM accounts WHERE lower(id) = lower($1)) \
     ON CONFLICT (id) DO NOTHING";

/// The account of this spelling, or else of any; of several, which are as old, the first.
const ACCOUNT: &str = "SELECT id, password_hash, role FROM accounts \
     WHERE lower(id) = lower($1) ORDER BY id = $1 DESC, created_at, id LIMIT 1";

/// sqlx's own record of the first migration.
const TABLES_MADE_AT: &str = "SELECT CAST(installed_on AS TEXT) FROM _sqlx_migrations \
     ORDER BY version LIMIT 1";

/// See [`crate::Ledger`].
#[derive(Debug, Clone)]
pub struct SqliteLedger {
    /// Cannot write.
    pub(crate) readers: SqlitePool,
    /// One connection.
    pub(crate) writer: SqlitePool,
}

impl SqliteLedger {
    pub(crate) fn connect_lazy(url: &str, max_connections: u32) -> Result<Self, LedgerError> {
        let options = SqliteConnectOptions::from_str(url)?
            .create_if_missing(true)
            .foreign_keys(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_TIMEOUT);
        let pool = |connections, options| {
            SqlitePoolOptions::new()
                .max_connections(connections)
                .acquire_timeout(ACQUIRE_TIMEOUT)
                .after_release(|connection, _| Box::pin(answers(connection)))
                .connect_lazy_with(options)
        };
        let writer = options
            .clone()
            .pragma("wal_autocheckpoint", CHECKPOINT_PAGES)
            .pragma("cache_size", WRITER_CACHE_KIB);
        Ok(Self {
            readers: pool(max_connections, options.pragma("query_only", "ON")),
            writer: pool(1, writer),
        })
    }

    /// A transaction that nobody else writes beside.
    pub(crate) async fn begin(&self) -> Result<Transaction<Sqlite>, LedgerError> {
        Transaction::begin(&self.writer, "BEGIN IMMEDIATE").await
    }

    pub(crate) async fn migrate(&self) -> Result<(), LedgerError> {
        // A pool of its own: sqlx begins the transactions of migrations itself, and this future may be
        // dropped within one.
        let options = self.writer.options().clone();
        let pool = options.connect_lazy_with((*self.writer.connect_options()).clone());
        MIGRATIONS.run(&pool).await?;
        pool.close().await;
        Ok(())
    }

    pub(crate) async fn create_account(&self, account: &Account) -> Result<bool, LedgerError> {
        let done = sqlx::query(CREATE_ACCOUNT)
            .bind(&account.id)
            .bind(&account.password_hash)
            .bind(&account.role)
            .execute(&self.writer)
            .await?;
        Ok(done.rows_affected() == 1)
    }

    pub(crate) async fn account(&self, id: &str) -> Result<Option<Account>, LedgerError> {
        Ok(sqlx::query_as(ACCOUNT).bind(id).fetch_optional(&self.readers).await?)
    }

    pub(crate) async fn set_admin_password(
        &self,
        id: &str,
        password_hash: &str,
    ) -> Result<(), LedgerError> {
        let set = sqlx::query(sql::SET_ADMIN_PASSWORD).bind(id).bind(password_hash);
        set.execute(&self.writer).await?;
        Ok(())
    }

    pub(crate) async fn tables_made_at(&self) -> Result<Option<String>, LedgerError> {
        Ok(sqlx::query_scalar(TABLES_MADE_AT).fetch_optional(&self.readers).await?)
    }

    pub(crate) async fn products(&self) -> Result<Vec<Product>, LedgerError> {
        Ok(sqlx::query_as(sql::PRODUCTS).fetch_all(&self.readers).await?)
    }

    /// One transaction decides either way.
    pub(crate) async fn sell_all(&self, demands: &[Demand<'_>]) -> Result<Decided, LedgerError> {
        self.sell_at_once(demands, true).await
    }

    pub(crate) async fn sell_at_once(
        &self,
        demands: &[Demand<'_>],
        _looks_up_keys: bool,
    ) -> Result<Decided, LedgerError> {
        let mut transaction = self.begin().await?;
        let decided = sell::sell_at_once(&mut transaction, demands).await;
        transaction.end(decided).await
    }

    pub(crate) async fn sell_by_rules(
        &self,
        demands: &[Demand<'_>],
    ) -> Result<Decided, LedgerError> {
        let mut transaction = self.begin().await?;
        let decided = sell::decide_all(&mut transaction, demands).await;
        transaction.end(decided).await
    }

    pub(crate) async fn deleted_products(&self) -> Result<Vec<(String, i64)>, LedgerError> {
        Ok(sqlx::query_as(sql::DELETED_PRODUCTS).fetch_all(&self.readers).await?)
    }

    pub(crate) async fn count_units(&self) -> Result<Vec<UnitRow>, LedgerError> {
        Ok(sqlx::query_as(sql::COUNT_UNITS).fetch_all(&self.readers).await?)
    }

    pub(crate) async fn change(
        &self,
        change: &ProductChange,
        token: i64,
        actor: Option<&str>,
    ) -> Result<Option<Product>, LedgerError> {
        let mut transaction = self.begin().await?;
        let product = change::on_sqlite(&mut transaction, change, token, actor).await;
        transaction.end(product).await
    }
}
