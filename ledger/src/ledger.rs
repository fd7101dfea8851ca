//! The entry point: each call goes to PostgreSQL or to SQLite.

use crate::calls::bounded;
use crate::change::{ProductChange, ProductDeclaration};
use crate::error::LedgerError;
use crate::postgres::{self, PostgresLedger};
use crate::sqlite::{self, SqliteLedger};
use crate::types::{Account, Product};

/// A ledger in the database that the URL names.
#[derive(Debug, Clone)]
pub enum Ledger {
    /// `postgres://` or `postgresql://`
    Postgres(PostgresLedger),
    /// `sqlite:`
    Sqlite(SqliteLedger),
}

/// Calls the method of the same name on the database in use.
macro_rules! either {
    ($self:ident, $ledger:ident => $call:expr) => {
        match $self {
            Ledger::Postgres($ledger) => $call.await,
            Ledger::Sqlite($ledger) => $call.await,
        }
    };
}
pub(crate) use either;

impl Ledger {
    /// Reads the URL; connects in the background or at the first use. All connections to PostgreSQL stay
    /// open, so `max_connections` should be what the process uses.
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
    pub(crate) fn newest_migration(&self) -> i64 {
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

    /// The account of that name, ignoring case. Old databases may hold several spellings of a name: an
    /// exact match wins, and every other spelling means the oldest account.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn account(&self, id: &str) -> Result<Option<Account>, LedgerError> {
        bounded(async { either!(self, ledger => ledger.account(id)) }).await
    }

    /// Changes the password of an administrator's account; a buyer's account is left alone.
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

    /// Changes a product and its stock; `token` is the fencing token of its lock. Returns the product after
    /// the change, `None` after a deletion.
    ///
    /// # Errors
    /// The rule that is broken, [`LedgerError::StaleToken`], or when the database fails; in every
    /// case nothing was changed, but for a connection lost during the commit.
    pub async fn change(
        &self,
        change: &ProductChange,
        token: i64,
    ) -> Result<Option<Product>, LedgerError> {
        self.change_as(change, token, None).await
    }

    /// As [`Ledger::change`]; `actor`: the administrator who does it, for the audit log.
    ///
    /// # Errors
    /// As [`Ledger::change`].
    pub async fn change_as(
        &self,
        change: &ProductChange,
        token: i64,
        actor: Option<&str>,
    ) -> Result<Option<Product>, LedgerError> {
        bounded(async { either!(self, ledger => ledger.change(change, token, actor)) }).await
    }
}
