//! The worker that sells to whoever is there when it gets the locks.
//!
//! It takes the locks of all resources that somebody waits for together, in one round, and executes
//! one batch for all: so a hundred resources cost little more than one does. Where one of them is
//! not to be had soon, each goes its own way, so that none waits for another's holder.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::sync::mpsc::{Receiver, UnboundedReceiver};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tracing::error;

use super::worker::{self, AFTER_PANIC, Entries, Worker, panic_message, refuse_expired};
use super::{Batch, Entry, Lot};
use crate::{AcquireError, Lease, Policy};

/// How long several resources are waited for together; a batch of another client is over by then.
const TOGETHER_AT_MOST: Duration = Duration::from_millis(100);

/// So many resources that somebody waits for are shared out,
const SHARED_FROM: usize = 64;
/// over so many batches at once: while one waits for the nodes, or for what is done under its
/// locks, another has the processor.
const BATCHES: usize = 2;

/// Those who wait for one resource.
pub(super) struct Line<B: Batch> {
    worker: Worker<B>,
    arrivals: Receiver<Entry<B::Item, B::Output>>,
    waiting: Entries<B>,
}

impl<B: Batch> Line<B> {
    pub(super) fn new(worker: Worker<B>, arrivals: Receiver<Entry<B::Item, B::Output>>) -> Self {
        Self { worker, arrivals, waiting: Vec::new() }
    }

    /// Lets in who has arrived, as far as there is room.
    fn collect(&mut self, room: usize) {
        while self.waiting.len() < room
            && let Ok(entry) = self.arrivals.try_recv()
        {
            self.waiting.push(entry);
        }
    }

    /// Whether nobody waits at this moment; [`Line::awaken`] misses nobody who comes after it.
    fn is_done(&self) -> bool {
        self.waiting.is_empty() && self.arrivals.is_empty()
    }

    /// The line again when somebody waits; `None`: the combiner is gone. The channel wakes whoever
    /// receives from it, so nothing else need be told, and none but the first of many wakes anybody.
    async fn awaken(mut self) -> Option<Self> {
        let first = self.arrivals.recv().await?;
        self.waiting.push(first);
        Some(self)
    }

    fn policy(&self) -> Option<Policy> {
        worker::policy(self.waiting.iter())
    }
}

/// What a round of service came to.
struct Served<B: Batch> {
    lines: Vec<Line<B>>,
    /// They were served together.
    together: bool,
    /// Not all of them could be had together.
    must_part: bool,
}

/// The batches of several resources that are under way.
#[derive(Default)]
struct Together {
    batches: usize,
    lines: usize,
}

impl Together {
    /// How many of those that are due begin a batch now.
    fn share(&self, due: usize, most: usize) -> Option<usize> {
        let waited_for = due + self.lines;
        let batches = if waited_for < SHARED_FROM { 1 } else { BATCHES };
        let share = waited_for.div_ceil(batches).min(most);
        // A batch of less costs as much, and it will be a share when another ends.
        let begins = due > 0 && (self.batches == 0 || self.batches < batches && due >= share);
        begins.then_some(due.min(share))
    }
}

/// Ends when its combiner does.
pub(super) async fn run<B: Batch>(mut lines: UnboundedReceiver<Line<B>>) {
    let mut idle = FuturesUnordered::new();
    let mut due = VecDeque::new();
    let mut under_way: JoinSet<Served<B>> = JoinSet::new();
    let mut together = Together::default();
    loop {
        tokio::select! {
            line = lines.recv() => match line {
                None => return,
                Some(line) => idle.push(line.awaken()),
            },
            Some(line) = idle.next() => due.extend(line),
            Some(served) = under_way.join_next() => {
                // It catches its own panics.
                let Ok(served) = served else { continue };
                if served.together {
                    together.batches -= 1;
                    together.lines -= served.lines.len();
                }
                for line in served.lines {
                    if served.must_part {
                        under_way.spawn(serve(vec![line], false));
                    } else if line.is_done() {
                        idle.push(line.awaken());
                    } else {
                        due.push_back(line);
                    }
                }
            }
        }
        if B::TOGETHER == 1 {
            due.drain(..).for_each(|line| {
                under_way.spawn(serve(vec![line], false));
            });
            continue;
        }
        while let Some(share) = together.share(due.len(), B::TOGETHER) {
            together.batches += 1;
            together.lines += share;
            under_way.spawn(serve(due.drain(..share).collect(), true));
        }
    }
}

