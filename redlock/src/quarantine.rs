//! When a node that restarted may vote again.
//!
//! It may have forgotten locks and counters: its last second, or everything. It votes again when
//!
//! 1. every lease that it may have forgotten is over: after the longest lease since its restart
//!    was seen. Acquisitions that counted its votes are over by then as well, since none counts
//!    votes longer than a lease;
//! 2. its counters are as high as those that a majority has without it. Every majority it was part
//!    of before shares a node with that one. While the membership changes, that is a majority of
//!    each set.
//!
//! Then its process is written down as admitted, in the node itself, for all clients.
//!
//! Where there is no majority to learn from, because others restarted or are away, a node that has
//! its data learns from all that are there, and leaps over what it may have forgotten: its last
//! second (`appendfsync everysec`). A node that lost its data waits for a majority, unless a
//! majority restarted at once: then there is nothing to wait for. Tokens may repeat in that case,
//! and only what the lock guards can tell.
//!
//! The rules are checked by `redlock/model`, which has a counterexample for each one left out.

use std::collections::HashMap;
use std::sync::Arc;

use redis::aio::MultiplexedConnection;
use redis::{AsyncCommands, RedisResult, ScanOptions};
use tracing::warn;

use crate::members::{Members, Membership};
use crate::node::{Node, Restarted};
use crate::roster::Roster;
use crate::script::{ADMITTED, COUNTERS, FLOOR, HIGHEST_COUNTER, MEMBERS, is_counter};

/// Keys that go into one call.
const CHUNK: usize = 500;
/// More tokens than a resource is granted in the second that a node with its data may forget.
const LEAP: u64 = 1 << 20;

/// What a node knows that no majority may forget.
#[derive(Debug, Default)]
pub(crate) struct Knowledge {
    /// Counters of tokens and tickets, by their keys.
    counters: HashMap<String, u64>,
    membership: Membership,
}

impl Knowledge {
    pub(crate) fn epoch(&self) -> u64 {
        self.membership.epoch
    }

    /// Leaps over all tokens that a node may have granted in the time that it forgot; those of
    /// resources that nobody here knows included.
    fn leap(&mut self) {
        self.counters.entry(FLOOR.to_owned()).or_default();
        for counter in self.counters.values_mut() {
            *counter = (*counter + LEAP).min(HIGHEST_COUNTER);
        }
    }
}

/// Whether the node may vote; lets it if its time has come.
pub(crate) async fn may_vote(
    node: &Node,
    connection: &mut MultiplexedConnection,
    restarted: &Restarted,
    admitted: &str,
    roster: &Arc<Roster>,
) -> RedisResult<bool> {
    if admitted == restarted.run_id {
        return Ok(true);
    }
    #[cfg(feature = "ablation")]
    if roster.quarantine_is_off {
        return Ok(true);
    }
    if !roster.is_first_use(&restarted.run_id) {
        let members = roster.members();
        let Some(teachers) = teachers(node, restarted, &members, roster) else {
            return Ok(false);
        };
        let Some(mut knowledge) = learn(&members, &members.sets, 0, teachers.who).await else {
            return Ok(false);
        };
        if knowledge.epoch() > members.membership.epoch {
            // Other nodes count by now; what these know may not be enough.
            roster.adopt(knowledge.membership);
            return Ok(false);
        }
        if !teachers.are_majority {
            knowledge.leap();
        }
        teach(connection, &knowledge, roster).await?;
    }
    connection.set::<_, _, ()>(ADMITTED, &restarted.run_id).await?;
    Ok(true)
}

/// Whom to learn from.
struct Teachers {
    who: fn(&Node) -> bool,
    /// A majority that never forgot, so nothing is unknown to them.
    are_majority: bool,
}

