//! Sends the events of one sink: many orders at a time, and each order's events one after the other.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use jiff::Timestamp;
use ledger::events::{Failure, OrderEvent};
use ledger::{Ledger, LedgerError};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::{info, warn};
use uuid::Uuid;

use super::attempt::AttemptError;
use super::backoff::{Breaker, retry_in};
use super::sink::SinkClient;
use crate::metrics::EventMetrics;

/// How often the ledger is asked for events, and what was delivered is deleted.
const POLL: Duration = Duration::from_millis(50);
/// Events under way at the same time.
const AT_ONCE: usize = 128;
/// Delivered events that are deleted together, without waiting for the next poll.
const REPORT: usize = 64;
/// How often it is read whether the sink is disabled.
const STATUS: Duration = Duration::from_secs(1);
/// How long after its first failed attempt an event is given up.
const GIVE_UP_AFTER: Duration = Duration::from_hours(72);

type Sending<'a> = FuturesUnordered<BoxFuture<'a, (OrderEvent, Result<(), AttemptError>)>>;

/// Whether the sink gets events.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    Enabled,
    /// Until an administrator enables it, or because that is not known yet.
    Disabled,
    /// It answered 410, and the ledger does not know it yet.
    Gone,
}

/// When all failed events become due, whatever their own pauses.
#[derive(Clone, Copy, PartialEq, Eq)]
enum RetryAll {
    /// When an event is taken: the sink may have been away while another replica delivered.
    AtSuccess,
    /// The sink takes events again.
    Now,
    /// Each has its own pause.
    Not,
}

/// The events of a sink, at the replica that delivers.
pub(super) struct Queue<'a> {
    ledger: &'a Ledger,
    client: &'a SinkClient,
    metrics: &'a Arc<EventMetrics>,
    /// Orders with an event under way.
    busy: HashSet<Uuid>,
    /// What the ledger does not know yet. Before it does, no more events are read.
    delivered: Vec<i64>,
    failed: Vec<Failure>,
    standing: Standing,
    retry_all: RetryAll,
    breaker: Breaker,
    status_at: Option<Instant>,
    /// The last page was full: there may be more events.
    has_more: bool,
    /// A failure of the ledger was logged.
    is_failing: bool,
}

impl<'a> Queue<'a> {
    pub(super) fn new(
        ledger: &'a Ledger,
        client: &'a SinkClient,
        metrics: &'a Arc<EventMetrics>,
    ) -> Self {
        Self {
            ledger,
            client,
            metrics,
            busy: HashSet::new(),
            delivered: Vec::new(),
            failed: Vec::new(),
            standing: Standing::Disabled,
            retry_all: RetryAll::AtSuccess,
            breaker: Breaker::default(),
            status_at: None,
            has_more: false,
            is_failing: false,
        }
    }

    /// Sends events until the future is dropped.
    pub(super) async fn run(mut self) {
        let mut sending = Sending::new();
        let mut tick = interval(POLL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let mut is_time = false;
            tokio::select! {
                Some((event, result)) = sending.next() => self.ended(&event, result),
                _ = tick.tick() => is_time = true,
            }
            while let Some(Some((event, result))) = sending.next().now_or_never() {
                self.ended(&event, result);
            }
            let wants_more = self.has_more && self.busy.len() <= AT_ONCE / 2;
            if !is_time && !wants_more && self.delivered.len() < REPORT {
                continue;
            }
            match self.turn().await {
                Ok(events) => {
                    self.is_failing = false;
                    sending.extend(events.into_iter().map(|event| self.send(event)));
                }
                Err(error) => {
                    if !self.is_failing {
                        warn!(%error, sink = self.name(), "cannot read or report events; it is tried again");
                    }
                    (self.is_failing, self.has_more) = (true, false);
                }
            }
        }
    }

