//! A held lock.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::script::Handover;
use crate::shared::Shared;
use crate::turn::Turn;

/// A majority of the nodes holds these resources for this owner until the deadline.
///
/// Dropping a lease releases it in the background; [`Lease::release`] waits for the nodes.
#[derive(Debug)]
pub struct Lease {
    shared: Arc<Shared>,
    owner: String,
    tokens: Vec<(String, u64)>,
    acquired_at: Instant,
    deadline: Instant,
    turn: Option<Arc<Turn>>,
    next_ticket: Option<u64>,
    released: bool,
}

impl Lease {
    pub(crate) fn new(
        shared: Arc<Shared>,
        owner: String,
        tokens: Vec<(String, u64)>,
        deadline: Instant,
    ) -> Self {
        let acquired_at = Instant::now();
        let (turn, next_ticket) = (None, None);
        Self { shared, owner, tokens, acquired_at, deadline, turn, next_ticket, released: false }
    }

    /// A lease acquired in turn; `next_ticket` is the lowest of another client.
    pub(crate) fn in_turn(mut self, turn: Arc<Turn>, next_ticket: Option<u64>) -> Self {
        self.turn = Some(turn);
        self.next_ticket = next_ticket;
        self
    }

    /// Whether a ticket of this client comes before those of all others.
    pub(crate) fn serves(&self, ticket: u64) -> bool {
        self.next_ticket.is_none_or(|next| ticket < next)
    }

    /// The fencing token of the first (or only) resource.
    #[must_use]
    pub fn token(&self) -> u64 {
        self.tokens.first().map_or(0, |(_, token)| *token)
    }

    /// The fencing token of each resource, sorted by resource.
    #[must_use]
    pub fn tokens(&self) -> &[(String, u64)] {
        &self.tokens
    }

    /// How much longer the nodes keep the lock, by this process's monotonic clock.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Frees the resources on all nodes, waiting until each has answered or timed out.
    pub async fn release(self) {
        self.release_with(&[]).await;
    }

    /// As [`Lease::release`], leaving behind a value for some of the resources: each node keeps it
    /// under the resource's own name unless a higher token wrote one before.
    pub async fn release_with(mut self, values: &[(&str, String)]) {
        self.end(values).await;
    }

    /// Frees the resources, leaving values as [`Lease::release_with`] does, without waiting.
    ///
    /// A later acquisition by this process is sent over the same ordered connections, so it finds
    /// the resources free.
    pub fn release_in_background(mut self, values: &[(&str, String)]) {
        tokio::spawn(self.end(values));
    }

    fn end(&mut self, values: &[(&str, String)]) -> impl Future<Output = ()> + Send + 'static {
        self.released = true;
        self.shared.observer.released(self.acquired_at.elapsed());
        let handovers: Vec<_> = self
            .tokens
            .iter()
            .map(|(resource, token)| {
                let value = values.iter().find(|(of, _)| of == resource).map(|(_, v)| v.clone());
                Handover { resource: resource.clone(), token: *token, value }
            })
            .collect();
        // First the place in the queue, then the lock: whoever gets it next sees the right order.
        let place = self.turn.as_ref().zip(self.tokens.first());
        let left = place.map(|(turn, (resource, _))| turn.leave(&self.shared, resource));
        let released = self.shared.release(&self.owner, handovers);
        async move {
            if let Some(left) = left {
                left.await;
            }
            released.await;
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // Outside a runtime nothing can be sent; the nodes then end the lease themselves.
        if !self.released
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(self.end(&[]));
        }
    }
}
