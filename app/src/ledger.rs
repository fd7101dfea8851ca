//! The ledger: accounts, products, stock and orders in PostgreSQL or SQLite.
//!
//! It decides every sale, in one transaction, and is right without any lock: units are taken only
//! where they are left, and a transaction whose fencing token is not above all that came before is
//! refused. It knows no Redis and no HTTP.

mod change;
pub mod coupons;
mod decide;
mod follow;
mod identity;
mod installation;
mod lookups;
pub mod orders;
mod postgres;
mod sell;
mod sql;
mod sqlite;
mod transaction;

use std::time::Duration;

use sqlx::Connection;
use sqlx::migrate::{MigrateError, Migrator};
use tokio::time::timeout;
use uuid::Uuid;

pub use change::{ProductChange, ProductDeclaration, ProductTerms};
pub use decide::Outcome;
pub use follow::{DecidedOrder, Recorded, StockRow};
pub use installation::{ReleaseError, UnusableDatabase};
pub use lookups::{KeyedOrder, KeysPage, UnitsPage};
use postgres::PostgresLedger;
pub use sell::{Decided, Demand, Step, undecided};
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
// No `Debug`: it holds a password's hash.
#[derive(Clone, PartialEq, Eq, sqlx::FromRow)]
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

impl Purchase {
    /// What it leads to when it is made.
    fn order(&self, product_id: &str) -> Order {
        Order {
            id: Uuid::now_v7(),
            product_id: product_id.to_owned(),
            buyer: self.buyer.clone(),
            quantity: self.quantity,
            idempotency_key: self.idempotency_key.clone(),
            lines: 1,
        }
    }
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
    /// How many products the order is for: another than one was no purchase.
    pub lines: i64,
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
    /// Other holders of these products' locks were here since, with these tokens; nothing was
    /// changed.
    #[error("fencing tokens are not above {0:?}")]
    StaleTokens(Vec<(String, i64)>),
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
    /// The product that was to be made is there; nothing was changed.
    #[error("product {0} exists already")]
    ProductExists(String),
    /// The product that was declared was deleted by an administrator; nothing was changed.
    #[error("product {0} was deleted by an administrator")]
    ProductDeleted(String),
    /// The stock is not what the request goes out from; nothing was changed.
    #[error("product {product} has been given {stock} units in all by now")]
    StockChanged {
        /// The product.
        product: String,
        /// The units it was given in all.
        stock: i64,
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
    Migration(#[from] MigrateError),
    /// Not before somebody changes something.
    #[error(transparent)]
    Unusable(#[from] UnusableDatabase),
}

impl LedgerError {
    /// Why a token was not installed, by the one that is there.
    fn refused(product_id: &str, token: i64, seen: Option<i64>) -> Self {
        match seen {
            Some(seen) => Self::StaleToken { token, seen },
            None => Self::UnknownProduct(product_id.to_owned()),
        }
    }

    /// Whether a process that starts need not try again.
    #[must_use]
    pub fn is_final(&self) -> bool {
        match self {
            Self::Unusable(_) | Self::UnsupportedUrl(_) => true,
            // The database is away, or a migration failed that another process began.
            Self::Migration(error) => matches!(error, MigrateError::VersionMismatch(_)),
            _ => false,
        }
    }

    /// A constraint forbids it: no second try helps.
    pub(crate) fn is_refused_by_a_rule(&self) -> bool {
        let Self::Database(sqlx::Error::Database(error)) = self else { return false };
        error.is_unique_violation()
            || error.is_check_violation()
            || error.is_foreign_key_violation()
    }

    /// Why not all tokens were installed, by those that are there instead.
    fn refused_among(refused: &[&str], seen: Vec<(String, i64)>) -> Self {
        let known = |product: &str| seen.iter().any(|(seen, _)| seen == product);
        match refused.iter().find(|product| !known(product)) {
            Some(product) => Self::UnknownProduct((*product).to_owned()),
            None => Self::StaleTokens(seen),
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

/// Such migrations also run on tables that a later version of the app has changed:
/// `app/migrations/README.md`.
fn beside_later_ones(mut migrations: Migrator) -> Migrator {
    migrations.set_ignore_missing(true);
    migrations
}

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
use either;

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

    /// Brings the tables up to date; several replicas may do so at once. Later migrations than
    /// this version knows are left as they are.
    ///
    /// # Errors
    /// When the database is away, or a migration that this version knows has another text there.
    pub async fn migrate(&self) -> Result<(), LedgerError> {
        either!(self, ledger => ledger.migrate())
    }

    /// The number of the last migration that this version knows.
    fn newest_migration(&self) -> i64 {
        let migrator = match self {
            Self::Postgres(_) => &postgres::MIGRATIONS,
            Self::Sqlite(_) => &sqlite::MIGRATIONS,
        };
        migrator.iter().map(|migration| migration.version).max().unwrap_or(0)
    }

    /// Makes an account; `false` when the name is taken, in whatever case.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn create_account(&self, account: &Account) -> Result<bool, LedgerError> {
        bounded(async { either!(self, ledger => ledger.create_account(account)) }).await
    }

    /// The account of that name, in whatever case. Where there are several, from before they became
    /// one, each has its exact name, and every other spelling is the oldest's.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn account(&self, id: &str) -> Result<Option<Account>, LedgerError> {
        bounded(async { either!(self, ledger => ledger.account(id)) }).await
    }

    /// Gives an administrator's account another password; nothing happens to a buyer's.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn set_admin_password(
        &self,
        id: &str,
        password_hash: &str,
    ) -> Result<(), LedgerError> {
        bounded(async { either!(self, ledger => ledger.set_admin_password(id, password_hash)) })
            .await
    }

    /// All products, by id.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn products(&self) -> Result<Vec<Product>, LedgerError> {
        bounded(async { either!(self, ledger => ledger.products()) }).await
    }

    /// The products that were deleted, with the fencing token of each deletion.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn deleted_products(&self) -> Result<Vec<(String, i64)>, LedgerError> {
        bounded(async { either!(self, ledger => ledger.deleted_products()) }).await
    }

    /// Makes the product, or takes over what changed: a stock that was raised adds the difference
    /// to what is left. Returns the units left.
    ///
    /// # Errors
    /// As [`Ledger::change`].
    pub async fn declare(
        &self,
        product: &ProductDeclaration,
        token: i64,
    ) -> Result<i64, LedgerError> {
        let product = self.change(&ProductChange::Declare(product.clone()), token).await?;
        Ok(product.map_or(0, |product| product.available))
    }

    /// Changes a product and its stock; `token` must come from its lock. Returns what it is then,
    /// nothing for one that was deleted.
    ///
    /// # Errors
    /// The rule that is broken, [`LedgerError::StaleToken`], or when the database fails; in every
    /// case nothing was changed, but for a connection lost during the commit.
    pub async fn change(
        &self,
        change: &ProductChange,
        token: i64,
    ) -> Result<Option<Product>, LedgerError> {
        bounded(async { either!(self, ledger => ledger.change(change, token)) }).await
    }
}
