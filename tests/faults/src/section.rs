//! One operation of one client: acquire, read, write, release; every step recorded.

use std::sync::{Arc, Mutex, PoisonError};

use redlock::{
    AcquireError, Batch, Combiner, Entry, Lease, Policy, QueueDiscipline, Redlock, SubmitError,
};
use tokio::sync::Notify;

use crate::clock;
use crate::history::{Event, Hold, NoLock, OperationId, Step, Workload};
use crate::register::Registers;

/// Where the steps go.
pub type Journal = Arc<dyn Fn(Event) + Send + Sync>;

/// What keeps a client that came too late from doing damage; turned off in ablations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fencing {
    /// The token is installed before the register is read, and checked when it is written.
    InstalledBeforeReading,
    /// The register is read without installing the token, which is only checked when writing.
    CheckedWhenWriting,
    /// The token is installed, and a write goes through whatever was installed since.
    NotChecked,
}

/// Holds the next operation that comes there between its two transactions.
#[derive(Debug, Default)]
pub struct Gate {
    closed_for: Mutex<Option<Workload>>,
    opened: Notify,
}

impl Gate {
    /// Holds the next operation on this resource.
    pub fn close(&self, workload: Workload) {
        *self.closed_for.lock().unwrap_or_else(PoisonError::into_inner) = Some(workload);
    }

    /// Lets it go on, or the next not be held.
    pub fn open(&self) {
        self.opened.notify_one();
    }

    /// Whether the caller is the one to be held.
    fn is_closed_for(&self, workload: Workload) -> bool {
        let mut closed_for = self.closed_for.lock().unwrap_or_else(PoisonError::into_inner);
        closed_for.take_if(|closed| *closed == workload).is_some()
    }
}

/// A client of one resource.
#[derive(Clone)]
pub struct Client {
    /// The process it lives in, from 0.
    pub process: usize,
    /// Its number over all processes, from 0.
    pub number: usize,
    /// What it locks.
    pub workload: Workload,
    /// With this.
    pub redlock: Redlock,
    /// Lease and wait; the order is the workload's.
    pub policy: Policy,
    /// What the lock guards.
    pub registers: Registers,
    /// How it is guarded.
    pub fencing: Fencing,
    /// Where it may be held.
    pub gate: Arc<Gate>,
    /// Where its steps go.
    pub journal: Journal,
}

impl Client {
    /// Swaps the register's value for a new one, under the lock.
    ///
    /// It reads no clock after it has the lock: as a client that believes in it for too long.
    /// Returns whether it wrote.
    pub async fn swap(&self, id: OperationId) -> bool {
        self.note_invoked(id);
        let workload = self.workload;
        let discipline = match workload {
            Workload::Unordered | Workload::Renewed => QueueDiscipline::Unordered,
            Workload::Fair => QueueDiscipline::Fair,
        };
        let policy = Policy { discipline, ..self.policy };
        match self.redlock.acquire(workload.resource(), policy).await {
            Ok(lease) => self.swap_under(lease, id).await,
            Err(error) => {
                self.note(id, Step::NotAcquired(no_lock(&error)));
                false
            }
        }
    }

    /// As [`Client::swap`], in a batch of a combiner.
    pub async fn swap_in_batch(&self, combiner: &Combiner<Swaps>, id: OperationId) -> bool {
        self.note_invoked(id);
        match combiner.submit(self.workload.resource(), (self.clone(), id)).await {
            Ok(wrote) => wrote,
            Err(error) => {
                let why = match &error {
                    SubmitError::Lock(error) => no_lock(error),
                    SubmitError::Overloaded { .. } => NoLock::Timeout,
                    other => NoLock::Other(other.to_string()),
                };
                self.note(id, Step::NotAcquired(why));
                false
            }
        }
    }

    fn note_invoked(&self, id: OperationId) {
        let Self { process, number, workload, .. } = *self;
        self.note(id, Step::Invoked { process, client: number, workload });
    }

    async fn swap_under(&self, lease: Lease, id: OperationId) -> bool {
        let workload = self.workload;
        let mut hold = hold(&lease);
        if workload == Workload::Renewed {
            // That of the lease. The caller's own is not known.
            hold.ticket = None;
        }
        self.note(id, Step::Acquired(hold));
        let written = self.transactions(id, lease.token()).await;
        match &written {
            Ok(Ok(())) => self.note(id, Step::Wrote),
            Ok(Err(seen)) => {
                self.redlock.observe_token(workload.resource(), *seen);
                self.note(id, Step::Refused(*seen));
            }
            Err(error) => self.note(id, Step::Broken(error.to_string())),
        }
        self.note(id, Step::Releasing);
        lease.release().await;
        self.note(id, Step::Released);
        matches!(written, Ok(Ok(())))
    }

    async fn transactions(&self, id: OperationId, token: u64) -> sqlx::Result<Result<(), u64>> {
        let (registers, workload) = (&self.registers, self.workload);
        let read = match self.fencing {
            Fencing::CheckedWhenWriting => registers.read(workload).await?,
            Fencing::InstalledBeforeReading | Fencing::NotChecked => {
                match registers.install(workload, token).await? {
                    Ok(value) => value,
                    Err(seen) => return Ok(Err(seen)),
                }
            }
        };
        self.note(id, Step::Read(read));
        if self.gate.is_closed_for(workload) {
            self.note(id, Step::Held);
            self.gate.opened.notified().await;
        }
        let value = id.value();
        self.note(id, Step::Writing(value));
        match self.fencing {
            Fencing::InstalledBeforeReading => registers.write(workload, token, value).await,
            Fencing::CheckedWhenWriting => {
                registers.write_checking_late(workload, token, value).await
            }
            Fencing::NotChecked => registers.write_unfenced(workload, token, value).await,
        }
    }

    fn note(&self, operation: OperationId, step: Step) {
        (self.journal)(Event { at: clock::now(), operation, step });
    }
}

/// Swaps for one client after the other, each under a lease of its own.
#[derive(Debug)]
pub struct Swaps(pub Policy);

impl Batch for Swaps {
    type Item = (Client, OperationId);
    type Output = bool;

    fn policy(&self, _resource: &str, _item: &Self::Item) -> Policy {
        self.0
    }

    async fn execute(
        &self,
        _resource: &str,
        lease: Lease,
        mut entries: Vec<Entry<Self::Item, bool>>,
    ) -> Vec<Entry<Self::Item, bool>> {
        if let Some(entry) = entries.pop() {
            let (client, id) = entry.item.clone();
            entry.reply(client.swap_under(lease, id).await);
        }
        entries
    }
}

fn hold(lease: &Lease) -> Hold {
    let deadline = clock::now() + clock::nanoseconds(lease.remaining());
    Hold { token: lease.token(), ticket: lease.ticket(), deadline }
}

fn no_lock(error: &AcquireError) -> NoLock {
    match error {
        AcquireError::Timeout { .. } => NoLock::Timeout,
        AcquireError::QuorumUnavailable { .. } => NoLock::QuorumUnavailable,
        other => NoLock::Other(other.to_string()),
    }
}
