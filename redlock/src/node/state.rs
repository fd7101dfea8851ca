//! The state of a node and the calls over its connection.
//!
//! All commands to a node travel over one ordered connection, so the node executes a release after the
//! vote that preceded it, even if the client did not wait for that vote. A call to a node without a
//! connection fails at once. A call to a node that hangs fails at its time-out, until the monitor
//! notices.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use redis::{FromRedisValue, RedisError};
use tokio::sync::Notify;
use tokio::time::timeout;

use super::clock::{Clock, ClockSample};
use super::fault::NodeFault;
use super::release::Release;
use crate::scripts::ScriptCall;

const MAX_PENDING_RELEASES: usize = 256;
/// How often the monitor checks a node that refused a write.
pub(crate) const REFUSAL_POLL: Duration = Duration::from_millis(100);

/// Why a call to a node failed. The monitor logs the reason of a lost connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NodeError {
    /// The node has no connection.
    #[error("not connected")]
    Disconnected,
    /// The node is excluded from votes.
    #[error("excluded from votes")]
    Excluded,
    /// The node did not reply in time.
    #[error("no reply in time")]
    TimedOut,
    /// The connection or the script failed.
    #[error(transparent)]
    Redis(#[from] RedisError),
}

/// A node that restarted, as far as this client knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Restarted {
    /// Redis's run id of the process that answers now.
    pub(crate) run_id: String,
    /// When this client noticed the restart.
    pub(crate) since: Instant,
    /// The node stores no admission: it is new or lost its data.
    pub(crate) blank: bool,
}

#[derive(Debug, Default)]
struct State {
    connection: Option<MultiplexedConnection>,
    run_id: String,
    /// Set while the process that answers is not the admitted one.
    restarted: Option<Restarted>,
    /// Set after a jump of the clock: the node has no vote before this instant.
    excluded_until: Option<Instant>,
    refusal: Option<Refusal>,
    /// Keys with a content that the lock does not write, found by a script or a probe.
    damaged: BTreeSet<String>,
}

/// Why a node refuses writes.
#[derive(Debug, Clone)]
struct Refusal {
    /// Redis's own words.
    reason: String,
    since: Instant,
    /// The monitor has logged it.
    is_reported: bool,
}

/// One node.
#[derive(Debug)]
pub(crate) struct Node {
    index: usize,
    address: String,
    timeout: Duration,
    state: RwLock<State>,
    clock: Mutex<Clock>,
    /// Releases that the node has not confirmed.
    pending_releases: Mutex<VecDeque<Release>>,
    /// Wakes the monitor before its next regular check.
    pub(crate) check_now: Notify,
}

impl Node {
    /// A node without a connection. `timeout` limits each vote.
    pub(crate) fn new(index: usize, address: String, timeout: Duration) -> Self {
        Self {
            index,
            address,
            timeout,
            state: RwLock::default(),
            clock: Mutex::default(),
            pending_releases: Mutex::default(),
            check_now: Notify::new(),
        }
    }

    /// The node's number in this client, from 0, in the order in which the client learned of the nodes.
    pub(crate) fn index(&self) -> usize {
        self.index
    }

    /// `host:port`, the node's name in the membership.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Whether the node has a connection.
    pub(crate) fn is_connected(&self) -> bool {
        self.read(|state| state.connection.is_some())
    }

    /// Whether the node is connected and its data can be relied on.
    pub(crate) fn is_admitted(&self) -> bool {
        self.read(|state| state.connection.is_some() && state.restarted.is_none())
    }

    /// Whether the node may vote now.
    pub(crate) fn votes(&self) -> bool {
        self.read(State::votes)
    }

    /// The restart that keeps a connected node from voting.
    pub(crate) fn restarted(&self) -> Option<Restarted> {
        self.read(|state| state.restarted.clone().filter(|_| state.connection.is_some()))
    }

    /// The run id of the process that answers.
    pub(crate) fn run_id(&self) -> String {
        self.read(|state| state.run_id.clone())
    }

    /// Records that the node refused a write. It has no vote from now on.
    pub(crate) fn refuse(&self, reason: &str) {
        let (reason, since, is_reported) = (reason.to_owned(), Instant::now(), false);
        self.write(|state| _ = state.refusal.get_or_insert(Refusal { reason, since, is_reported }));
        self.check_now.notify_one();
    }

    /// Records that the node accepted a write sent at this time. Returns whether a reported refusal ends.
    pub(crate) fn accepted_write(&self, sent: Instant) -> bool {
        let mut was_reported = false;
        self.write(|state| {
            let before = |refusal: &mut Refusal| sent >= refusal.since + REFUSAL_POLL;
            let ended = state.refusal.take_if(before);
            was_reported = ended.is_some_and(|refusal| refusal.is_reported);
        });
        was_reported
    }

    /// Whether the node refuses writes.
    pub(crate) fn refuses_writes(&self) -> bool {
        self.read(|state| state.refusal.is_some())
    }

