//! What a [`crate::Redlock`] shares with the leases that come from it: the nodes, and the calls
//! that go to all of them.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use tokio_util::sync::DropGuard;
use tracing::debug;

use crate::Observer;
use crate::board::Board;
use crate::node::{Node, NodeError, Release};
use crate::script::{Answer, Handover, Scripts, parse_answer};
use crate::turn::Turn;

/// See the module.
pub(crate) struct Shared {
    pub(crate) nodes: Vec<Arc<Node>>,
    pub(crate) scripts: Arc<Scripts>,
    pub(crate) board: Arc<Board>,
    pub(crate) client: Arc<str>,
    pub(crate) sequence: AtomicU64,
    pub(crate) observer: Arc<dyn Observer>,
    /// The connections last as long as anybody may use them, a lease on its own included.
    pub(crate) _keepers: DropGuard,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("client", &self.client).finish_non_exhaustive()
    }
}

impl Shared {
    /// Frees the resources on every node; the future returned waits for the answers.
    ///
    /// The calls are on their way before this returns, so they precede what the caller sends next.
    pub(crate) fn release(
        self: &Arc<Self>,
        owner: &str,
        handovers: Vec<Handover>,
    ) -> impl Future<Output = ()> + Send + 'static {
        for Handover { resource, token, value } in &handovers {
            if let Some(value) = value {
                self.board.topic(resource).publish(*token, value);
            }
        }
        let shared = Arc::clone(self);
        let release = Arc::new(Release { owner: owner.to_owned(), handovers });
        self.tell_all(move |node| {
            let (shared, release) = (Arc::clone(&shared), Arc::clone(&release));
            async move {
                let Release { owner, handovers } = &*release;
                let call = shared.scripts.release(owner, &shared.client, handovers);
                // Not given up at the node's timeout: what is given up may never be sent.
                if node.run_to_the_end::<u64>(call).await.is_err() {
                    node.owe(release);
                }
            }
        })
    }

    /// Tells every node which of this client's tickets waits next.
    pub(crate) fn leave_turn(
        self: &Arc<Self>,
        resource: &str,
        ticket: u64,
    ) -> impl Future<Output = ()> + Send + 'static {
        let (shared, resource) = (Arc::clone(self), Arc::<str>::from(resource));
        self.tell_all(move |node| {
            let (shared, resource) = (Arc::clone(&shared), Arc::clone(&resource));
            async move {
                let call = shared.scripts.leave_turn(&resource, &shared.client, ticket);
                // A node that does not answer skips this client when its time is up.
                let _ = node.run_to_the_end::<u64>(call).await;
            }
        })
    }

    /// Sends to every node before it returns; the future waits for the answers.
    fn tell_all<F>(
        &self,
        call: impl Fn(Arc<Node>) -> F,
    ) -> impl Future<Output = ()> + Send + 'static
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut calls: FuturesUnordered<_> =
            self.nodes.iter().map(|node| call(Arc::clone(node))).collect();
        // The first poll sends; a call that is done at once must not end the round of polling.
        while let Some(Some(())) = calls.next().now_or_never() {}
        async move { while calls.next().await.is_some() {} }
    }

    /// Asks all nodes for their vote, which is `None` when it does not come in time.
    pub(crate) fn ask_all(self: &Arc<Self>, question: Question) -> FuturesUnordered<Vote> {
        let question = Arc::new(question);
        let ask = |node: &Arc<Node>| {
            let (shared, node) = (Arc::clone(self), Arc::clone(node));
            shared.vote(node, Arc::clone(&question)).boxed()
        };
        self.nodes.iter().map(ask).collect()
    }

    async fn vote(self: Arc<Self>, node: Arc<Node>, question: Arc<Question>) -> Option<Answer> {
        let started = Instant::now();
        let Question { owner, lease, proposals, turn } = &*question;
        let call = match (turn, &proposals[..]) {
            (Some(turn), [(resource, token)]) => {
                let ticket = turn.lowest_ticket();
                self.scripts.acquire_in_turn(owner, *lease, resource, *token, &self.client, ticket)
            }
            _ => self.scripts.acquire(owner, *lease, proposals),
        };
        let answer = match node.run::<Vec<i64>>(call).await {
            Ok(reply) => parse_answer(&reply, proposals.len()).map_err(NodeError::from),
            Err(error) => Err(error),
        };
        self.observer.node_voted(node.index(), started.elapsed(), answer.is_ok());
        answer.inspect_err(|error| debug!(node = node.index(), %error, "no vote")).ok()
    }
}

/// A vote that is under way.
pub(crate) type Vote = BoxFuture<'static, Option<Answer>>;

/// What the nodes vote on in one round.
#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) owner: String,
    pub(crate) lease: Duration,
    /// The token proposed for each resource.
    pub(crate) proposals: Vec<(String, u64)>,
    /// When the order is fair: the place in the queue of the only resource.
    pub(crate) turn: Option<Arc<Turn>>,
}
