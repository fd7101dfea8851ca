//! The ledger: accounts, products, stock and orders in PostgreSQL or SQLite.
//!
//! It decides every sale, in one transaction, and is right without any lock: units are taken only
//! where they are left, and a transaction whose fencing token is not above all that came before is
//! refused. It knows no Redis and no HTTP.

mod decide;
mod postgres;
mod sql;
mod sqlite;

use std::time::Duration;

use sqlx::Connection;
use tokio::time::timeout;
use uuid::Uuid;

pub use decide::Outcome;
use postgres::PostgresLedger;
use sqlite::SqliteLedger;

/// A ledger in the database that the URL names.
#[derive(Debug, Clone)]
pub enum Ledger {
    /// `postgres://` or `postgresql://`
    Postgres(PostgresLedger),
    /// `sqlite:`
    Sqlite(SqliteLedger),
}

/// What a sign-up left behind.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Account {
    /// The name it was signed up with.
    pub id: String,
    /// In PHC format.
    pub password_hash: String,
    /// `buyer` or `admin`.
    pub role: String,
}

/// A product and the state of its stock.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Product {
    /// Names the product in the API and in Redis.
    pub id: String,
    /// For people.
    pub name: String,
    /// Units one buyer may have in all.
    pub max_per_buyer: Option<i64>,
    /// Overrides the sale's own wait timeout.
    pub wait_timeout_ms: Option<i64>,
    /// Overrides the sale's own lease time.
    pub lease_time_ms: Option<i64>,
    /// Units the sale was given in all.
    pub declared: i64,
    /// Units left.
    pub available: i64,
    /// The highest fencing token that changed the stock.
    pub fence: i64,
}

/// A product as an operator declares it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProductDeclaration {
    /// See [`Product::id`].
    pub id: String,
    /// See [`Product::name`].
    pub name: String,
    /// Units the sale is given in all.
    pub stock: i64,
    /// See [`Product::max_per_buyer`].
    #[serde(default)]
    pub max_per_buyer: Option<i64>,
    /// See [`Product::wait_timeout_ms`].
    #[serde(default)]
    pub wait_timeout_ms: Option<i64>,
    /// See [`Product::lease_time_ms`].
    #[serde(default)]
    pub lease_time_ms: Option<i64>,
}

impl ProductDeclaration {
    /// Stock that was declared may have been sold: it is raised, never lowered.
    fn check_not_lowered(&self, declared: i64) -> Result<(), LedgerError> {
        if self.stock < declared {
            let (product, asked) = (self.id.clone(), self.stock);
            return Err(LedgerError::StockLowered { product, declared, asked });
        }
        Ok(())
    }
}

/// A purchase that asks for a decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Purchase {
    /// Who buys.
    pub buyer: String,
    /// How many units.
    pub quantity: i64,
    /// The same key of the same buyer is the same purchase.
    pub idempotency_key: Option<String>,
}

/// Units sold, committed.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Order {
    /// In order of time.
    pub id: Uuid,
    /// What was bought.
    pub product_id: String,
    /// Who bought.
    pub buyer: String,
    /// How many units.
    pub quantity: i64,
    /// The key the purchase came with.
    pub idempotency_key: Option<String>,
}

/// What one transaction decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// One for each purchase, in their order.
    pub outcomes: Vec<Outcome>,
    /// Units left after it.
    pub available: i64,
}

/// Why the ledger gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// Another holder of the lock was here since; nothing was changed.
    #[error("fencing token {token} is not above {seen}")]
    StaleToken {
        /// The token that was refused.
        token: i64,
        /// The one that came before.
        seen: i64,
    },
    /// There is no such product; nothing was changed.
    #[error("unknown product {0}")]
    UnknownProduct(String),
    /// An order with a stock lower than what was already declared.
    #[error("stock of product {product} is {declared} already and cannot be lowered to {asked}")]
    StockLowered {
        /// The product.
        product: String,
        /// The stock declared before.
        declared: i64,
        /// The stock asked for.
        asked: i64,
    },
    /// The URL names no database that is supported.
    #[error("{0:?} is neither a postgres:// nor a sqlite:// URL")]
    UnsupportedUrl(String),
    /// The database did not answer.
    #[error("the database did not answer within {0:?}")]
    TimedOut(Duration),
    /// The database failed, or is away.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    /// Its tables could not be brought up to date.
    #[error(transparent)]
    Migration(#[from] sqlx::migrate::MigrateError),
}

impl LedgerError {
    /// Why a token was not installed, by the one that is there.
    fn refused(product_id: &str, token: i64, seen: Option<i64>) -> Self {
        match seen {
            Some(seen) => Self::StaleToken { token, seen },
            None => Self::UnknownProduct(product_id.to_owned()),
        }
    }

