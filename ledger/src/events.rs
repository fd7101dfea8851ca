//! Events of orders, for systems outside: the outbox and what became of each event.
//!
//! Triggers of the tables write an event for each sink in the transaction that changes an order. One replica
//! at a time reads and sends them. An event is deleted when its sink has it. After a failed attempt it moves to
//! `failed_events`, and later events of its order wait. An event that is given up is kept there as dead, for
//! an administrator.

mod databases;
mod sql;
mod types;

use std::time::Duration;

use uuid::Uuid;

pub use self::types::{
    BUYER_ERASED, DeadEvent, DeadSearch, EventOrder, Failure, OrderEvent, Replay, Sink, SinkCounts,
    SinkStatus,
};
use crate::calls::{COUNT_TIMEOUT, bounded, bounded_by};
use crate::error::LedgerError;
use crate::ledger::{Ledger, either};

impl Ledger {
    /// Writes that these sinks are in use. A sink that no replica has used for this long goes, with its events.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn keep_sinks(&self, sinks: &[Sink], unused: Duration) -> Result<(), LedgerError> {
        // Without sinks there is nothing to write, and nothing that others wait for.
        if sinks.is_empty() && self.sinks().await?.is_empty() {
            return Ok(());
        }
        let unused = millis(unused);
        bounded(async { either!(self, ledger => ledger.keep_sinks(sinks, unused)) }).await
    }

    /// Whether `owner` is the replica that delivers, for this long from now. Another one takes over when the time
    /// has passed.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn lead_delivery(&self, owner: Uuid, lease: Duration) -> Result<bool, LedgerError> {
        let (owner, lease) = (owner.to_string(), millis(lease));
        bounded(async { either!(self, ledger => ledger.lead_delivery(&owner, lease)) }).await
    }

    /// Lets another replica deliver at once.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn leave_delivery(&self, owner: Uuid) -> Result<(), LedgerError> {
        let owner = owner.to_string();
        bounded(async { either!(self, ledger => ledger.leave_delivery(&owner)) }).await
    }

    /// The first events of a sink that no attempt has failed for, by number. An order of which an earlier event
    /// has failed is left out.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn new_events(&self, sink: &str, limit: i64) -> Result<Vec<OrderEvent>, LedgerError> {
        bounded(async { either!(self, ledger => ledger.new_events(sink, limit)) }).await
    }

    /// Events of a sink whose next attempt is due: of each order the first one.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn due_events(&self, sink: &str, limit: i64) -> Result<Vec<OrderEvent>, LedgerError> {
        bounded(async { either!(self, ledger => ledger.due_events(sink, limit)) }).await
    }

    /// Deletes events that the sink has.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn delivered(&self, sink: &str, numbers: &[i64]) -> Result<(), LedgerError> {
        if numbers.is_empty() {
            return Ok(());
        }
        bounded(async { either!(self, ledger => ledger.delivered(sink, numbers)) }).await
    }

    /// Writes down a failed attempt, unless the event was delivered meanwhile.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn attempt_failed(&self, sink: &str, failure: &Failure) -> Result<(), LedgerError> {
        bounded(async { either!(self, ledger => ledger.attempt_failed(sink, failure)) }).await
    }

    /// Makes the next attempt of all failed events of a sink due: it takes events again.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn retry_now(&self, sink: &str) -> Result<(), LedgerError> {
        bounded(async { either!(self, ledger => ledger.retry_now(sink)) }).await
    }

    /// Stops sending to a sink until [`Ledger::enable_sink`].
    ///
    /// # Errors
    /// When the database fails.
    pub async fn disable_sink(&self, sink: &str) -> Result<(), LedgerError> {
        bounded(async { either!(self, ledger => ledger.disable_sink(sink)) }).await
    }

    /// Sends to a sink again, for the administrator `actor`, at first what waited: as if its first attempt was still to
    /// come. `false`: there is no such sink.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn enable_sink(&self, sink: &str, actor: &str) -> Result<bool, LedgerError> {
        bounded(async { either!(self, ledger => ledger.enable_sink(sink, actor)) }).await
    }

    /// All sinks, by name.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn sinks(&self) -> Result<Vec<SinkStatus>, LedgerError> {
        bounded(async { either!(self, ledger => ledger.sinks()) }).await
    }

    /// Counts the events of each sink.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn sink_counts(&self) -> Result<Vec<SinkCounts>, LedgerError> {
        bounded_by(COUNT_TIMEOUT, async { either!(self, ledger => ledger.sink_counts()) }).await
    }

    /// Events that were given up, by number.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn dead_events(&self, search: &DeadSearch) -> Result<Vec<DeadEvent>, LedgerError> {
        bounded(async { either!(self, ledger => ledger.dead_events(search)) }).await
    }

    /// Sends events that were given up again, for the administrator `actor`. Returns their number.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn replay(&self, replay: &Replay, actor: &str) -> Result<u64, LedgerError> {
        bounded_by(COUNT_TIMEOUT, async { either!(self, ledger => ledger.replay(replay, actor)) })
            .await
    }

    /// Events that no sink has yet and that were not given up.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn pending_events(&self) -> Result<i64, LedgerError> {
        Ok(self.sink_counts().await?.iter().map(|sink| sink.pending).sum())
    }
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}
