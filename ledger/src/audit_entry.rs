//! An entry of the audit log, and how it is written within the transaction of a change.

use serde_json::Value;
use sqlx::{PgConnection, SqliteConnection};
use uuid::Uuid;

use crate::error::LedgerError;

/// What an administrator did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    /// In order of time.
    pub id: Uuid,
    /// The administrator.
    pub actor: String,
    /// Such as `restock_product`.
    pub action: String,
    /// The id of what it was done to.
    pub target: String,
    /// What the action was given.
    pub detail: Option<Value>,
}

impl AuditEntry {
    /// An entry of now.
    #[must_use]
    pub fn new(actor: &str, action: &str, target: &str, detail: Option<Value>) -> Self {
        Self {
            id: Uuid::now_v7(),
            actor: actor.to_owned(),
            action: action.to_owned(),
            target: target.to_owned(),
            detail,
        }
    }

    fn detail_text(&self) -> Option<String> {
        self.detail.as_ref().map(Value::to_string)
    }
}

const RECORD: &str =
    "INSERT INTO audit_log (id, actor, action, target, detail) VALUES ($1, $2, $3, $4, $5)";

/// A connection that can log, within the transaction of the change.
pub(crate) trait AuditStatements {
    async fn record(&mut self, entry: &AuditEntry) -> Result<(), LedgerError>;
}

impl AuditStatements for PgConnection {
    async fn record(&mut self, entry: &AuditEntry) -> Result<(), LedgerError> {
        sqlx::query(RECORD)
            .bind(entry.id)
            .bind(&entry.actor)
            .bind(&entry.action)
            .bind(&entry.target)
            .bind(entry.detail_text())
            .execute(self)
            .await?;
        Ok(())
    }
}

impl AuditStatements for SqliteConnection {
    async fn record(&mut self, entry: &AuditEntry) -> Result<(), LedgerError> {
        sqlx::query(RECORD)
            .bind(entry.id.hyphenated())
            .bind(&entry.actor)
            .bind(&entry.action)
            .bind(&entry.target)
            .bind(entry.detail_text())
            .execute(self)
            .await?;
        Ok(())
    }
}
