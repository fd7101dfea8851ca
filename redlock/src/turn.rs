//! A client's place in the queue for a resource, and the tickets that make it.
//!
//! A ticket is issued by a majority of the nodes, each of which issues only above the highest it
//! has issued: so tickets are unique and in real-time order, as fencing tokens are.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::time::sleep;

use crate::script::Vote;
use crate::shared::Shared;
use crate::tally::{Tally, Verdict};
use crate::{AcquireError, Redlock};

/// How long to wait before too few nodes are asked again.
const RETRY: Duration = Duration::from_millis(50);
/// Clients that outbid each other are repeated after up to this long.
const OUTBID_PAUSE: Duration = Duration::from_millis(2);

/// The lowest ticket of this client that still waits.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    ticket: Mutex<Option<u64>>,
}

impl Turn {
    /// 0: none waits.
    pub(crate) fn lowest_ticket(&self) -> u64 {
        self.lock().unwrap_or(0)
    }

    pub(crate) fn set_lowest_ticket(&self, ticket: Option<u64>) {
        *self.lock() = ticket;
    }

    /// Tells the nodes the lowest ticket that waits. What is told, and the order in which tickets
    /// are taken, must agree: so both are sent under this lock.
    pub(crate) fn leave(
        &self,
        shared: &Arc<Shared>,
        resource: &str,
    ) -> impl Future<Output = ()> + Send + 'static {
        let ticket = self.lock();
        shared.leave_turn(resource, ticket.unwrap_or(0))
    }

    fn lock(&self) -> MutexGuard<'_, Option<u64>> {
        self.ticket.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tickets under way; the first of them.
pub(crate) type Tickets = BoxFuture<'static, Result<u64, AcquireError>>;

impl Redlock {
    /// Takes tickets for so many arrivals in one round trip. The first will be at least the number
    /// returned; the proposal is on its way.
    pub(crate) fn take_tickets(
        &self,
        resource: &str,
        count: usize,
        deadline: Instant,
        turn: &Turn,
    ) -> (u64, Tickets) {
        let mut lowest = turn.lock();
        let at_least = self.shared.board.topic(resource).highest_ticket() + 1;
        *lowest = Some(lowest.unwrap_or(at_least));
        let (shared, resource) = (Arc::clone(&self.shared), resource.to_owned());
        let mut tickets = async move { propose(&shared, &resource, count, deadline).await }.boxed();
        match (&mut tickets).now_or_never() {
            Some(taken) => (at_least, std::future::ready(taken).boxed()),
            None => (at_least, tickets),
        }
    }
}

async fn propose(
    shared: &Shared,
    resource: &str,
    count: usize,
    deadline: Instant,
) -> Result<u64, AcquireError> {
    let topic = shared.board.topic(resource);
    loop {
        let first = topic.highest_ticket() + 1;
        let (verdict, reachable) = ask(shared, resource, first, count).await;
        if verdict == Verdict::Won {
            return Ok(first);
        }
        if Instant::now() >= deadline {
            let nodes = shared.nodes.len();
            let quorum = nodes / 2 + 1;
            return Err(AcquireError::QuorumUnavailable { reachable, nodes, quorum });
        }
        let pause = if verdict == Verdict::Unreachable { RETRY } else { OUTBID_PAUSE };
        sleep(pause.mul_f64(rand::random_range(0.1..1.0))).await;
    }
}

async fn ask(shared: &Shared, resource: &str, first: u64, count: usize) -> (Verdict, usize) {
    let topic = shared.board.topic(resource);
    let mut votes: FuturesUnordered<_> = shared
        .nodes
        .iter()
        .map(|node| {
            let call = shared.scripts.take_tickets(resource, &shared.client, first, count);
            async move { node.run::<(i64, u64)>(call).await.ok() }
        })
        .collect();
    let mut tally = Tally::new(shared.nodes.len());
    while let Some(answer) = votes.next().await {
        tally.count(answer.map(|(vote, counter)| {
            topic.saw_ticket(counter);
            if vote == 1 { Vote::Granted } else { Vote::Stale }
        }));
        if let Some(verdict) = tally.verdict() {
            return (verdict, tally.reachable());
        }
    }
    (Verdict::Unreachable, tally.reachable())
}
