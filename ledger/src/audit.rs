//! The audit log: what administrators did. A change of the database is logged in its own transaction.

use serde_json::Value;
use sqlx::{Postgres, QueryBuilder, Sqlite};
use uuid::Uuid;
use uuid::fmt::Hyphenated;

use crate::audit_entry::{AuditEntry, AuditStatements};
use crate::calls::bounded;
use crate::error::LedgerError;
use crate::ledger::{Ledger, either};
use crate::postgres::PostgresLedger;
use crate::sqlite::SqliteLedger;

/// Selects entries; all that is given must apply.
#[derive(Debug, Clone, Default)]
pub struct AuditSearch {
    /// See [`AuditEntry::actor`].
    pub actor: Option<String>,
    /// See [`AuditEntry::action`].
    pub action: Option<String>,
    /// See [`AuditEntry::target`].
    pub target: Option<String>,
    /// The list begins after this entry.
    pub after: Option<Uuid>,
    /// The longest list.
    pub limit: i64,
}

type Row<Id> = (Id, String, String, String, Option<String>);

fn entry<Id: Into<Uuid>>((id, actor, action, target, detail): Row<Id>) -> AuditEntry {
    let detail = detail.map(|text| serde_json::from_str(&text).unwrap_or(Value::String(text)));
    AuditEntry { id: id.into(), actor, action, target, detail }
}

/// One text for two databases.
macro_rules! search {
    ($name:ident, $database:ty, $id:expr) => {
        fn $name(search: &AuditSearch) -> QueryBuilder<$database> {
            let columns = "SELECT id, actor, action, target, detail FROM audit_log WHERE 1 = 1";
            let mut query = QueryBuilder::new(columns);
            let names = [
                (" AND actor = ", &search.actor),
                (" AND action = ", &search.action),
                (" AND target = ", &search.target),
            ];
            for (column, name) in names {
                if let Some(name) = name {
                    query.push(column).push_bind(name.clone());
                }
            }
            if let Some(after) = search.after {
                query.push(" AND id < ").push_bind($id(after));
            }
            query.push(" ORDER BY id DESC LIMIT ").push_bind(search.limit);
            query
        }
    };
}

search!(search_on_postgres, Postgres, std::convert::identity::<Uuid>);
search!(search_on_sqlite, Sqlite, Uuid::hyphenated);

impl Ledger {
    /// Logs an action that changes nothing in the database.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn log(&self, entry: &AuditEntry) -> Result<(), LedgerError> {
        bounded(async { either!(self, ledger => ledger.log(entry)) }).await
    }

    /// The newest entries first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn audit_log(&self, search: &AuditSearch) -> Result<Vec<AuditEntry>, LedgerError> {
        bounded(async { either!(self, ledger => ledger.audit_log(search)) }).await
    }
}

impl PostgresLedger {
    async fn log(&self, entry: &AuditEntry) -> Result<(), LedgerError> {
        let mut connection = self.pool.acquire().await?;
        connection.record(entry).await
    }

    async fn audit_log(&self, search: &AuditSearch) -> Result<Vec<AuditEntry>, LedgerError> {
        let mut query = search_on_postgres(search);
        let rows: Vec<Row<Uuid>> = query.build_query_as().fetch_all(&self.pool).await?;
        Ok(rows.into_iter().map(entry).collect())
    }
}

impl SqliteLedger {
    async fn log(&self, entry: &AuditEntry) -> Result<(), LedgerError> {
        let mut connection = self.writer.acquire().await?;
        connection.record(entry).await
    }

    async fn audit_log(&self, search: &AuditSearch) -> Result<Vec<AuditEntry>, LedgerError> {
        let mut query = search_on_sqlite(search);
        let rows: Vec<Row<Hyphenated>> = query.build_query_as().fetch_all(&self.readers).await?;
        Ok(rows.into_iter().map(entry).collect())
    }
}
