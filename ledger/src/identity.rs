//! Which database it is.

use crate::calls::bounded;
use crate::error::LedgerError;
use crate::ledger::{Ledger, either};

/// PostgreSQL's `SQLSTATE`.
const UNDEFINED_TABLE: &str = "42P01";

impl Ledger {
    /// Tells this database from every other: the moment at which its tables were made. A restored
    /// backup has that of its original. `None`: there are no tables.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn database_id(&self) -> Result<Option<String>, LedgerError> {
        let made = bounded(async { either!(self, ledger => ledger.tables_made_at()) }).await;
        match made {
            Err(LedgerError::Database(error)) if is_missing_table(&error) => Ok(None),
            made => made,
        }
    }

    /// The major version of PostgreSQL; `None`: the database is SQLite. Another major version cannot read its files.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn major_version(&self) -> Result<Option<i32>, LedgerError> {
        match self {
            Self::Postgres(ledger) => Ok(Some(bounded(ledger.version_number()).await? / 10_000)),
            Self::Sqlite(_) => Ok(None),
        }
    }
}

/// In PostgreSQL by its `SQLSTATE`; SQLite has one code for all that is wrong with a statement.
fn is_missing_table(error: &sqlx::Error) -> bool {
    let Some(error) = error.as_database_error() else { return false };
    error.code().is_some_and(|code| code == UNDEFINED_TABLE)
        || error.message().starts_with("no such table")
}
