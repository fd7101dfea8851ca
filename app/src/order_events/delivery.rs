//! One replica at a time delivers, by a lease in the database.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use ledger::events::Sink;
use ledger::{Ledger, LedgerError};
use tokio::time::{Instant, sleep, timeout_at};
use tracing::{debug, warn};
use uuid::Uuid;

use super::cloud_event::source;
use super::config::EventsConfig;
use super::nats::Nats;
use super::queue::Queue;
use super::sink::SinkClient;
use super::webhook::Webhook;
use crate::metrics::EventMetrics;

/// How long another replica waits after the last sign of the one that delivers.
const LEASE: Duration = Duration::from_secs(3);
/// How often that one gives a sign, and others look for it.
const RENEW: Duration = Duration::from_millis(750);
/// How often the sinks are written down.
const KEEP_SINKS: Duration = Duration::from_mins(1);
/// A sink that no replica has had in its settings for this long is forgotten.
const UNUSED: Duration = Duration::from_hours(1);
const RETRY: Duration = Duration::from_secs(1);

/// A file of the settings cannot be used.
pub(crate) struct UnusableFile {
    pub(crate) setting: &'static str,
    pub(crate) error: io::Error,
}

/// Sends events to all sinks of this replica's settings, when it is its turn.
pub(crate) struct Delivery {
    ledger: Ledger,
    clients: Vec<SinkClient>,
    metrics: Arc<EventMetrics>,
    /// This process.
    owner: Uuid,
}

impl Delivery {
    /// # Errors
    /// When a file of the settings cannot be used.
    pub(crate) fn new(
        config: &EventsConfig,
        sale: &str,
        ledger: Ledger,
        metrics: Arc<EventMetrics>,
    ) -> Result<Self, UnusableFile> {
        let mut clients = Vec::new();
        if let Some(webhook) = &config.webhook {
            let client = Webhook::new(webhook.clone());
            let setting = "EVENTS_WEBHOOK_CA_FILE";
            let client = client.map_err(|error| UnusableFile { setting, error })?;
            clients.push(SinkClient::webhook(source(sale), webhook.states.clone(), client));
        }
        if let Some(nats) = &config.nats {
            let client = Nats::new(nats.clone());
            let setting = "EVENTS_NATS_CA_FILE";
            let client = client.map_err(|error| UnusableFile { setting, error })?;
            clients.push(SinkClient::nats(source(sale), nats.states.clone(), client));
        }
        Ok(Self { ledger, clients, metrics, owner: Uuid::new_v4() })
    }

    /// Has events written for all sinks. Orders that are made before have none.
    pub(crate) async fn keep_sinks(&self) -> Result<(), LedgerError> {
        let sinks: Vec<Sink> = self.clients.iter().map(|client| client.sink.clone()).collect();
        self.ledger.keep_sinks(&sinks, UNUSED).await
    }

    /// Writes the sinks down again and again, until the future is dropped. The first time is before the replica is
    /// ready, by [`Delivery::keep_sinks`].
    pub(crate) async fn keep_all_sinks(&self) {
        loop {
            sleep(KEEP_SINKS).await;
            while let Err(error) = self.keep_sinks().await {
                debug!(%error, "cannot write the sinks of events");
                sleep(RETRY).await;
            }
        }
    }

    /// Delivers whenever no other replica does, until the future is dropped.
    pub(crate) async fn deliver(&self) {
        if self.clients.is_empty() {
            return;
        }
        loop {
            let asked = Instant::now();
            if let Ok(true) = self.ledger.lead_delivery(self.owner, LEASE).await {
                debug!("this replica delivers the events");
                let queues = self.clients.iter();
                let queues = queues.map(|client| Queue::new(&self.ledger, client, &self.metrics));
                tokio::select! {
                    () = self.lead_until_lost(asked + LEASE) => {
                        warn!("the lease of the replica that delivers events was lost");
                    }
                    _ = join_all(queues.map(Queue::run)) => {}
                }
            }
            sleep(RENEW).await;
        }
    }

    /// Lets another replica deliver at once.
    pub(crate) async fn leave(&self) {
        if !self.clients.is_empty()
            && let Err(error) = self.ledger.leave_delivery(self.owner).await
        {
            debug!(%error, "the lease of the replica that delivers events ends by itself");
        }
    }

    /// Renews the lease as long as that is possible before its end.
    async fn lead_until_lost(&self, mut until: Instant) {
        loop {
            sleep(RENEW).await;
            let asked = Instant::now();
            match timeout_at(until, self.ledger.lead_delivery(self.owner, LEASE)).await {
                Ok(Ok(true)) => until = asked + LEASE,
                Ok(Err(error)) if asked < until => {
                    debug!(%error, "the lease was not renewed");
                }
                Ok(_) | Err(_) => return,
            }
        }
    }
}
