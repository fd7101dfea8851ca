//! Statements on the database of a sale, past the app.

use std::collections::HashMap;

use sqlx::{AssertSqlSafe, Connection, PgConnection, SqliteConnection};

use super::eventually;

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

/// The final state of each order, by its id.
pub async fn states(url: &str) -> HashMap<String, String> {
    let states = "SELECT CAST(id AS TEXT) || ' ' || coalesce(ended_as, state) FROM orders \
                  WHERE line = 0";
    eventually("the database answers", async || query(url, states).await.is_ok()).await;
    let rows = query(url, states).await.unwrap();
    let state = |row: String| {
        let (id, state) = row.split_once(' ').unwrap();
        (id.to_owned(), state.to_owned())
    };
    rows.into_iter().flatten().map(state).collect()
}

/// Waits until a receiver of events, `webhook` or `nats`, has taken all that are in the database.
pub async fn await_delivered(url: &str, sink: &str) {
    let left = format!(
        "SELECT 'left' FROM order_events WHERE sink = '{sink}' \
         UNION SELECT 'left' FROM failed_events WHERE sink = '{sink}'"
    );
    eventually(&format!("{sink} has all events"), async || {
        // An event that failed four times would pause for a minute.
        execute(url, "UPDATE failed_events SET retry_at_ms = 1").await.unwrap();
        query(url, &left).await.unwrap().is_empty()
    })
    .await;
}
