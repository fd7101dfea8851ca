//! The statements of events on both databases.

use sqlx::{PgConnection, SqliteConnection};
use uuid::Uuid;
use uuid::fmt::Hyphenated;

use super::millis;
use super::sql;
use super::types::{
    DeadEvent, DeadSearch, EventOrder, Failure, OrderEvent, Replay, Sink, SinkCounts, SinkStatus,
};
use crate::audit_entry::{AuditEntry, AuditStatements};
use crate::error::LedgerError;
use crate::money::Price;
use crate::orders::OrderLine;
use crate::postgres::PostgresLedger;
use crate::sqlite::SqliteLedger;
use crate::transaction::Transaction;

/// A line of an event's order, in the order of the columns in `sql.rs`.
type Row<Id> = (
    i64,
    Id,
    String,
    i64,
    i64,
    String,
    String,
    i64,
    Option<String>,
    Option<i64>,
    Option<i64>,
    Option<String>,
    Option<String>,
    bool,
);

type DeadRow<Id> = (i64, String, Id, String, i64, i64, String, i64);

/// Puts the lines of each event together.
fn events<Id: Into<Uuid>>(rows: Vec<Row<Id>>) -> Vec<OrderEvent> {
    let mut events = Vec::<OrderEvent>::new();
    for row in rows {
        let (number, id, state, at_ms, attempts, buyer, product_id, quantity, ..) = row;
        let (
            ..,
            payment_reference,
            expires_at_ms,
            unit_price,
            currency,
            refund_reference,
            units_back,
        ) = row;
        let line = OrderLine { product_id, quantity };
        let price = Price::of_columns(unit_price, currency.as_deref());
        match events.last_mut() {
            Some(last) if last.number == number => {
                last.order.lines.push(line);
                last.order.prices.push(price);
            }
            _ => {
                let order = EventOrder {
                    id: id.into(),
                    buyer,
                    lines: vec![line],
                    prices: vec![price],
                    payment_reference,
                    expires_at_ms,
                    refund_reference,
                    units_back,
                };
                events.push(OrderEvent { number, state, at_ms, attempts, order });
            }
        }
    }
    events
}

fn dead_event<Id: Into<Uuid>>(row: DeadRow<Id>) -> DeadEvent {
    let (number, sink, order_id, state, at_ms, attempts, error, dead_at_ms) = row;
    let order_id = order_id.into();
    DeadEvent { number, sink, order_id, state, at_ms, attempts, error, dead_at_ms }
}

/// As the tables have them, with a blank before and behind each.
fn states(sink: &Sink) -> Option<String> {
    (!sink.states.is_empty()).then(|| format!(" {} ", sink.states.join(" ")))
}

/// The list of numbers of `DELIVERED`.
fn json(numbers: &[i64]) -> String {
    serde_json::json!(numbers).to_string()
}

