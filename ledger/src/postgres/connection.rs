//! The connection of a sale's statement, and of a batch of orders. The pool pings a connection before it lends it; these
//! do not wait for that round trip, and repeat a statement whose connection turns out to be lost.

use sqlx::postgres::{PgArguments, PgPool, PgRow};
use sqlx::query::QueryAs;
use sqlx::{FromRow, Postgres};

use crate::error::LedgerError;
use crate::transaction::Transaction;

/// Begins a transaction.
pub(super) const BEGIN: &str = "BEGIN";

/// The connection was lost before the answer, so the statement may have been carried out.
pub(crate) type IsRepeated = bool;

/// Fetches all rows over a connection that answered a ping when it was returned. If that connection is
/// lost by now, the query is sent once more, over one that has just answered.
pub(crate) async fn fetch<'q, R>(
    pool: &PgPool,
    query: impl Fn() -> QueryAs<'q, Postgres, R, PgArguments>,
) -> Result<(Vec<R>, IsRepeated), LedgerError>
where
    R: for<'r> FromRow<'r, PgRow> + Send + Unpin,
{
    if let Some(mut connection) = pool.try_acquire() {
        match query().fetch_all(&mut *connection).await {
            Err(error) if is_lost(&error) => connection.close_on_drop(),
            rows => return Ok((rows?, false)),
        }
    } else {
        let mut connection = pool.acquire().await?;
        return Ok((query().fetch_all(&mut *connection).await?, false));
    }
    let mut connection = pool.acquire().await?;
    Ok((query().fetch_all(&mut *connection).await?, true))
}

/// Begins a transaction over a connection that answered a ping when it was returned. If it does not begin there, nothing
/// was done yet: it begins over one that has just answered.
pub(super) async fn begin(pool: &PgPool) -> Result<Transaction<Postgres>, LedgerError> {
    if let Some(connection) = pool.try_acquire()
        && let Ok(begun) = Transaction::begin_on(connection, BEGIN).await
    {
        return Ok(begun);
    }
    Transaction::begin(pool, BEGIN).await
}

/// Whether the server or the network has ended the connection.
fn is_lost(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) => true,
        // The session was terminated.
        sqlx::Error::Database(error) => error.code().is_some_and(|code| code.starts_with("57P0")),
        _ => false,
    }
}
