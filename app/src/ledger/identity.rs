//! Which database it is, and whether it lets us in.

use sqlx::error::DatabaseError;
use sqlx::migrate::MigrateError;

use super::{Ledger, LedgerError, bounded, either};

// PostgreSQL's `SQLSTATE`s.
const UNDEFINED_TABLE: &str = "42P01";
const NO_SUCH_DATABASE: &str = "3D000";
/// A class of them: `28000` and `28P01`.
const INVALID_AUTHORIZATION: &str = "28";

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
}

impl LedgerError {
    /// The server refuses this user, password or database: no second try helps.
    pub(crate) fn is_login_refused(&self) -> bool {
        let (Self::Database(error) | Self::Migration(MigrateError::Execute(error))) = self else {
            return false;
        };
        let code = error.as_database_error().and_then(DatabaseError::code);
        code.is_some_and(|code| code.starts_with(INVALID_AUTHORIZATION) || code == NO_SUCH_DATABASE)
    }
}

/// In PostgreSQL by its `SQLSTATE`; SQLite has one code for all that is wrong with a statement.
fn is_missing_table(error: &sqlx::Error) -> bool {
    let Some(error) = error.as_database_error() else { return false };
    error.code().is_some_and(|code| code == UNDEFINED_TABLE)
        || error.message().starts_with("no such table")
}
