//! A transaction whose connection goes back to the pool only after the database has confirmed its
//! end.
//!
//! A future can be dropped at any `await`: a lease ends, a timeout passes, a client hangs up.
//! Whether the transaction has begun or ended by then is unknown, so the connection is closed, and
//! the database ends the transaction with it. sqlx's own guard does not do that: when `begin` is
//! dropped before the server's answer, it returns the connection to the pool inside the transaction.

use std::ops::{Deref, DerefMut};

use sqlx::pool::PoolConnection;
use sqlx::{Database, Executor, Pool};

use crate::error::LedgerError;

/// The only way to begin a transaction in the ledger: clippy forbids sqlx's own.
#[derive(Debug)]
pub(crate) struct Transaction<DB: Database> {
    connection: PoolConnection<DB>,
    /// The database has confirmed the commit or the rollback.
    ended: bool,
}

impl<DB: Database> Transaction<DB>
where
    for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
{
    /// Begins a transaction with the statement that its database has for this.
    pub(crate) async fn begin(
        pool: &Pool<DB>,
        statement: &'static str,
    ) -> Result<Self, LedgerError> {
        Ok(Self::begin_on(pool.acquire().await?, statement).await?)
    }

    /// As [`Self::begin`], over a connection that the caller has.
    pub(crate) async fn begin_on(
        connection: PoolConnection<DB>,
        statement: &'static str,
    ) -> sqlx::Result<Self> {
        let mut this = Self { connection, ended: false };
        this.connection.execute(statement).await?;
        Ok(this)
    }

    /// Commits what succeeded, and rolls back what did not.
    pub(crate) async fn end<T, E: From<sqlx::Error>>(
        mut self,
        result: Result<T, E>,
    ) -> Result<T, E> {
        match result {
            Ok(value) => {
                self.connection.execute("COMMIT").await?;
                self.ended = true;
                Ok(value)
            }
            Err(error) => {
                // The reason for the rollback matters more to the caller than its failure.
                self.ended = self.connection.execute("ROLLBACK").await.is_ok();
                Err(error)
            }
        }
    }
}

impl<DB: Database> Deref for Transaction<DB> {
    type Target = DB::Connection;

    fn deref(&self) -> &DB::Connection {
        &self.connection
    }
}

impl<DB: Database> DerefMut for Transaction<DB> {
    fn deref_mut(&mut self) -> &mut DB::Connection {
        &mut self.connection
    }
}

impl<DB: Database> Drop for Transaction<DB> {
    fn drop(&mut self) {
        if !self.ended {
            self.connection.close_on_drop();
        }
    }
}
