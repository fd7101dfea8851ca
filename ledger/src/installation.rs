//! Whose database it is, and which versions of the app may use it: the row of `installation`.
//!
//! A database belongs to one sale. Two would share products, stock, orders and accounts.

use sqlx::{PgConnection, SqliteConnection};

use crate::calls::bounded;
use crate::error::{LedgerError, UnusableDatabase};
use crate::ledger::{Ledger, either};
use crate::payments;
use crate::postgres::{self, PostgresLedger};
use crate::sqlite::SqliteLedger;

/// The checks that a release leaves out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReleaseOptions {
    /// Other connections of the app may be open.
    pub force: bool,
    /// Events of orders that no sink has are dropped.
    pub drop_events: bool,
    /// Events of payment services that wait for an administrator are dropped.
    pub drop_payments: bool,
}

/// Why a database was neither released nor given another owner; nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// Another sale has it, or none.
    #[error("the database belongs to {}, not to the sale {sale:?}", owned_by(.owner.as_deref()))]
    NotTheOwner {
        /// The sale that has it.
        owner: Option<String>,
        /// The sale that was named.
        sale: String,
    },
    /// Replicas of the sale seem to run.
    #[error(
        "{connections} connections of flashsale-app are open: end the sale's replicas first, or, if \
         these are a pooler's idle connections, repeat with --force"
    )]
    InUse {
        /// How many.
        connections: i64,
    },
    /// Events would be lost.
    #[error(
        "{pending} events of orders are not delivered, and {given_up} were given up: start the sale's replicas to \
         deliver the former and to replay the latter, or repeat with --drop-events to drop them"
    )]
    UndeliveredEvents {
        /// Events that are still to be delivered.
        pending: i64,
        /// Events that only a replay delivers.
        given_up: i64,
    },
    /// Nobody would know any more that a buyer may be owed money.
    #[error(
        "{events} events of payment services wait for an administrator, such as money for an order that was over: start \
         the sale's replicas and resolve them on the page /admin, or repeat with --drop-payments to drop them"
    )]
    OpenPayments {
        /// How many.
        events: i64,
    },
    /// The database failed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

impl From<sqlx::Error> for ReleaseError {
    fn from(error: sqlx::Error) -> Self {
        Self::Ledger(error.into())
    }
}

fn owned_by(owner: Option<&str>) -> String {
    owner.map_or_else(|| "no sale".to_owned(), |owner| format!("the sale {owner:?}"))
}

/// The row.
#[derive(Debug, sqlx::FromRow)]
struct Installation {
    sale: Option<String>,
    needs_migration: i64,
}

/// Of two sales that claim at the same time, the second sees the first one's name.
const CLAIM: &str = "UPDATE installation SET sale = coalesce(sale, $1) \
     RETURNING sale, needs_migration";

const READ: &str = "SELECT sale, needs_migration FROM installation";

const RENAME: &str = "UPDATE installation SET sale = $2 WHERE sale = $1";

const LAST_MIGRATION: &str = "SELECT coalesce(max(version), 0) FROM _sqlx_migrations";

/// Other processes of the app; PostgreSQL only.
const OTHER_CONNECTIONS: &str = "SELECT count(*) FROM pg_stat_activity \
     WHERE datname = current_database() AND application_name = $1 AND pid <> pg_backend_pid()";

/// Those that are still to be delivered, and those that were given up.
const UNDELIVERED_EVENTS: &str = "SELECT (SELECT count(*) FROM order_events) \
     + (SELECT count(*) FROM failed_events WHERE dead_at_ms IS NULL) AS pending, \
     (SELECT count(*) FROM failed_events WHERE dead_at_ms IS NOT NULL) AS given_up";

/// Nobody writes between the copies and the deletions.
const LOCK: &str = "LOCK TABLE stock, products, orders, coupons, coupon_issues";

/// Moves what a sale left behind, so that the next one starts as on an empty database: neither its
/// limits, keys and fences nor its stock meet those of the last one. `$1` is the sale.
const ARCHIVE: [&str; 4] = [
    "INSERT INTO past_products (sale, released_at, id, name, max_per_buyer, declared, restocked, \
     available, deleted_at, price, currency) SELECT $1, CURRENT_TIMESTAMP, id, name, max_per_buyer, \
     declared, restocked, available, deleted_at, price, currency FROM products JOIN stock ON product_id = id",
    "INSERT INTO past_orders (sale, released_at, id, line, product_id, buyer, quantity, \
     idempotency_key, state, payment_reference, created_at, expires_at_ms, ended_as, unit_price, \
     currency, refunded_at_ms, refund_reference) \
     SELECT $1, CURRENT_TIMESTAMP, id, line, product_id, buyer, quantity, idempotency_key, state, \
     payment_reference, created_at, expires_at_ms, ended_as, unit_price, currency, refunded_at_ms, \
     refund_reference FROM orders",
    "INSERT INTO past_coupons (sale, released_at, id, quantity, issued, starts_at_ms, ends_at_ms) \
     SELECT $1, CURRENT_TIMESTAMP, id, quantity, issued, starts_at_ms, ends_at_ms FROM coupons",
    "INSERT INTO past_coupon_issues (sale, released_at, id, coupon_id, buyer, created_at) \
     SELECT $1, CURRENT_TIMESTAMP, id, coupon_id, buyer, created_at FROM coupon_issues",
];