/// `None`: it is too early, or it is none of the members.
fn teachers(
    node: &Node,
    restarted: &Restarted,
    members: &Members,
    roster: &Roster,
) -> Option<Teachers> {
    let is_member = members.nodes.iter().any(|member| member.address() == node.address());
    if !is_member || restarted.since.elapsed() < roster.longest_lease {
        return None;
    }
    if members.majority_of_each(Node::is_admitted) {
        return Some(Teachers { who: Node::is_admitted, are_majority: true });
    }
    let all_there = members.majority_of_each(Node::is_connected);
    let remembers = |node: &Node| node.restarted().is_none();
    let majority_restarted = !members.majority_of_each(remembers);
    if !all_there || (restarted.blank && !majority_restarted) {
        return None;
    }
    warn!(
        node = node.address(),
        blank = restarted.blank,
        "lock node restarted, and there is no majority to learn from: fencing tokens may repeat"
    );
    Some(Teachers { who: Node::is_connected, are_majority: false })
}

/// What a majority of each of these sets knows together, of nodes that are so and say that they
/// have this epoch at least.
pub(crate) async fn learn(
    members: &Members,
    sets: &[Vec<usize>],
    epoch: u64,
    so: fn(&Node) -> bool,
) -> Option<Knowledge> {
    let asked = members.nodes.iter().map(async |node| {
        let mut connection = node.connection().filter(|_| so(node))?;
        match read(&mut connection).await.ok()? {
            Ok(known) => Some(known).filter(|known| known.epoch() >= epoch),
            Err(damaged) => {
                node.damage(damaged);
                None
            }
        }
    });
    let answers = futures::future::join_all(asked).await;
    if !Members::majority(sets, |position| answers[position].is_some()) {
        return None;
    }
    let mut known = Knowledge::default();
    for answer in answers.into_iter().flatten() {
        for (key, counter) in answer.counters {
            let highest = known.counters.entry(key).or_default();
            *highest = counter.max(*highest);
        }
        if answer.membership.epoch > known.membership.epoch {
            known.membership = answer.membership;
        }
    }
    Some(known)
}

/// What a node knows, or those of its counters that are none: a node with one of them does not know
/// what it granted.
async fn read(
    connection: &mut MultiplexedConnection,
) -> RedisResult<Result<Knowledge, Vec<String>>> {
    // Before the counters: what is granted in between is granted under this epoch or a later one.
    let fields = ["epoch", "nodes", "joining"];
    let membership = redis::cmd("HMGET").arg(MEMBERS).arg(&fields).query_async(connection).await?;
    let mut keys: Vec<String> = Vec::new();
    for pattern in COUNTERS {
        let options = ScanOptions::default().with_pattern(pattern).with_count(CHUNK);
        let mut found = connection.scan_options::<String>(options).await?;
        while let Some(key) = found.next_item().await {
            keys.push(key?);
        }
    }
    let (mut counters, mut damaged) = (HashMap::new(), Vec::new());
    for chunk in keys.chunks(CHUNK) {
        // Nothing for what is no string.
        let values: Vec<Option<String>> =
            redis::cmd("MGET").arg(chunk).query_async(connection).await?;
        for (key, value) in chunk.iter().zip(values) {
            let counter = value.and_then(|value| value.parse().ok());
            match counter.filter(|counter| is_counter(*counter)) {
                Some(counter) => _ = counters.insert(key.clone(), counter),
                None => damaged.push(key.clone()),
            }
        }
    }
    Ok(if damaged.is_empty() { Ok(Knowledge { counters, membership }) } else { Err(damaged) })
}

/// Raises a node that lost its data above all that this client knows was granted.
pub(crate) async fn remind(
    connection: &mut MultiplexedConnection,
    roster: &Arc<Roster>,
) -> RedisResult<()> {
    let membership = roster.members().membership.clone();
    let mut known = Knowledge { counters: roster.board.counters(), membership };
    known.leap();
    teach(connection, &known, roster).await
}

/// Raises a node to what others know.
pub(crate) async fn teach(
    connection: &mut MultiplexedConnection,
    knowledge: &Knowledge,
    roster: &Roster,
) -> RedisResult<()> {
    let counters: Vec<_> = knowledge.counters.iter().collect();
    let none: &[(&String, &u64)] = &[];
    let chunks = counters.chunks(CHUNK);
    for chunk in if counters.is_empty() { vec![none] } else { chunks.collect() } {
        let call = roster.scripts.raise(&knowledge.membership, chunk);
        call.invoke::<u64>(connection).await?;
    }
    Ok(())
}
