//! The signed events of payment services: each is applied once, and one that cannot be applied waits for an
//! administrator. So does a payment that an administrator reports and that no order takes.

use sqlx::{Postgres, QueryBuilder, Sqlite};
use uuid::Uuid;
use uuid::fmt::Hyphenated;

use crate::audit_entry::{AuditEntry, AuditStatements};
use crate::calls::bounded;
use crate::error::LedgerError;
use crate::ledger::{Ledger, either};
use crate::orders::now_ms;
use crate::postgres::PostgresLedger;
use crate::sqlite::SqliteLedger;

/// Outcomes after which an event is done.
const DONE: [&str; 2] = ["applied", "ignored"];

/// An event as it was delivered last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaymentEvent {
    /// In order of the first delivery.
    pub id: Uuid,
    /// Such as `stripe`; `report`: an administrator's token.
    pub provider: String,
    /// The service's own id of the event.
    pub event_id: String,
    /// The service's name of what happened.
    pub kind: String,
    /// The order that it is about, if it names one.
    pub order_id: Option<Uuid>,
    /// What the service calls the payment.
    pub reference: Option<String>,
    /// The amount that it reports, in the smallest unit of the currency.
    pub amount: Option<i64>,
    /// The code of its currency.
    pub currency: Option<String>,
    /// `applied`, `ignored`, or the code of the problem for which nothing was changed.
    pub outcome: String,
    /// When it was delivered last, in milliseconds since 1970.
    pub received_at_ms: i64,
    /// When an administrator resolved it, in milliseconds since 1970.
    pub resolved_at_ms: Option<i64>,
}

impl PaymentEvent {
    /// Whether another delivery changes nothing.
    #[must_use]
    pub fn is_done(&self) -> bool {
        DONE.contains(&self.outcome.as_str())
    }
}

/// Selects events; all that is given must apply.
#[derive(Debug, Clone, Default)]
pub struct PaymentSearch {
    /// Only those that could not be applied and that nobody has resolved.
    pub open_only: bool,
    /// The list begins after this event.
    pub after: Option<Uuid>,
    /// The longest list.
    pub limit: i64,
}

/// What waits for an administrator.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PaymentTotals {
    /// Events that could not be applied and that nobody has resolved.
    pub open_events: i64,
}

macro_rules! columns {
    () => {
        "id, provider, event_id, kind, order_id, reference, amount, currency, outcome, \
         received_at_ms, resolved_at_ms"
    };
}

/// The condition of the index `payment_events_refused`.
macro_rules! open {
    () => {
        "outcome NOT IN ('applied', 'ignored') AND resolved_at_ms IS NULL"
    };
}

const BY_EVENT: &str =
    concat!("SELECT ", columns!(), " FROM payment_events WHERE provider = $1 AND event_id = $2");

/// What was done once stays so. An event that came before its order could be found gets it with a later delivery.
const RECORD: &str = concat!(
    "INSERT INTO payment_events (",
    columns!(),
    ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, NULL) \
     ON CONFLICT (provider, event_id) DO UPDATE SET outcome = excluded.outcome, \
     order_id = coalesce(excluded.order_id, payment_events.order_id), \
     received_at_ms = excluded.received_at_ms \
     WHERE payment_events.outcome NOT IN ('applied', 'ignored')"
);

const RESOLVE: &str = concat!(
    "UPDATE payment_events SET resolved_at_ms = $2 WHERE id = $1 AND ",
    open!(),
    " RETURNING event_id"
);

const BY_ID: &str = concat!("SELECT ", columns!(), " FROM payment_events WHERE id = $1");

/// No index has the order: it reads all events.
const OF_BUYER: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM payment_events WHERE order_id IN (SELECT o.id FROM orders o WHERE o.buyer = $1) ORDER BY id"
);

/// The number of events that wait for an administrator.
pub(crate) const OPEN_EVENTS: &str = concat!("SELECT count(*) FROM payment_events WHERE ", open!());

#[derive(sqlx::FromRow)]
struct Row<Id> {
    id: Id,
    provider: String,
    event_id: String,
    kind: String,
    order_id: Option<Id>,
    reference: Option<String>,
    amount: Option<i64>,
    currency: Option<String>,
    outcome: String,
    received_at_ms: i64,
    resolved_at_ms: Option<i64>,
}

impl<Id: Into<Uuid>> From<Row<Id>> for PaymentEvent {
    fn from(row: Row<Id>) -> Self {
        Self {
            id: row.id.into(),
            provider: row.provider,
            event_id: row.event_id,
            kind: row.kind,
            order_id: row.order_id.map(Into::into),
            reference: row.reference,
            amount: row.amount,
            currency: row.currency,
            outcome: row.outcome,
            received_at_ms: row.received_at_ms,
            resolved_at_ms: row.resolved_at_ms,
        }
    }
}

