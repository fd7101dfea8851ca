//! Waits until what was sold is in the database as well, for callers who ask for an order right after
//! it was made: at this replica or another.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use super::engine::AtomicEngine;
use super::keys::stream_key;
use super::stream_ends::{Ends, EntryId};

/// How long it is waited for; recording takes some 60 ms.
const WAIT: Duration = Duration::from_millis(900);
/// How often Redis is asked. All who wait share the answer.
const STEP: Duration = Duration::from_millis(20);
/// By how much the clocks of a replica and of Redis may differ, in ms.
const CLOCKS: u64 = 60_000;

impl AtomicEngine {
    /// Waits until all that was sold before is recorded. False: it is not yet, or Redis does not tell.
    /// With an order's id it is enough that this order cannot wait any more.
    pub(crate) async fn await_recorded(&self, order: Option<Uuid>) -> bool {
        timeout(WAIT, async {
            let Some(sold) = self.ends().await else { return false };
            let may_wait = |(first, _): &(EntryId, EntryId)| match order {
                Some(id) => made_at(id).is_some_and(|made| made + CLOCKS >= first.0),
                None => true,
            };
            if !sold.values().any(may_wait) {
                return true;
            }
            loop {
                sleep(STEP).await;
                let Some(waiting) = self.ends().await else { return false };
                let recorded = |(product, (_, last)): (&String, &(EntryId, EntryId))| {
                    waiting.get(product).is_none_or(|(first, _)| first > last)
                };
                if sold.iter().all(recorded) {
                    return true;
                }
            }
        })
        .await
        .unwrap_or(false)
    }

    /// What waits to be recorded now, or a little later.
    async fn ends(&self) -> Option<Arc<Ends>> {
        let asked = Instant::now();
        let mut newest = self.stream_ends.newest.lock().await;
        if let Some((_, ends)) = newest.as_ref().filter(|(begun, _)| *begun >= asked) {
            return Some(Arc::clone(ends));
        }
        let mut connection = self.ready.borrow().connection.clone()?;
        let (begun, products) = (Instant::now(), self.catalog.ids());
        let streams = products.iter().map(|product| stream_key(product));
        let ids = self.scripts.ends(&mut connection, streams).await.ok()?;
        let ends = products.into_iter().zip(ids).filter_map(|(product, (first, last))| {
            Some((product, (entry_id(&first)?, entry_id(&last)?)))
        });
        let ends = Arc::new(ends.collect::<Ends>());
        *newest = Some((begun, Arc::clone(&ends)));
        Some(ends)
    }
}

fn entry_id(id: &str) -> Option<EntryId> {
    let (millis, number) = id.split_once('-')?;
    Some((millis.parse().ok()?, number.parse().ok()?))
}

/// In milliseconds since 1970. Ids of orders say when they were made; others are no orders.
fn made_at(id: Uuid) -> Option<u64> {
    let (seconds, nanos) = id.get_timestamp()?.to_unix();
    Some(seconds * 1_000 + u64::from(nanos) / 1_000_000)
}
