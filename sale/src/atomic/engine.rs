//! What the parts of the engine share: the connection, and which stocks may be sold from.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use ledger::Ledger;
use redis::aio::MultiplexedConnection;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tracing::{info, warn};

use super::error::ReconcileError;
use super::link;
use super::script::Scripts;
use super::sold::Sold;
use super::stream_ends::StreamEnds;
use crate::catalog::Catalog;
use crate::observer::Observer;

/// What the workers, the reconciler and the recorder share.
#[derive(Debug)]
pub(crate) struct AtomicEngine {
    pub(crate) ledger: Ledger,
    pub(crate) redlock: redlock::Redlock,
    pub(crate) policy: redlock::Policy,
    pub(crate) client: redis::Client,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) observer: Arc<dyn Observer>,
    pub(crate) scripts: Scripts,
    pub(crate) sold: Sold,
    pub(crate) ready: watch::Sender<Ready>,
    pub(crate) stream_ends: StreamEnds,
    /// Wakes the reconciler before its time.
    pub(crate) look: Notify,
    /// Redis refused the last purchase, and that was told.
    pub(crate) refuses: AtomicBool,
}

/// From what this replica may sell now.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ready {
    pub(crate) connection: Option<MultiplexedConnection>,
    /// Counts the connections.
    pub(crate) generation: u64,
    /// By product.
    pub(crate) incarnations: HashMap<String, i64>,
}

impl AtomicEngine {
    /// The connection and incarnation to sell a product with; `None`: not before the deadline.
    pub(crate) async fn ready_for(
        &self,
        product_id: &str,
        deadline: Instant,
    ) -> Option<(MultiplexedConnection, u64, i64)> {
        let mut ready = self.ready.subscribe();
        let there = |ready: &Ready| {
            ready.connection.is_some() && ready.incarnations.contains_key(product_id)
        };
        let ready = tokio::time::timeout_at(deadline, ready.wait_for(there)).await.ok()?.ok()?;
        let incarnation = *ready.incarnations.get(product_id)?;
        Some((ready.connection.clone()?, ready.generation, incarnation))
    }

    /// Nothing is sold over this connection any more.
    pub(crate) fn lost(&self, generation: u64, error: &redis::RedisError) {
        let lost = self.ready.send_if_modified(|ready| {
            let is_it = ready.generation == generation && ready.connection.is_some();
            if is_it {
                ready.connection = None;
                ready.incarnations.clear();
            }
            is_it
        });
        if lost {
            warn!(%error, "the Redis node that decides is lost");
            self.look.notify_one();
        }
    }

    /// Nothing is sold from this stock until the reconciler has looked at it.
    pub(crate) fn unfit(&self, product_id: &str, incarnation: i64) {
        self.ready.send_if_modified(|ready| {
            let is_it = ready.incarnations.get(product_id) == Some(&incarnation);
            if is_it {
                ready.incarnations.remove(product_id);
            }
            is_it
        });
        self.look.notify_one();
    }

    /// The connection there is, or a new one.
    pub(crate) async fn connected(&self) -> Result<(MultiplexedConnection, u64), ReconcileError> {
        let (connection, generation) = {
            let ready = self.ready.borrow();
            (ready.connection.clone(), ready.generation)
        };
        if let Some(connection) = connection {
            return Ok((connection, generation));
        }
        let connection = link::connect(&self.client, self.policy.wait_timeout).await?;
        let generation = generation + 1;
        self.ready.send_modify(|ready| {
            ready.connection = Some(connection.clone());
            ready.generation = generation;
            ready.incarnations.clear();
        });
        info!("connected to the Redis node that decides");
        Ok((connection, generation))
    }
}
