//! Statements on the database of a sale, past the app.

use sqlx::{AssertSqlSafe, Connection, PgConnection, SqliteConnection};

/// Executes statements on a connection of its own. Returns how many rows changed.
pub async fn execute(url: &str, statements: &str) -> Result<u64, sqlx::Error> {
    let statements = sqlx::raw_sql(AssertSqlSafe(statements.to_owned()));
    if url.starts_with("sqlite") {
        let mut connection = SqliteConnection::connect(url).await?;
        let done = statements.execute(&mut connection).await?;
        connection.close().await?;
        Ok(done.rows_affected())
    } else {
        let mut connection = PgConnection::connect(url).await?;
        let done = statements.execute(&mut connection).await?;
        connection.close().await?;
        Ok(done.rows_affected())
    }
}

/// The first column of what a statement reads, as text.
pub async fn query(url: &str, statement: &str) -> Result<Vec<Option<String>>, sqlx::Error> {
    let statement = AssertSqlSafe(statement.to_owned());
    if url.starts_with("sqlite") {
        let mut connection = SqliteConnection::connect(url).await?;
        sqlx::query_scalar(statement).fetch_all(&mut connection).await
    } else {
        let mut connection = PgConnection::connect(url).await?;
        sqlx::query_scalar(statement).fetch_all(&mut connection).await
    }
}
