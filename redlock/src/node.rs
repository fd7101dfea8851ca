//! One Redis node: the connection there is, whether the node may vote, and the calls made over it.
//!
//! Commands of one node travel over one ordered connection, so a release sent after a vote that
//! was not waited for is also executed after it. A node without a connection fails at once; one
//! that stopped answering costs its timeout until its keeper has noticed.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use redis::RedisError;
use redis::aio::MultiplexedConnection;
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::call::Call;
use crate::clock::{Clock, Sample};
use crate::script::{Handover, Left, Stays};
use crate::trouble::Trouble;

const OWED_AT_MOST: usize = 256;
/// How often a node that refused a write is tried again.
pub(crate) const REFUSAL_POLL: Duration = Duration::from_millis(100);

/// A node did not answer; the reason is logged by the keeper.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NodeError {
    #[error("not connected")]
    Disconnected,
    #[error("kept out of votes")]
    Excluded,
    #[error("no answer in time")]
    TimedOut,
    #[error(transparent)]
    Redis(#[from] RedisError),
}

/// A release on its way to every node.
#[derive(Debug, Clone)]
pub(crate) struct Release {
    pub(crate) owner: String,
    pub(crate) line: Left,
    pub(crate) handovers: Vec<Handover>,
}

impl Release {
    /// As it is repeated: with the place that the line has by then. A node that granted the hold
    /// may not have the line in its queue.
    pub(crate) fn later(mut self) -> Self {
        let lowest = self.line.turn.as_ref().map_or(0, |turn| turn.lowest_ticket());
        self.line.stays = if lowest > 0 { Stays::At(lowest) } else { Stays::AsItIs };
        // Whoever waits for that has asked anew or given up.
        self.line.asks = None;
        self
    }
}

/// A node that restarted, as far as this process knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Restarted {
    /// Redis's id of the process that answers now.
    pub(crate) run_id: String,
    /// When this process first heard of it; it had restarted by then.
    pub(crate) since: Instant,
    /// It was never admitted, as far as it remembers.
    pub(crate) blank: bool,
}

#[derive(Debug, Default)]
struct State {
    connection: Option<MultiplexedConnection>,
    run_id: String,
    /// Set while the process that answers is not the one that was admitted to vote.
    restarted: Option<Restarted>,
    /// Its clock jumped: it does not vote before this.
    clock_unsound_until: Option<Instant>,
    refusal: Option<Refusal>,
    /// Keys that hold something else than they should, as far as a script or a probe found out.
    damaged: BTreeSet<String>,
}

/// A node that answers and takes no writes.
#[derive(Debug, Clone)]
struct Refusal {
    /// Redis's own words.
    reason: String,
    since: Instant,
    /// The keeper has told of it.
    told: bool,
}

#[derive(Debug)]
pub(crate) struct Node {
    slot: usize,
    address: String,
    timeout: Duration,
    state: RwLock<State>,
    clock: Mutex<Clock>,
    /// Releases that it has not confirmed, to be repeated when it is back.
    owed: Mutex<VecDeque<Release>>,
    /// Wakes the keeper before its time.
    pub(crate) look: Notify,
}

impl Node {
    pub(crate) fn new(slot: usize, address: String, timeout: Duration) -> Self {
        let (state, clock, owed) = (RwLock::default(), Mutex::default(), Mutex::default());
        Self { slot, address, timeout, state, clock, owed, look: Notify::new() }
    }

    /// Numbers the nodes of a client in the order in which it heard of them, from 0.
    pub(crate) fn slot(&self) -> usize {
        self.slot
    }