    /// The reason of a refusal that was not reported yet. Marks it as reported.
    pub(crate) fn take_unreported_refusal(&self) -> Option<String> {
        let mut reason = None;
        self.write(|state| {
            let unreported = state.refusal.as_mut().filter(|refusal| !refusal.is_reported);
            reason = unreported.map(|refusal| {
                refusal.is_reported = true;
                refusal.reason.clone()
            });
        });
        reason
    }

    /// Records that one of these keys is damaged. The node has no vote until it is repaired.
    pub(crate) fn mark_damaged(&self, keys: impl IntoIterator<Item = String>) {
        self.write(|state| state.damaged.extend(keys));
        self.check_now.notify_one();
    }

    /// The keys that may be damaged.
    pub(crate) fn damaged(&self) -> BTreeSet<String> {
        self.read(|state| state.damaged.clone())
    }

    /// Records that these keys were repaired.
    pub(crate) fn mark_repaired(&self, keys: &BTreeSet<String>) {
        self.write(|state| state.damaged.retain(|key| !keys.contains(key)));
    }

    /// Records what an error says about the node.
    fn record_error(&self, error: RedisError, call: &ScriptCall) -> NodeError {
        match NodeFault::of(&error) {
            Some(NodeFault::RefusesWrites) => self.refuse(&error.to_string()),
            Some(NodeFault::Damaged) => self.mark_damaged(call.keys()),
            None => {}
        }
        NodeError::Redis(error)
    }

    /// Keeps a release that failed. Drops the oldest beyond the limit: that lease has expired.
    pub(crate) fn add_pending_release(&self, release: Release) {
        let mut pending = lock(&self.pending_releases);
        if pending.len() == MAX_PENDING_RELEASES {
            pending.pop_front();
        }
        pending.push_back(release);
    }

    /// Removes and returns all pending releases.
    pub(crate) fn take_pending_releases(&self) -> VecDeque<Release> {
        std::mem::take(&mut lock(&self.pending_releases))
    }

    /// Runs a script that votes, within the node's time-out.
    pub(crate) async fn vote<T: FromRedisValue>(&self, call: &ScriptCall) -> Result<T, NodeError> {
        let voting = |state: &State| match &state.connection {
            None => Err(NodeError::Disconnected),
            Some(connection) if state.votes() => Ok(connection.clone()),
            Some(_) => Err(NodeError::Excluded),
        };
        let mut connection = self.read(voting)?;
        match timeout(self.timeout, call.invoke(&mut connection)).await {
            Ok(reply) => reply.map_err(|error| self.record_error(error, call)),
            Err(_elapsed) => Err(NodeError::TimedOut),
        }
    }

    /// Runs a script that does not vote. Only the connection limits its time.
    pub(crate) async fn run<T: FromRedisValue>(&self, call: &ScriptCall) -> Result<T, NodeError> {
        let mut connection = self.connection().ok_or(NodeError::Disconnected)?;
        call.invoke(&mut connection).await.map_err(|error| self.record_error(error, call))
    }

    /// The connection, if there is one.
    pub(crate) fn connection(&self) -> Option<MultiplexedConnection> {
        self.read(|state| state.connection.clone())
    }

    /// Records a new connection, the process that answers, and the admitted process.
    pub(crate) fn set_connected(
        &self,
        connection: MultiplexedConnection,
        run_id: &str,
        admitted: Option<&str>,
    ) {
        self.write(|state| {
            state.connection = Some(connection);
            run_id.clone_into(&mut state.run_id);
            (state.refusal, state.damaged) = (None, BTreeSet::new());
            let known = state.restarted.take().filter(|restarted| restarted.run_id == run_id);
            if admitted != Some(run_id) {
                let since = known.map_or_else(Instant::now, |restarted| restarted.since);
                let run_id = run_id.to_owned();
                state.restarted = Some(Restarted { run_id, since, blank: admitted.is_none() });
            }
        });
    }

    /// Records that this process lost its data while it ran.
    pub(crate) fn set_forgotten(&self, run_id: String) {
        self.write(|state| {
            state.restarted = Some(Restarted { run_id, since: Instant::now(), blank: true });
        });
    }

    /// Records that the connection is lost.
    pub(crate) fn set_disconnected(&self) {
        self.write(|state| state.connection = None);
    }

    /// Records that this process was admitted, unless the node has restarted again.
    pub(crate) fn set_admitted(&self, run_id: &str) {
        self.write(|state| {
            state.restarted.take_if(|restarted| restarted.run_id == run_id);
        });
    }

    /// Records a reading of the node's clock. Returns by how many microseconds the clock jumped.
    pub(crate) fn clock_jumped(&self, sample: ClockSample) -> Option<i64> {
        lock(&self.clock).jumped(sample)
    }

    /// Takes the node's vote away until this instant.
    pub(crate) fn exclude_until(&self, until: Instant) {
        self.write(|state| state.excluded_until = Some(until));
    }

    fn read<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        read(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write(&self, write: impl FnOnce(&mut State)) {
        write(&mut self.state.write().unwrap_or_else(PoisonError::into_inner));
    }
}

impl State {
    fn votes(&self) -> bool {
        self.connection.is_some()
            && self.restarted.is_none()
            && self.refusal.is_none()
            && self.damaged.is_empty()
            && self.excluded_until.is_none_or(|until| until <= Instant::now())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
