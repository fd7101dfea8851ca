//! Purchases that wait to be sent to Redis.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::ledger::Purchase;
use crate::sale::{PurchaseError, Receipt};

/// Purchases that may wait at this replica for one product.
const MOST: usize = 16_384;

/// A purchase and the caller that waits for it.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) purchase: Purchase,
    /// When it is given up, unless it is on its way to Redis.
    pub(super) deadline: Instant,
    pub(super) reply: Reply,
}

/// Where a caller waits.
pub(super) type Reply = oneshot::Sender<Result<Receipt, PurchaseError>>;

/// In the order in which they came. Who sends them hears when there are enough of them, and not of
/// each: waking costs as much as all else that is done here for a purchase.
#[derive(Debug, Default)]
pub(super) struct Queue {
    line: Mutex<Line>,
    enough: Notify,
}

#[derive(Debug, Default)]
struct Line {
    waiting: Vec<Waiting>,
    /// How many are worth waking for; `None`: nobody wants to hear.
    enough: Option<usize>,
}

impl Queue {
    /// One more waits. False: too many do.
    pub(super) fn push(&self, waiting: Waiting) -> bool {
        let mut line = self.line();
        if line.waiting.len() >= MOST {
            return false;
        }
        line.waiting.push(waiting);
        let count = line.waiting.len();
        let is_enough = line.enough.take_if(|enough| count >= *enough).is_some();
        drop(line);
        if is_enough {
            self.enough.notify_one();
        }
        true
    }

    /// The first of them, if there are enough. Otherwise [`enough`](Self::enough) tells when.
    pub(super) fn take(&self, enough: usize, most: usize) -> Option<Vec<Waiting>> {
        let mut line = self.line();
        if line.waiting.len() < enough {
            line.enough = Some(enough);
            return None;
        }
        line.enough = None;
        let count = line.waiting.len().min(most);
        Some(line.waiting.drain(..count).collect())
    }

    pub(super) async fn enough(&self) {
        self.enough.notified().await;
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
