//! Counts round trips that wait for each other.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// A count of round trips over all proxies that share it. A request comes one round trip after the
/// last reply that its client had before, on whatever connection. So requests that are sent together
/// count once, and a request that waits for the reply to another one counts apart.
#[derive(Debug, Clone, Default)]
pub struct RoundTrips(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    /// Of the replies that have arrived.
    arrived: AtomicU64,
    last_packet: Mutex<Option<Instant>>,
}

impl RoundTrips {
    /// Those so far. The difference of two counts is what lies between them.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.arrived.load(Ordering::SeqCst)
    }

    /// Waits until no packet has passed for this long, so that nothing which began before counts.
    pub async fn quiet(&self, lasting: Duration) {
        loop {
            let last = *self.0.last_packet.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(quiet) = last.map(|last| last + lasting).filter(|at| *at > Instant::now())
            else {
                return;
            };
            sleep_until(quiet).await;
        }
    }

    fn packet(&self) {
        let mut last = self.0.last_packet.lock().unwrap_or_else(PoisonError::into_inner);
        *last = Some(Instant::now());
    }
}

/// One connection's part in the count.
#[derive(Debug, Default)]
pub(super) struct Connection {
    trips: RoundTrips,
    /// The round trip of the last request that reached the server.
    asked: AtomicU64,
}

impl Connection {
    pub(super) fn new(trips: RoundTrips) -> Self {
        Self { trips, asked: AtomicU64::new(0) }
    }

    /// The round trip of a request that the client sends now.
    pub(super) fn request(&self) -> u64 {
        self.trips.packet();
        self.trips.count() + 1
    }

    /// The request arrives.
    pub(super) fn request_arrives(&self, trip: u64) {
        self.trips.packet();
        self.asked.fetch_max(trip, Ordering::SeqCst);
    }

    /// The round trip of a reply that the server sends now.
    pub(super) fn reply(&self) -> u64 {
        self.trips.packet();
        self.asked.load(Ordering::SeqCst)
    }

    /// The reply arrives.
    pub(super) fn reply_arrives(&self, trip: u64) {
        self.trips.packet();
        self.trips.0.arrived.fetch_max(trip, Ordering::SeqCst);
    }
}
