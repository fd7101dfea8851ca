//! What the workers record, and the operations that it adds up to.
//!
//! Each step is written when it happens, so that a process that is stopped or killed leaves
//! behind how far it came: an operation whose write was sent and never answered is *unknown*.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The resources, with a register in the database each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Workload {
    /// Locked in any order.
    Unordered,
    /// Locked in the order of arrival.
    Fair,
    /// Locked by a combiner for each process, which renews its leases; one of them in fair order.
    Renewed,
}

impl Workload {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Unordered, Self::Fair, Self::Renewed];

    /// The name of the resource and of its register.
    #[must_use]
    pub fn resource(self) -> &'static str {
        match self {
            Self::Unordered => "unordered",
            Self::Fair => "fair",
            Self::Renewed => "renewed",
        }
    }
}

/// Names one operation: the start of a process, and a number within it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct OperationId {
    /// Each start of a worker has its own, from 1.
    pub start: u64,
    /// From 1.
    pub number: u64,
}

impl OperationId {
    /// The value that this operation writes: no other writes the same.
    #[must_use]
    pub fn value(self) -> u64 {
        self.start * 1_000_000_000 + self.number
    }
}

/// A step of an operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// By [`crate::clock::now`].
    pub at: u64,
    /// Whose step it is.
    pub operation: OperationId,
    /// What happened.
    pub step: Step,
}

/// What can happen in an operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// A client asks for the lock.
    Invoked {
        /// The process it lives in, from 0.
        process: usize,
        /// Its number over all processes, from 0.
        client: usize,
        /// What it wants to lock.
        workload: Workload,
    },
    /// It has the lock.
    Acquired(Hold),
    /// The answer that it will not get it.
    NotAcquired(NoLock),
    /// Transaction 1 is done: its token is installed and the register had this value.
    Read(u64),
    /// It waits between the two transactions, as commanded.
    Held,
    /// It sends transaction 2.
    Writing(u64),
    /// The write is committed.
    Wrote,
    /// The register has seen this higher token: nothing was written.
    Refused(u64),
    /// The database failed; a write that was sent may have happened.
    Broken(String),
    /// From now on the client does not believe that it holds the lock.
    Releasing,
    /// The lock is released, as far as the client can tell.
    Released,
}

/// A lock that a client got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// The fencing token.
    pub token: u64,
    /// The place in the queue, where the order is fair.
    pub ticket: Option<u64>,
    /// Until when the client believes it, by [`crate::clock::now`].
    pub deadline: u64,
}

/// Why a client did not get the lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum NoLock {
    /// Others had it for the whole wait.
    Timeout,
    /// Too few nodes answered.
    QuorumUnavailable,
    /// Anything else, which no fault of a node can cause.
    Other(String),
}

/// Everything known of one operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Operation {
    /// Its name.
    pub id: OperationId,
    /// The process, from 0.
    pub process: usize,
    /// The client, over all processes, from 0.
    pub client: usize,
    /// What was locked.
    pub workload: Workload,
    /// When it began.
    pub invoked: u64,
    /// When it got the lock.
    pub acquired: Option<(u64, Hold)>,
    /// When the answer came that it will not get it.
    pub not_acquired: Option<(u64, NoLock)>,
    /// When transaction 1 was done, and the value it read.
    pub read: Option<(u64, u64)>,
    /// The value whose write was sent.
    pub sent: Option<u64>,
    /// When the write was committed.
    pub wrote: Option<u64>,
    /// When the register refused the token.
    pub refused: Option<u64>,
    /// The database failed.
    pub broken: Option<String>,
    /// When the client stopped believing that it holds the lock.
    pub releasing: Option<u64>,
}

/// How an operation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It wrote.
    Ok,
    /// It certainly did not write.
    Failed,
    /// It may have written, or it reported nothing more.
    Unknown,
}

impl Operation {
    /// An operation of which nothing is known but its beginning.
    #[must_use]
    pub fn invoked(
        id: OperationId,
        process: usize,
        client: usize,
        workload: Workload,
        at: u64,
    ) -> Self {
        Self {
            id,
            process,
            client,
            workload,
            invoked: at,
            acquired: None,
            not_acquired: None,
            read: None,
            sent: None,
            wrote: None,
            refused: None,
            broken: None,
            releasing: None,
        }
    }

    /// How it ended.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        if self.wrote.is_some() {
            Outcome::Ok
        } else if self.refused.is_some() || self.not_acquired.is_some() {
            Outcome::Failed
        } else {
            Outcome::Unknown
        }
    }

    /// Whether the register refused a write that came too late.
    #[must_use]
    pub fn was_refused_late(&self) -> bool {
        self.refused.is_some() && self.sent.is_some()
    }

    /// When it was known whether it gets the lock.
    #[must_use]
    pub fn answered(&self) -> Option<u64> {
        let acquired = self.acquired.as_ref().map(|(at, _)| *at);
        acquired.or(self.not_acquired.as_ref().map(|(at, _)| *at))
    }

    fn take(&mut self, at: u64, step: &Step) {
        match step {
            Step::Invoked { .. } | Step::Held | Step::Released => {}
            Step::Acquired(hold) => self.acquired = Some((at, *hold)),
            Step::NotAcquired(why) => self.not_acquired = Some((at, why.clone())),
            Step::Read(value) => self.read = Some((at, *value)),
            Step::Writing(value) => self.sent = Some(*value),
            Step::Wrote => self.wrote = Some(at),
            Step::Refused(_) => self.refused = Some(at),
            Step::Broken(why) => self.broken = Some(why.clone()),
            Step::Releasing => self.releasing = Some(at),
        }
    }
}

/// Adds up the steps. Steps of operations that began before the first event are left out.
#[must_use]
pub fn operations(events: &[Event]) -> Vec<Operation> {
    let mut operations = BTreeMap::new();
    for Event { at, operation: id, step } in events {
        if let Step::Invoked { process, client, workload } = step {
            operations.insert(*id, Operation::invoked(*id, *process, *client, *workload, *at));
        } else if let Some(operation) = operations.get_mut(id) {
            operation.take(*at, step);
        }
    }
    operations.into_values().collect()
}

/// The operations on one resource.
#[must_use]
pub fn of(operations: &[Operation], workload: Workload) -> Vec<&Operation> {
    operations.iter().filter(|operation| operation.workload == workload).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_that_was_sent_and_never_answered_is_unknown() {
        let id = OperationId { start: 1, number: 1 };
        let event = |at, step| Event { at, operation: id, step };
        let mut events = vec![
            event(1, Step::Invoked { process: 0, client: 0, workload: Workload::Fair }),
            event(2, Step::Acquired(Hold { token: 7, ticket: Some(3), deadline: 9 })),
            event(3, Step::Read(0)),
            event(4, Step::Writing(id.value())),
        ];
        assert_eq!(operations(&events)[0].outcome(), Outcome::Unknown);
        events.push(event(5, Step::Wrote));
        assert_eq!(operations(&events)[0].outcome(), Outcome::Ok);
        events[4] = event(5, Step::Refused(8));
        let refused = &operations(&events)[0];
        assert_eq!((refused.outcome(), refused.was_refused_late()), (Outcome::Failed, true));
    }

    #[test]
    fn events_are_read_as_they_were_written() {
        let event = Event {
            at: u64::MAX / 2,
            operation: OperationId { start: 2, number: 1 },
            step: Step::NotAcquired(NoLock::QuorumUnavailable),
        };
        let line = serde_json::to_string(&event).unwrap();
        assert_eq!(serde_json::from_str::<Event>(&line).unwrap(), event);
    }
}