/// One text for two types of connection, as in `change.rs`.
macro_rules! statements {
    ($ledger:ty, $connection:ty, $read:ident, $write:ident, $id:ty, $to_id:expr, $list:expr, $sql:ident, $begin:expr, $failed_first:ident, $replayed:ident, $kept:ident) => {
        impl $ledger {
            pub(super) async fn keep_sinks(
                &self,
                sinks: &[Sink],
                unused: i64,
            ) -> Result<(), LedgerError> {
                let mut transaction = self.begin().await?;
                let kept = $kept(&mut transaction, sinks, unused).await;
                transaction.end(kept).await
            }

            pub(super) async fn lead_delivery(
                &self,
                owner: &str,
                lease: i64,
            ) -> Result<bool, LedgerError> {
                let lead = sqlx::query(sql::$sql::LEAD).bind(owner).bind(lease);
                Ok(lead.execute(&self.$write).await?.rows_affected() == 1)
            }

            pub(super) async fn leave_delivery(&self, owner: &str) -> Result<(), LedgerError> {
                sqlx::query(sql::LEAVE).bind(owner).execute(&self.$write).await?;
                Ok(())
            }

            pub(super) async fn new_events(
                &self,
                sink: &str,
                limit: i64,
            ) -> Result<Vec<OrderEvent>, LedgerError> {
                let mut transaction = Transaction::begin(&self.$read, $begin).await?;
                let read = sqlx::query_as(sql::NEW_EVENTS).bind(sink).bind(limit);
                let rows = read.fetch_all(&mut *transaction).await;
                let rows: Vec<Row<$id>> = transaction.end(rows).await?;
                Ok(events(rows))
            }

            pub(super) async fn due_events(
                &self,
                sink: &str,
                limit: i64,
            ) -> Result<Vec<OrderEvent>, LedgerError> {
                let mut transaction = Transaction::begin(&self.$read, $begin).await?;
                let read = sqlx::query_as(sql::$sql::DUE_EVENTS).bind(sink).bind(limit);
                let rows = read.fetch_all(&mut *transaction).await;
                let rows: Vec<Row<$id>> = transaction.end(rows).await?;
                Ok(events(rows))
            }

            /// Twice is once: a part that fails is tried again with all of them.
            pub(super) async fn delivered(
                &self,
                sink: &str,
                numbers: &[i64],
            ) -> Result<(), LedgerError> {
                for statement in sql::$sql::DELIVERED {
                    let delete = sqlx::query(statement).bind(sink).bind($list(numbers));
                    delete.execute(&self.$write).await?;
                }
                Ok(())
            }

            pub(super) async fn attempt_failed(
                &self,
                sink: &str,
                failure: &Failure,
            ) -> Result<(), LedgerError> {
                let again = sqlx::query(sql::$sql::FAILED_AGAIN)
                    .bind(sink)
                    .bind(failure.number)
                    .bind(millis(failure.retry_in))
                    .bind(&failure.error)
                    .bind(millis(failure.give_up_after));
                if again.execute(&self.$write).await?.rows_affected() == 1 {
                    return Ok(());
                }
                let mut transaction = self.begin().await?;
                let failed = $failed_first(&mut transaction, sink, failure).await;
                match transaction.end(failed).await {
                    // Delivered meanwhile, by a replica that has taken over.
                    Err(LedgerError::Database(sqlx::Error::RowNotFound)) => Ok(()),
                    ended => ended,
                }
            }

            pub(super) async fn retry_now(&self, sink: &str) -> Result<(), LedgerError> {
                sqlx::query(sql::$sql::RETRY_NOW).bind(sink).execute(&self.$write).await?;
                Ok(())
            }

            pub(super) async fn disable_sink(&self, sink: &str) -> Result<(), LedgerError> {
                sqlx::query(sql::$sql::DISABLE).bind(sink).execute(&self.$write).await?;
                Ok(())
            }

            pub(super) async fn enable_sink(
                &self,
                sink: &str,
                actor: &str,
            ) -> Result<bool, LedgerError> {
                let mut transaction = self.begin().await?;
                let enabled = async {
                    let begin_again = sqlx::query(sql::$sql::BEGIN_AGAIN).bind(sink);
                    begin_again.execute(&mut *transaction).await?;
                    let enable = sqlx::query(sql::ENABLE).bind(sink);
                    if enable.execute(&mut *transaction).await?.rows_affected() == 0 {
                        return Ok(false);
                    }
                    let entry = AuditEntry::new(actor, "enable_event_sink", sink, None);
                    transaction.record(&entry).await?;
                    Ok(true)
                }
                .await;
                transaction.end(enabled).await
            }

            pub(super) async fn sinks(&self) -> Result<Vec<SinkStatus>, LedgerError> {
                Ok(sqlx::query_as(sql::SINKS).fetch_all(&self.$read).await?)
            }

            pub(super) async fn sink_counts(&self) -> Result<Vec<SinkCounts>, LedgerError> {
                Ok(sqlx::query_as(sql::$sql::COUNTS).fetch_all(&self.$read).await?)
            }

            pub(super) async fn dead_events(
                &self,
                search: &DeadSearch,
            ) -> Result<Vec<DeadEvent>, LedgerError> {
                let read = sqlx::query_as(sql::DEAD_EVENTS)
                    .bind(search.after)
                    .bind(&search.sink)
                    .bind(search.limit);
                let rows: Vec<DeadRow<$id>> = read.fetch_all(&self.$read).await?;
                Ok(rows.into_iter().map(dead_event).collect())
            }

            pub(super) async fn replay(
                &self,
                replay: &Replay,
                actor: &str,
            ) -> Result<u64, LedgerError> {
                let mut transaction = self.begin().await?;
                let replayed = $replayed(&mut transaction, replay, actor).await;
                transaction.end(replayed).await
            }
        }

        async fn $kept(
            connection: &mut $connection,
            sinks: &[Sink],
            unused: i64,
        ) -> Result<(), LedgerError> {
            for sink in sinks {
                let keep = sqlx::query(sql::$sql::KEEP_SINK).bind(sink.name).bind(states(sink));
                keep.execute(&mut *connection).await?;
            }
            let forget = sqlx::query(sql::$sql::FORGET_SINKS).bind(unused);
            if forget.execute(&mut *connection).await?.rows_affected() > 0 {
                for statement in sql::FORGET_EVENTS {
                    sqlx::query(statement).execute(&mut *connection).await?;
                }
            }
            Ok(())
        }

        async fn $failed_first(
            connection: &mut $connection,
            sink: &str,
            failure: &Failure,
        ) -> Result<(), LedgerError> {
            let copy = sqlx::query(sql::$sql::FAILED_FIRST)
                .bind(sink)
                .bind(failure.number)
                .bind(millis(failure.retry_in))
                .bind(&failure.error);
            copy.execute(&mut *connection).await?;
            let delete = sqlx::query(sql::FAILED_FIRST_MOVED).bind(sink).bind(failure.number);
            if delete.execute(&mut *connection).await?.rows_affected() == 0 {
                return Err(LedgerError::Database(sqlx::Error::RowNotFound));
            }
            Ok(())
        }

        async fn $replayed(
            connection: &mut $connection,
            replay: &Replay,
            actor: &str,
        ) -> Result<u64, LedgerError> {
            let (statement, target) = match replay {
                Replay::One(order, number) => {
                    let one = sqlx::query(sql::$sql::REPLAY_ONE).bind($to_id(*order)).bind(*number);
                    (one, format!("{order}-{number}"))
                }
                Replay::All(sink) => {
                    (sqlx::query(sql::$sql::REPLAY_ALL).bind(sink), sink.clone())
                }
            };
            let replayed = statement.execute(&mut *connection).await?.rows_affected();
            if replayed > 0 {
                let detail = serde_json::json!({"events": replayed});
                let entry = AuditEntry::new(actor, "replay_events", &target, Some(detail));
                connection.record(&entry).await?;
            }
            Ok(replayed)
        }
    };
}

statements!(
    PostgresLedger,
    PgConnection,
    pool,
    pool,
    Uuid,
    std::convert::identity::<Uuid>,
    <[i64]>::to_vec,
    postgres,
    sql::READ_ON_POSTGRES,
    failed_first_on_postgres,
    replayed_on_postgres,
    kept_on_postgres
);
statements!(
    SqliteLedger,
    SqliteConnection,
    readers,
    writer,
    Hyphenated,
    Uuid::hyphenated,
    json,
    sqlite,
    sql::READ_ON_SQLITE,
    failed_first_on_sqlite,
    replayed_on_sqlite,
    kept_on_sqlite
);