/// Referring rows first. Buyers keep their accounts; the next sale makes its own administrator.
const CLEAR: [&str; 14] = [
    "DELETE FROM erased_units",
    "UPDATE installation SET limit_claim = NULL, \
     needs_migration = CASE needs_migration WHEN 28 THEN 0 ELSE needs_migration END",
    "DELETE FROM waitlist",
    "DELETE FROM payment_events",
    "DELETE FROM order_events",
    "DELETE FROM failed_events",
    "DELETE FROM event_sinks",
    "DELETE FROM orders",
    "DELETE FROM stock",
    "DELETE FROM products",
    "DELETE FROM coupon_issues",
    "DELETE FROM coupons",
    "DELETE FROM accounts WHERE role = 'admin'",
    // The next sale refuses nobody; what is not finished goes on.
    "DELETE FROM erasures WHERE buyer IS NULL",
];

impl Installation {
    fn check(&self, sale: &str, knows: i64) -> Result<(), UnusableDatabase> {
        if self.needs_migration > knows {
            return Err(UnusableDatabase::TooNew { needs: self.needs_migration, knows });
        }
        match &self.sale {
            Some(owner) if owner != sale => Err(UnusableDatabase::OwnedByAnother {
                owner: owner.clone(),
                sale: sale.to_owned(),
            }),
            _ => Ok(()),
        }
    }
}

impl Ledger {
    /// Brings the tables up to date and claims the database for the sale; several processes may
    /// do so at once.
    ///
    /// # Errors
    /// [`UnusableDatabase`], or when the database is away.
    pub async fn prepare(&self, sale: &str) -> Result<(), LedgerError> {
        self.migrate().await?;
        self.check_installation(sale).await?;
        let installation = bounded(async { either!(self, ledger => ledger.claim(sale)) }).await?;
        Ok(installation.check(sale, self.newest_migration())?)
    }

    /// As [`Ledger::migrate`], for what must know every table and column: a database that a later version has
    /// migrated is refused.
    ///
    /// # Errors
    /// [`UnusableDatabase::MigratedFurther`], or as [`Ledger::migrate`].
    pub async fn migrate_unless_newer(&self) -> Result<(), LedgerError> {
        self.migrate().await?;
        let has = bounded(async { either!(self, ledger => ledger.last_migration()) }).await?;
        let knows = self.newest_migration();
        if has > knows {
            return Err(UnusableDatabase::MigratedFurther { has, knows }.into());
        }
        Ok(())
    }

    /// Whether the sale may still use the database.
    ///
    /// # Errors
    /// [`UnusableDatabase`], or when the database fails.
    pub async fn check_installation(&self, sale: &str) -> Result<(), LedgerError> {
        let installation =
            bounded(async { either!(self, ledger => ledger.installation()) }).await?;
        Ok(installation.check(sale, self.newest_migration())?)
    }

    /// Ends a sale's use of the database: its products, orders and coupons move to the tables
    /// `past_*`, and the next sale that comes claims the database.
    ///
    /// # Errors
    /// See [`ReleaseError`].
    pub async fn release_database(
        &self,
        sale: &str,
        options: ReleaseOptions,
    ) -> Result<(), ReleaseError> {
        either!(self, ledger => ledger.release(sale, options))
    }

    /// Gives the database to this sale, also if another one owns it, and returns the name of the previous owner. The
    /// sale goes on where the previous one stopped.
    ///
    /// # Errors
    /// See [`ReleaseError`].
    pub async fn take_over(&self, sale: &str) -> Result<Option<String>, ReleaseError> {
        let Installation { sale: owner, .. } =
            bounded(async { either!(self, ledger => ledger.installation()) }).await?;
        let Some(owner) = owner.filter(|owner| owner != sale) else { return Ok(None) };
        self.rename_sale(&owner, sale).await?;
        Ok(Some(owner))
    }

    /// Gives the database, with all that is in it, another owner: the sale goes on under the new
    /// name.
    ///
    /// # Errors
    /// See [`ReleaseError`].
    pub async fn rename_sale(&self, sale: &str, new_name: &str) -> Result<(), ReleaseError> {
        either!(self, ledger => ledger.rename(sale, new_name))
    }
}

