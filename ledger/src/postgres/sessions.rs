//! Whether connections have sessions of their own. A pooler that lends a session for one transaction
//! only (PgBouncer's `pool_mode = transaction`) mixes up what belongs to a connection: prepared
//! statements, `SET`, advisory locks.

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::time::timeout;

use crate::calls::CALL_TIMEOUT;
use crate::error::{LedgerError, UnusableDatabase};

/// Connects; refuses a pooler that shares sessions.
pub(crate) async fn connect(options: &PgConnectOptions) -> Result<PgConnection, LedgerError> {
    let connecting = async {
        let mut connection = PgConnection::connect_with(options).await?;
        let mut other = PgConnection::connect_with(options).await?;
        let shared = share_sessions(&mut connection, &mut other).await?;
        other.close().await?;
        if shared { Err(UnusableDatabase::SharedSessions.into()) } else { Ok(connection) }
    };
    timeout(CALL_TIMEOUT, connecting).await.unwrap_or(Err(LedgerError::TimedOut(CALL_TIMEOUT)))
}

/// A pooler that lends its sessions in turn gives one connection two of them in a row; one that
/// lends what came back last gives both connections the same.
async fn share_sessions(one: &mut PgConnection, other: &mut PgConnection) -> sqlx::Result<bool> {
    let first = session(one, "").await?;
    let second = session(one, "").await?;
    // It keeps its session until the end of the transaction.
    let others = session(other, "BEGIN;").await?;
    let third = session(one, "").await?;
    session(other, "ROLLBACK;").await?;
    Ok(first != second || second != third || others == first)
}

/// The process that serves the connection. By the simple protocol: a prepared statement may be
/// another connection's.
async fn session(connection: &mut PgConnection, before: &'static str) -> sqlx::Result<i32> {
    let statements = format!("{before} SELECT pg_backend_pid()");
    let row = sqlx::raw_sql(AssertSqlSafe(statements)).fetch_one(connection).await?;
    sqlx::Row::try_get(&row, 0)
}