async fn serve<B: Batch>(mut lines: Vec<Line<B>>, together: bool) -> Served<B> {
    let mut panicked = false;
    let must_part = loop {
        let serving = async {
            if panicked { recover(&mut lines).await } else { serve_once(&mut lines).await }
        };
        match AssertUnwindSafe(serving).catch_unwind().await {
            Ok(must_part) => break must_part,
            Err(panic) => {
                let resources: Vec<&str> =
                    lines.iter().map(|line| &*line.worker.resource).collect();
                let panic = panic_message(&*panic);
                error!(?resources, panic, "the worker of the lock panicked; it goes on");
                panicked = true;
            }
        }
    };
    Served { lines, together, must_part }
}

/// After a panic outside a batch, as of an item that is dropped: who caused it is gone, or not to be
/// known. The others are served, each resource on its own, as long as they wait.
async fn recover<B: Batch>(lines: &mut [Line<B>]) -> bool {
    sleep(AFTER_PANIC).await;
    for line in &mut *lines {
        refuse_expired(&mut line.waiting, &AcquireError::Interrupted);
    }
    lines.len() > 1
}

/// Whether not all of them could be had together.
async fn serve_once<B: Batch>(lines: &mut Vec<Line<B>>) -> bool {
    let Some(Line { worker: Worker { redlock, config, .. }, .. }) = lines.first() else {
        return false;
    };
    let (redlock, room) = (redlock.clone(), (config.batch / lines.len()).max(1));
    for line in &mut *lines {
        line.collect(room);
    }
    let acquired = {
        let resources: Vec<&str> = lines.iter().map(|line| &*line.worker.resource).collect();
        let Some(policy) = policy(lines) else { return false };
        for line in &*lines {
            line.worker.load.ask();
        }
        match &resources[..] {
            [resource] => redlock.acquire(resource, policy).await,
            resources => redlock.acquire_all(resources, policy).await,
        }
    };
    for line in &mut *lines {
        line.collect(room);
    }
    match acquired {
        Ok(lease) => execute(lines, lease).await,
        Err(AcquireError::Timeout { .. }) if lines.len() > 1 => return true,
        Err(error) => {
            for line in lines {
                line.waiting.retain(|entry| !entry.is_abandoned());
                refuse_expired(&mut line.waiting, &error);
            }
        }
    }
    false
}

/// As short as the shortest of them.
fn policy<B: Batch>(lines: &[Line<B>]) -> Option<Policy> {
    let policies = lines.iter().filter_map(Line::policy);
    let shortest = policies.reduce(|one, other| Policy {
        wait_timeout: one.wait_timeout.min(other.wait_timeout),
        lease_time: one.lease_time.min(other.lease_time),
        ..one
    })?;
    let wait_timeout = match lines {
        [_] => shortest.wait_timeout,
        _ => shortest.wait_timeout.min(TOGETHER_AT_MOST),
    };
    Some(Policy { wait_timeout, ..shortest })
}

async fn execute<B: Batch>(lines: &mut [Line<B>], lease: Lease) {
    // Before anything is taken out: an item may panic when it is dropped.
    for line in &mut *lines {
        line.waiting.retain(Entry::claim);
    }
    let lots: Vec<Lot<B>> = lines
        .iter_mut()
        .map(|line| {
            let entries = std::mem::take(&mut line.waiting);
            Lot { resource: Arc::clone(&line.worker.resource), entries }
        })
        .collect();
    if lots.iter().all(|lot| lot.entries.is_empty()) {
        return;
    }
    let Some(worker) = lines.first().map(|line| line.worker.clone()) else { return };
    for line in &*lines {
        line.worker.load.execute();
    }
    let again = worker.execute_together(lease, lots).await;
    for line in &*lines {
        line.worker.load.end();
    }
    for lot in again {
        if let Some(line) = lines.iter_mut().find(|line| line.worker.resource == lot.resource) {
            line.waiting = lot.entries;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_resources_are_one_batch_and_many_are_shared_out() {
        let none = Together::default();
        assert_eq!(none.share(0, 128), None);
        assert_eq!(none.share(1, 128), Some(1));
        assert_eq!(none.share(63, 128), Some(63));
        assert_eq!(none.share(20, 8), Some(8));
        let one = Together { batches: 1, lines: 63 };
        assert_eq!(one.share(1, 128), None, "it waits for the batch to end");

        assert_eq!(none.share(99, 128), Some(50));
        let one = Together { batches: 1, lines: 50 };
        assert_eq!(one.share(49, 128), None, "less than a share");
        assert_eq!(one.share(50, 128), Some(50));
        assert_eq!(one.share(51, 128), Some(51), "half of those waited for now");
        let two = Together { batches: 2, lines: 66 };
        assert_eq!(two.share(66, 128), None);
    }
}