impl Ledger {
    /// The event that this service delivered under this id before.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn payment_event(
        &self,
        provider: &str,
        event_id: &str,
    ) -> Result<Option<PaymentEvent>, LedgerError> {
        bounded(async { either!(self, ledger => ledger.payment_event(provider, event_id)) }).await
    }

    /// Records what became of an event; one that is done stays as it is.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn record_payment_event(&self, event: &PaymentEvent) -> Result<(), LedgerError> {
        bounded(async { either!(self, ledger => ledger.record_payment_event(event)) }).await
    }

    /// The newest events first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn payment_events(
        &self,
        search: &PaymentSearch,
    ) -> Result<Vec<PaymentEvent>, LedgerError> {
        bounded(async { either!(self, ledger => ledger.payment_events(search)) }).await
    }

    /// Marks an event as resolved, for the administrator `actor`. Returns the event, and whether this call did it;
    /// `None`: there is no such event, or it needs nobody.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn resolve_payment_event(
        &self,
        id: Uuid,
        actor: &str,
    ) -> Result<Option<(PaymentEvent, bool)>, LedgerError> {
        let (event, resolved) =
            bounded(async { either!(self, ledger => ledger.resolve_payment_event(id, actor)) })
                .await?;
        Ok(event.filter(|event| event.resolved_at_ms.is_some()).map(|event| (event, resolved)))
    }

    /// Counts what waits for an administrator, by an index.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn payment_totals(&self) -> Result<PaymentTotals, LedgerError> {
        bounded(async { either!(self, ledger => ledger.payment_totals()) }).await
    }
}

/// One text for two databases.
macro_rules! on {
    ($ledger:ty, $database:ty, $id:ty, $to_id:expr, $read:ident, $write:ident) => {
        impl $ledger {
            async fn payment_event(
                &self,
                provider: &str,
                event_id: &str,
            ) -> Result<Option<PaymentEvent>, LedgerError> {
                let event = sqlx::query_as(BY_EVENT).bind(provider).bind(event_id);
                let row: Option<Row<$id>> = event.fetch_optional(&self.$read).await?;
                Ok(row.map(Into::into))
            }

            async fn record_payment_event(&self, event: &PaymentEvent) -> Result<(), LedgerError> {
                sqlx::query(RECORD)
                    .bind($to_id(event.id))
                    .bind(&event.provider)
                    .bind(&event.event_id)
                    .bind(&event.kind)
                    .bind(event.order_id.map($to_id))
                    .bind(&event.reference)
                    .bind(event.amount)
                    .bind(&event.currency)
                    .bind(&event.outcome)
                    .bind(event.received_at_ms)
                    .execute(&self.$write)
                    .await?;
                Ok(())
            }

            async fn payment_events(
                &self,
                search: &PaymentSearch,
            ) -> Result<Vec<PaymentEvent>, LedgerError> {
                let all = concat!("SELECT ", columns!(), " FROM payment_events WHERE 1 = 1");
                let mut query = QueryBuilder::<$database>::new(all);
                if search.open_only {
                    query.push(concat!(" AND ", open!()));
                }
                if let Some(after) = search.after {
                    query.push(" AND id < ").push_bind($to_id(after));
                }
                query.push(" ORDER BY id DESC LIMIT ").push_bind(search.limit);
                let rows: Vec<Row<$id>> = query.build_query_as().fetch_all(&self.$read).await?;
                Ok(rows.into_iter().map(Into::into).collect())
            }

            /// The events about a buyer's orders, oldest first.
            pub(crate) async fn payment_events_of(
                &self,
                buyer: &str,
            ) -> Result<Vec<PaymentEvent>, LedgerError> {
                let events = sqlx::query_as(OF_BUYER).bind(buyer);
                let rows: Vec<Row<$id>> = events.fetch_all(&self.$read).await?;
                Ok(rows.into_iter().map(Into::into).collect())
            }

            async fn resolve_payment_event(
                &self,
                id: Uuid,
                actor: &str,
            ) -> Result<(Option<PaymentEvent>, bool), LedgerError> {
                let mut transaction = self.begin().await?;
                let resolved = async {
                    let resolve = sqlx::query_scalar(RESOLVE).bind($to_id(id)).bind(now_ms());
                    let event: Option<String> = resolve.fetch_optional(&mut *transaction).await?;
                    if let Some(event) = &event {
                        let entry = AuditEntry::new(actor, "resolve_payment", event, None);
                        transaction.record(&entry).await?;
                    }
                    let read = sqlx::query_as(BY_ID).bind($to_id(id));
                    let row: Option<Row<$id>> = read.fetch_optional(&mut *transaction).await?;
                    Ok::<_, LedgerError>((row.map(Into::into), event.is_some()))
                }
                .await;
                transaction.end(resolved).await
            }

            async fn payment_totals(&self) -> Result<PaymentTotals, LedgerError> {
                let open_events = sqlx::query_scalar(OPEN_EVENTS).fetch_one(&self.$read).await?;
                Ok(PaymentTotals { open_events })
            }
        }
    };
}

on!(PostgresLedger, Postgres, Uuid, std::convert::identity::<Uuid>, pool, pool);
on!(SqliteLedger, Sqlite, Hyphenated, Uuid::hyphenated, readers, writer);
