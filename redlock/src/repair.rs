//! What a node says of itself, and how keys of it are repaired that hold something else than they
//! should: somebody set them by hand, restored them, or gave them to something else.
//!
//! A lock that never expires gets an expiry from the script that finds it. Any other damage makes the
//! script fail and change nothing, and the node has no vote until its keeper has repaired it. A node
//! whose counters or membership were damaged has forgotten them, so it counts as wiped
//! ([`crate::quarantine`]).

use std::collections::BTreeSet;

use redis::aio::MultiplexedConnection;
use redis::{FromRedisValue, ParsingError, RedisResult, Value};
use tracing::warn;

use crate::keys::resource_of;
use crate::members::Membership;
use crate::node::Node;
use crate::observe::Exclusion;
use crate::roster::Roster;
use crate::script::{ADMITTED, MEMBERS};

/// What `probe.lua` answers.
#[derive(Debug)]
pub(crate) struct Probe {
    /// The node's clock, in microseconds.
    pub(crate) micros: i64,
    pub(crate) membership: Membership,
    /// The run id of the process that was admitted; empty: none.
    pub(crate) admitted: String,
    /// Why it takes no writes; empty: it does.
    pub(crate) refusal: String,
    /// Those of the node's own keys that are damaged.
    pub(crate) damaged: Vec<String>,
}

impl FromRedisValue for Probe {
    fn from_redis_value(value: Value) -> Result<Self, ParsingError> {
        type Parts = (i64, u64, String, String, String, String, Vec<String>);
        let (micros, epoch, nodes, joining, admitted, refusal, damaged): Parts =
            redis::from_redis_value(value)?;
        let membership = Membership::new(epoch, &nodes, &joining);
        Ok(Self { micros, membership, admitted, refusal, damaged })
    }
}

/// Repairs these keys. Whether the node forgot by that what no node may forget.
pub(crate) async fn repair(
    node: &Node,
    connection: &mut MultiplexedConnection,
    damaged: &BTreeSet<String>,
    roster: &Roster,
) -> RedisResult<bool> {
    let names: BTreeSet<&str> = damaged.iter().filter_map(|key| resource_of(key)).collect();
    let known = |name: &str| {
        let topic = roster.board.topic(name);
        (topic.highest_token(), topic.highest_ticket())
    };
    let resources: Vec<_> = names.iter().map(|name| (*name, known(name))).collect();
    let call =
        roster.scripts.repair(damaged.contains(MEMBERS), damaged.contains(ADMITTED), &resources);
    let repaired: Vec<String> = call.invoke(connection).await?;
    // Other clients find the same.
    if !repaired.is_empty() {
        warn!(node = node.address(), keys = ?repaired, "lock node repaired: keys held something else than the lock writes there");
        roster.observer.node_excluded(node.slot(), Exclusion::Damaged);
    }
    Ok(repaired.iter().any(|key| !key.starts_with("queue")))
}
