//! Waits until earlier sales are in the database. For callers that ask for an order right after it was
//! made, at this replica or another.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use super::engine::AtomicEngine;
use super::keys::stream_key;
use super::stream_ends::{Ends, StreamEnds};

/// The longest wait. Recording takes some 60 ms.
const MAX_WAIT: Duration = Duration::from_millis(900);
/// How often Redis is asked. All waiting callers share the answer.
const POLL_EVERY: Duration = Duration::from_millis(20);

impl AtomicEngine {
    /// Waits until all earlier sales are recorded. False: some are not yet, or Redis does not answer.
    /// With an order's id, the wait ends as soon as this order cannot be among them.
    pub(crate) async fn await_recorded(&self, order: Option<Uuid>) -> bool {
        timeout(MAX_WAIT, async {
            let Some(sold) = self.stream_ends().await else { return false };
            let may_wait = |ends: &Ends| order.is_none_or(|order| ends.may_have(order));
            if !sold.values().any(may_wait) {
                return true;
            }
            loop {
                sleep(POLL_EVERY).await;
                let Some(waiting) = self.stream_ends().await else { return false };
                let recorded = |(product, sold): (&String, &Ends)| {
                    waiting.get(product).is_none_or(|waiting| waiting.first > sold.last)
                };
                if sold.iter().all(recorded) {
                    return true;
                }
            }
        })
        .await
        .unwrap_or(false)
    }

    /// The ends of the streams, read after this call began.
    async fn stream_ends(&self) -> Option<Arc<StreamEnds>> {
        let asked = Instant::now();
        let mut newest = self.stream_ends.newest.lock().await;
        if let Some((_, ends)) = newest.as_ref().filter(|(begun, _)| *begun >= asked) {
            return Some(Arc::clone(ends));
        }
        let mut connection = self.ready.borrow().connection.clone()?;
        let (begun, products) = (Instant::now(), self.catalog.ids());
        let streams = products.iter().map(|product| stream_key(product));
        let ids = self.scripts.stream_ends(&mut connection, streams).await.ok()?;
        let ends = products.into_iter().zip(ids).filter_map(|(product, (first, last, order))| {
            Some((product, Ends::read(&first, &last, &order)?))
        });
        let ends = Arc::new(ends.collect::<StreamEnds>());
        *newest = Some((begun, Arc::clone(&ends)));
        Some(ends)
    }
}
