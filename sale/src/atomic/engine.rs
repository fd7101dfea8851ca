//! The shared state of the engine: the connection, and the stocks that may be sold from.

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
use super::stream_ends::StreamEndsCache;
use super::unrecorded::UnrecordedOrders;
use crate::catalog::Catalog;
use crate::observer::Observer;

/// Shared by the workers, the reconciler, the recorder and the filler.
#[derive(Debug)]
pub(crate) struct AtomicEngine {
    pub(crate) ledger: Ledger,
    pub(crate) redlock: redlock::Redlock,
    pub(crate) policy: redlock::Policy,
    pub(crate) endpoint: redlock::Endpoint,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) observer: Arc<dyn Observer>,
    pub(crate) scripts: Scripts,
    pub(crate) unrecorded: UnrecordedOrders,
    pub(crate) ready: watch::Sender<Ready>,
    pub(crate) stream_ends: StreamEndsCache,
    /// Wakes the reconciler before its next run is due.
    pub(crate) wakeup: Notify,
    /// Redis refused the last purchase, and the refusal was logged.
    pub(crate) refusal_logged: AtomicBool,
}

/// The connection and the stocks that this replica may sell from now.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ready {
    pub(crate) connection: Option<MultiplexedConnection>,
    /// The number of connections so far.
    pub(crate) generation: u64,
    /// The incarnation of each product's stock.
    pub(crate) incarnations: HashMap<String, i64>,
}

impl AtomicEngine {
    /// Waits for the connection and the incarnation to sell a product with; `None` at the deadline.
    pub(crate) async fn ready_for(
        &self,
        product_id: &str,
        deadline: Instant,
    ) -> Option<(MultiplexedConnection, u64, i64)> {
        let mut ready = self.ready.subscribe();
        let is_ready = |ready: &Ready| {
            ready.connection.is_some() && ready.incarnations.contains_key(product_id)
        };
        let ready = tokio::time::timeout_at(deadline, ready.wait_for(is_ready)).await.ok()?.ok()?;
        let incarnation = *ready.incarnations.get(product_id)?;
        Some((ready.connection.clone()?, ready.generation, incarnation))
    }

    /// Stops selling over this connection.
    pub(crate) fn drop_connection(&self, generation: u64, error: &redis::RedisError) {
        let lost = self.ready.send_if_modified(|ready| {
            let is_current = ready.generation == generation && ready.connection.is_some();
            if is_current {
                ready.connection = None;
                ready.incarnations.clear();
            }
            is_current
        });
        if lost {
            warn!(%error, "lost the connection to the Redis node that decides");
            self.wakeup.notify_one();
        }
    }

    /// Stops selling from this stock until the reconciler has checked it.
    pub(crate) fn suspend(&self, product_id: &str, incarnation: i64) {
        self.ready.send_if_modified(|ready| {
            let is_current = ready.incarnations.get(product_id) == Some(&incarnation);
            if is_current {
                ready.incarnations.remove(product_id);
            }
            is_current
        });
        self.wakeup.notify_one();
    }

    /// The current connection, or a new one.
    pub(crate) async fn connected(&self) -> Result<(MultiplexedConnection, u64), ReconcileError> {
        let (connection, generation) = {
            let ready = self.ready.borrow();
            (ready.connection.clone(), ready.generation)
        };
        if let Some(connection) = connection {
            return Ok((connection, generation));
        }
        let connection = link::connect(&self.endpoint, self.policy.wait_timeout).await?;
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
