//! A submitted item and its caller.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::load::WaitingGuard;
use crate::config::Policy;
use crate::error::AcquireError;

/// A submitted item and the caller that waits for its result.
#[derive(Debug)]
pub struct Entry<Item, Output> {
    /// The submitted item.
    pub item: Item,
    pub(super) policy: Policy,
    pub(super) deadline: Instant,
    /// In fair order; otherwise 0.
    pub(super) ticket: u64,
    pub(super) waiting: WaitingGuard,
    pub(super) claim: Arc<ClaimState>,
    pub(super) reply: oneshot::Sender<Result<Output, SubmitError>>,
}

/// Decides between the worker, which claims an entry for execution, and the caller, whose wait ends.
/// Only one of them succeeds.
#[derive(Debug, Default)]
pub(super) struct ClaimState(AtomicU8);

impl ClaimState {
    const WAITING: u8 = 0;
    const CLAIMED: u8 = 1;
    const EXPIRED: u8 = 2;

    /// Claims the entry for execution. Returns false if the wait has ended.
    pub(super) fn claim(&self) -> bool {
        self.decide(Self::CLAIMED)
    }

    /// Ends the wait. Returns false if the entry was claimed.
    pub(super) fn expire(&self) -> bool {
        self.decide(Self::EXPIRED)
    }

    fn decide(&self, decision: u8) -> bool {
        let decided =
            self.0.compare_exchange(Self::WAITING, decision, Ordering::AcqRel, Ordering::Acquire);
        decided.map_or_else(|earlier| earlier == decision, |_waiting| true)
    }
}

impl<Item, Output> Entry<Item, Output> {
    /// Sends the caller its result. Does nothing if the caller is gone.
    pub fn reply(self, output: Output) {
        let _ = self.reply.send(Ok(output));
    }

    /// Whether the caller is gone.
    pub(super) fn is_abandoned(&self) -> bool {
        self.reply.is_closed()
    }

    /// Claims the entry for execution. From then on the caller waits for the result without a limit.
    pub(super) fn claim(&self) -> bool {
        let is_claimed = !self.is_abandoned() && self.claim.claim();
        self.waiting.leave();
        is_claimed
    }

    pub(super) fn refuse(self, error: SubmitError) {
        let _ = self.reply.send(Err(error));
    }
}

/// Why an item was not executed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// The queue is full, or the expected wait exceeds the caller's.
    #[error("too many wait, the expected wait is {expected_wait:?}")]
    Overloaded {
        /// The expected wait of the callers in the queue, from the duration of the last batches.
        expected_wait: Duration,
    },
    /// The lock was not acquired.
    #[error(transparent)]
    Lock(#[from] AcquireError),
    /// [`Batch::policy`](super::Batch::policy) panicked for this item.
    #[error("there is no policy for this item: asking for it panicked")]
    NoPolicy,
    /// The batch that contained this item failed; the item may have been executed.
    #[error("the batch ended without a reply")]
    Abandoned,
}