    fn name(&self) -> &'static str {
        self.client.sink.name
    }

    fn send(&self, event: OrderEvent) -> BoxFuture<'a, (OrderEvent, Result<(), AttemptError>)> {
        let client = self.client;
        Box::pin(async move {
            let result = client.send(&event).await;
            (event, result)
        })
    }

    /// Reports what was sent, and reads what is sent next.
    async fn turn(&mut self) -> Result<Vec<OrderEvent>, LedgerError> {
        self.report().await?;
        self.read_status().await?;
        let allowed = self.breaker.allowed(AT_ONCE, Instant::now());
        let room = allowed.saturating_sub(self.busy.len());
        self.has_more = false;
        if room == 0 || self.standing != Standing::Enabled {
            return Ok(Vec::new());
        }
        // Those under way are still there.
        let page = room + self.busy.len();
        let limit = i64::try_from(page).unwrap_or(i64::MAX);
        let mut events = self.ledger.due_events(self.name(), limit).await?;
        let new = self.ledger.new_events(self.name(), limit).await?;
        self.has_more = new.len() >= page && !self.breaker.is_away();
        events.extend(new);
        let mut next = Vec::new();
        for event in events {
            if next.len() < room && self.busy.insert(event.order.id) {
                next.push(event);
            }
        }
        Ok(next)
    }

    /// Takes over what came of an attempt.
    fn ended(&mut self, event: &OrderEvent, result: Result<(), AttemptError>) {
        self.busy.remove(&event.order.id);
        match result {
            Ok(()) => {
                let was_away = self.breaker.succeeded();
                if was_away {
                    info!(sink = self.name(), "the sink takes events again");
                }
                if was_away || self.retry_all == RetryAll::AtSuccess {
                    self.retry_all = RetryAll::Now;
                }
                self.delivered.push(event.number);
                let took = Timestamp::now().as_millisecond().saturating_sub(event.at_ms);
                let took = Duration::from_millis(took.try_into().unwrap_or(0));
                self.metrics.delivered(self.name(), took);
            }
            Err(error) if error.is_gone => {
                self.metrics.failed(self.name());
                self.standing = Standing::Gone;
            }
            Err(error) => {
                self.metrics.failed(self.name());
                let was_away = self.breaker.is_away();
                let is_first = event.attempts == 0;
                self.breaker.failed(is_first, error.retry_after, Instant::now());
                if self.breaker.is_away() && !was_away {
                    warn!(
                        sink = self.name(),
                        error = error.text,
                        "the sink takes no events; it is tried again with pauses"
                    );
                }
                let retry_in = retry_in(event.attempts).max(error.retry_after.unwrap_or_default());
                self.failed.push(Failure {
                    number: event.number,
                    error: error.text,
                    retry_in,
                    give_up_after: GIVE_UP_AFTER,
                });
            }
        }
    }

    /// Twice is once, so all of it is repeated if a part of it fails.
    async fn report(&mut self) -> Result<(), LedgerError> {
        self.ledger.delivered(self.name(), &self.delivered).await?;
        self.delivered.clear();
        while let Some(failure) = self.failed.last() {
            self.ledger.attempt_failed(self.name(), failure).await?;
            self.failed.pop();
        }
        if self.standing == Standing::Gone {
            self.ledger.disable_sink(self.name()).await?;
            warn!(
                sink = self.name(),
                "the sink answered 410: it gets no events until an administrator enables it"
            );
            self.standing = Standing::Disabled;
        }
        if self.retry_all == RetryAll::Now {
            self.ledger.retry_now(self.name()).await?;
            self.retry_all = RetryAll::Not;
        }
        Ok(())
    }

    async fn read_status(&mut self) -> Result<(), LedgerError> {
        let now = Instant::now();
        if self.status_at.is_some_and(|at| now < at) {
            return Ok(());
        }
        let sinks = self.ledger.sinks().await?;
        let ours = sinks.iter().find(|sink| sink.name == self.name());
        let is_enabled = ours.is_some_and(|sink| sink.disabled_at_ms.is_none());
        if self.standing != Standing::Gone {
            self.standing = if is_enabled { Standing::Enabled } else { Standing::Disabled };
        }
        self.status_at = Some(now + STATUS);
        Ok(())
    }
}