/// One text for two types of connection, as in `change.rs`.
macro_rules! statements {
    ($archive:ident, $rename:ident, $connection:ty) => {
        /// Within a transaction, which the caller commits.
        async fn $archive(
            connection: &mut $connection,
            sale: &str,
            options: ReleaseOptions,
        ) -> Result<(), ReleaseError> {
            let (pending, given_up): (i64, i64) =
                sqlx::query_as(UNDELIVERED_EVENTS).fetch_one(&mut *connection).await?;
            if pending + given_up > 0 && !options.drop_events {
                return Err(ReleaseError::UndeliveredEvents { pending, given_up });
            }
            let events: i64 =
                sqlx::query_scalar(payments::OPEN_EVENTS).fetch_one(&mut *connection).await?;
            if events > 0 && !options.drop_payments {
                return Err(ReleaseError::OpenPayments { events });
            }
            for statement in ARCHIVE {
                sqlx::query(statement).bind(sale).execute(&mut *connection).await?;
            }
            for statement in CLEAR {
                sqlx::query(statement).execute(&mut *connection).await?;
            }
            Ok(())
        }

        async fn $rename(
            connection: &mut $connection,
            sale: &str,
            new_name: Option<&str>,
        ) -> Result<(), ReleaseError> {
            let renamed = sqlx::query(RENAME).bind(sale).bind(new_name).execute(&mut *connection);
            if renamed.await?.rows_affected() == 1 {
                return Ok(());
            }
            let Installation { sale: owner, .. } =
                sqlx::query_as(READ).fetch_one(connection).await?;
            Err(ReleaseError::NotTheOwner { owner, sale: sale.to_owned() })
        }
    };
}

statements!(archive_on_postgres, rename_on_postgres, PgConnection);
statements!(archive_on_sqlite, rename_on_sqlite, SqliteConnection);

impl PostgresLedger {
    async fn claim(&self, sale: &str) -> Result<Installation, LedgerError> {
        Ok(sqlx::query_as(CLAIM).bind(sale).fetch_one(&self.pool).await?)
    }

    async fn installation(&self) -> Result<Installation, LedgerError> {
        Ok(sqlx::query_as(READ).fetch_one(&self.pool).await?)
    }

    async fn last_migration(&self) -> Result<i64, LedgerError> {
        Ok(sqlx::query_scalar(LAST_MIGRATION).fetch_one(&self.pool).await?)
    }

    async fn release(&self, sale: &str, options: ReleaseOptions) -> Result<(), ReleaseError> {
        let mut transaction = self.begin().await?;
        let released = release_on_postgres(&mut transaction, sale, options).await;
        transaction.end(released).await
    }

    async fn rename(&self, sale: &str, new_name: &str) -> Result<(), ReleaseError> {
        let mut connection = self.pool.acquire().await?;
        rename_on_postgres(&mut connection, sale, Some(new_name)).await
    }
}

async fn release_on_postgres(
    connection: &mut PgConnection,
    sale: &str,
    options: ReleaseOptions,
) -> Result<(), ReleaseError> {
    rename_on_postgres(connection, sale, None).await?;
    let connections = sqlx::query_scalar(OTHER_CONNECTIONS)
        .bind(postgres::APPLICATION_NAME)
        .fetch_one(&mut *connection)
        .await?;
    if connections > 0 && !options.force {
        return Err(ReleaseError::InUse { connections });
    }
    sqlx::query(LOCK).execute(&mut *connection).await?;
    archive_on_postgres(connection, sale, options).await
}

async fn release_on_sqlite(
    connection: &mut SqliteConnection,
    sale: &str,
    options: ReleaseOptions,
) -> Result<(), ReleaseError> {
    rename_on_sqlite(connection, sale, None).await?;
    archive_on_sqlite(connection, sale, options).await
}

impl SqliteLedger {
    async fn claim(&self, sale: &str) -> Result<Installation, LedgerError> {
        Ok(sqlx::query_as(CLAIM).bind(sale).fetch_one(&self.writer).await?)
    }

    async fn installation(&self) -> Result<Installation, LedgerError> {
        Ok(sqlx::query_as(READ).fetch_one(&self.readers).await?)
    }

    async fn last_migration(&self) -> Result<i64, LedgerError> {
        Ok(sqlx::query_scalar(LAST_MIGRATION).fetch_one(&self.readers).await?)
    }

    /// Other processes cannot be seen.
    async fn release(&self, sale: &str, options: ReleaseOptions) -> Result<(), ReleaseError> {
        let mut transaction = self.begin().await?;
        let released = release_on_sqlite(&mut transaction, sale, options).await;
        transaction.end(released).await
    }

    async fn rename(&self, sale: &str, new_name: &str) -> Result<(), ReleaseError> {
        let mut connection = self.writer.acquire().await?;
        rename_on_sqlite(&mut connection, sale, Some(new_name)).await
    }
}