    /// One buyer used one key for two products at the same time. Nothing was changed, and one of
    /// the orders is there now, so the next look finds it.
    fn is_crossed_keys(&self) -> bool {
        let Self::Database(sqlx::Error::Database(error)) = self else { return false };
        error.is_unique_violation()
            || error.code().is_some_and(|code| code == DEADLOCK || code == SERIALIZATION_FAILURE)
    }
}

/// PostgreSQL's `SQLSTATE`s.
const DEADLOCK: &str = "40P01";
const SERIALIZATION_FAILURE: &str = "40001";

/// How long a caller waits for a free connection of the pool.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a connection may take to answer after its use, before it is closed instead.
const PING_TIMEOUT: Duration = Duration::from_secs(1);
/// How long any call may take but a sale, which its lease bounds, and the migration.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

async fn bounded<T>(call: impl Future<Output = Result<T, LedgerError>>) -> Result<T, LedgerError> {
    timeout(CALL_TIMEOUT, call).await.unwrap_or(Err(LedgerError::TimedOut(CALL_TIMEOUT)))
}

/// A connection whose server vanished without a word would keep its place in the pool for as long
/// as the kernel hopes for it.
async fn answers<C: Connection>(connection: &mut C) -> Result<bool, sqlx::Error> {
    timeout(PING_TIMEOUT, connection.ping())
        .await
        .map_err(|_elapsed| sqlx::Error::PoolTimedOut)??;
    Ok(true)
}

/// Calls the same method of whichever database it is.
macro_rules! either {
    ($self:ident, $ledger:ident => $call:expr) => {
        match $self {
            Ledger::Postgres($ledger) => $call.await,
            Ledger::Sqlite($ledger) => $call.await,
        }
    };
}

impl Ledger {
    /// Reads the URL; connects in the background or when first used. PostgreSQL's connections are
    /// all kept open, so ask for as many as the process has use for.
    ///
    /// # Errors
    /// [`LedgerError::UnsupportedUrl`], or what is wrong with the URL.
    pub fn connect_lazy(url: &str, max_connections: u32) -> Result<Self, LedgerError> {
        match url.split(':').next() {
            Some("postgres" | "postgresql") => {
                Ok(Self::Postgres(PostgresLedger::connect_lazy(url, max_connections)?))
            }
            Some("sqlite") => Ok(Self::Sqlite(SqliteLedger::connect_lazy(url, max_connections)?)),
            // The scheme only: the rest may carry a password.
            other => Err(LedgerError::UnsupportedUrl(other.unwrap_or_default().to_owned())),
        }
    }

    /// Brings the tables up to date; several replicas may do so at once.
    ///
    /// # Errors
    /// When the database is away or was made by a later version.
    pub async fn migrate(&self) -> Result<(), LedgerError> {
        either!(self, ledger => ledger.migrate())
    }

    /// Makes an account; `false` when the name is taken.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn create_account(&self, account: &Account) -> Result<bool, LedgerError> {
        bounded(async { either!(self, ledger => ledger.create_account(account)) }).await
    }

    /// The account of that name.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn account(&self, id: &str) -> Result<Option<Account>, LedgerError> {
        bounded(async { either!(self, ledger => ledger.account(id)) }).await
    }

    /// All products, by id.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn products(&self) -> Result<Vec<Product>, LedgerError> {
        bounded(async { either!(self, ledger => ledger.products()) }).await
    }

    /// The order that this key of this buyer led to.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn order_by_key(&self, buyer: &str, key: &str) -> Result<Option<Order>, LedgerError> {
        bounded(async { either!(self, ledger => ledger.order_by_key(buyer, key)) }).await
    }

    /// Decides purchases of one product, in their order, in one transaction.
    ///
    /// # Errors
    /// In every case nothing was changed, but for a connection lost during the commit: then it is
    /// not known, and the idempotency keys tell.
    pub async fn sell(
        &self,
        product_id: &str,
        token: i64,
        purchases: &[&Purchase],
    ) -> Result<Decision, LedgerError> {
        loop {
            let decision = either!(self, ledger => ledger.sell(product_id, token, purchases));
            if !matches!(&decision, Err(error) if error.is_crossed_keys()) {
                return decision;
            }
        }
    }

    /// Makes the product, or takes over what changed: a stock that was raised adds the difference
    /// to what is left. Returns the units left.
    ///
    /// # Errors
    /// [`LedgerError::StockLowered`], [`LedgerError::StaleToken`], or when the database fails.
    pub async fn declare(
        &self,
        product: &ProductDeclaration,
        token: i64,
    ) -> Result<i64, LedgerError> {
        bounded(async { either!(self, ledger => ledger.declare(product, token)) }).await
    }
}