    /// `host:port`: the node's name in the membership.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.read(|state| state.connection.is_some())
    }

    /// Whether its memory can be relied on.
    pub(crate) fn is_admitted(&self) -> bool {
        self.read(|state| state.connection.is_some() && state.restarted.is_none())
    }

    pub(crate) fn votes(&self) -> bool {
        self.read(State::votes)
    }

    /// Why it is connected and yet not admitted.
    pub(crate) fn restarted(&self) -> Option<Restarted> {
        self.read(|state| state.restarted.clone().filter(|_| state.connection.is_some()))
    }

    /// The process that answers was started under this id.
    pub(crate) fn run_id(&self) -> String {
        self.read(|state| state.run_id.clone())
    }

    /// Takes in that it refused a write; it has no vote from now on.
    pub(crate) fn refuse(&self, reason: &str) {
        let (reason, since, told) = (reason.to_owned(), Instant::now(), false);
        self.write(|state| _ = state.refusal.get_or_insert(Refusal { reason, since, told }));
        self.look.notify_one();
    }

    /// It took a write that was sent at this time. Whether the keeper had told that it does not.
    pub(crate) fn takes_writes(&self, sent: Instant) -> bool {
        let mut told = false;
        self.write(|state| {
            let before = |refusal: &mut Refusal| sent >= refusal.since + REFUSAL_POLL;
            told = state.refusal.take_if(before).is_some_and(|refusal| refusal.told);
        });
        told
    }

    pub(crate) fn refuses_writes(&self) -> bool {
        self.read(|state| state.refusal.is_some())
    }

    /// Why it takes no writes, if that was not told yet.
    pub(crate) fn refusal_to_tell(&self) -> Option<String> {
        let mut reason = None;
        self.write(|state| {
            let untold = state.refusal.as_mut().filter(|refusal| !refusal.told);
            reason = untold.map(|refusal| {
                refusal.told = true;
                refusal.reason.clone()
            });
        });
        reason
    }

    /// Takes in that something is wrong with one of these keys; it has no vote until it is repaired.
    pub(crate) fn damage(&self, keys: impl IntoIterator<Item = String>) {
        self.write(|state| state.damaged.extend(keys));
        self.look.notify_one();
    }

    pub(crate) fn damaged(&self) -> BTreeSet<String> {
        self.read(|state| state.damaged.clone())
    }

    pub(crate) fn repaired(&self, keys: &BTreeSet<String>) {
        self.write(|state| state.damaged.retain(|key| !keys.contains(key)));
    }

    /// What an error says about the node is taken in.
    fn note(&self, error: RedisError, call: &Call) -> NodeError {
        match Trouble::of(&error) {
            Some(Trouble::RefusesWrites) => self.refuse(&error.to_string()),
            Some(Trouble::Damaged) => self.damage(call.keys()),
            None => {}
        }
        NodeError::Redis(error)
    }

    /// Remembers a release that failed. Only the latest: an older lease has ended by itself.
    pub(crate) fn owe(&self, release: Release) {
        let mut owed = lock(&self.owed);
        if owed.len() == OWED_AT_MOST {
            owed.pop_front();
        }
        owed.push_back(release);
    }

    pub(crate) fn take_owed(&self) -> VecDeque<Release> {
        std::mem::take(&mut lock(&self.owed))
    }

    /// Runs a script that votes, bounded by the node's timeout.
    pub(crate) async fn vote<T: redis::FromRedisValue>(&self, call: &Call) -> Result<T, NodeError> {
        let voting = |state: &State| match &state.connection {
            None => Err(NodeError::Disconnected),
            Some(connection) if state.votes() => Ok(connection.clone()),
            Some(_) => Err(NodeError::Excluded),
        };
        let mut connection = self.read(voting)?;
        match timeout(self.timeout, call.invoke(&mut connection)).await {
            Ok(answer) => answer.map_err(|error| self.note(error, call)),
            Err(_elapsed) => Err(NodeError::TimedOut),
        }
    }

    /// Runs a script that does not vote, bounded by the connection only.
    pub(crate) async fn run<T: redis::FromRedisValue>(&self, call: &Call) -> Result<T, NodeError> {
        let mut connection = self.connection().ok_or(NodeError::Disconnected)?;
        call.invoke(&mut connection).await.map_err(|error| self.note(error, call))
    }

    pub(crate) fn connection(&self) -> Option<MultiplexedConnection> {
        self.read(|state| state.connection.clone())
    }

    /// The process that answers now, and whether it is the one that was admitted.
    pub(crate) fn connected(
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

    /// This process of it was admitted, and lost its data since.
    pub(crate) fn forgot(&self, run_id: String) {
        self.write(|state| {
            state.restarted = Some(Restarted { run_id, since: Instant::now(), blank: true });
        });
    }

    pub(crate) fn disconnected(&self) {
        self.write(|state| state.connection = None);
    }

    /// This process of it was admitted; it may have restarted again since.
    pub(crate) fn admitted(&self, run_id: &str) {
        self.write(|state| {
            state.restarted.take_if(|restarted| restarted.run_id == run_id);
        });
    }

    /// Takes in a reading of its clock; says by how many microseconds it jumped.
    pub(crate) fn clock_jumped(&self, sample: Sample) -> Option<i64> {
        lock(&self.clock).jumped(sample)
    }

    pub(crate) fn exclude_until(&self, until: Instant) {
        self.write(|state| state.clock_unsound_until = Some(until));
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
            && self.clock_unsound_until.is_none_or(|until| until <= Instant::now())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
