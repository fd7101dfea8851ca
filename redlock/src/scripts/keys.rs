//! The keys of a node. Replicas of other versions use the same names.

use std::fmt;

/// The membership: a hash with the fields `epoch`, `nodes` and `joining`.
pub(crate) const MEMBERS: &str = "redlock:members";
/// The run id of the process that was admitted to vote.
pub(crate) const ADMITTED: &str = "redlock:admitted";
/// The counter that stands for every missing counter.
pub(crate) const FLOOR: &str = "redlock:floor";
/// Patterns of the counters that no majority may forget: tokens, tickets, the floor.
pub(crate) const COUNTERS: [&str; 3] = ["fence:*", "ticket:*", FLOOR];
/// The channel of release notices, shared by all resources.
pub(crate) const RELEASES: &str = "redlock:released";
/// The channel on which a node reports a lock to which it gave an expiry.
pub(crate) const REPAIRED: &str = "redlock:repaired";
/// A key that never exists, so that a conditional write to it changes nothing (`probe.lua`).
pub(crate) const NOTHING: &str = "redlock:nothing";

/// A key of one resource: the prefix of its kind, and the resource.
pub(crate) struct Key<'a>(&'static str, &'a str);

impl fmt::Display for Key<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(kind, resource) = self;
        f.write_str(kind)?;
        f.write_str(resource)
    }
}

/// The current owner: `lock:<resource>`.
pub(crate) fn lock_key(resource: &str) -> Key<'_> {
    Key("lock:", resource)
}

/// The highest granted token.
pub(crate) fn fence_key(resource: &str) -> Key<'_> {
    Key("fence:", resource)
}

/// The highest issued ticket.
pub(crate) fn ticket_key(resource: &str) -> Key<'_> {
    Key("ticket:", resource)
}

/// The token under which the value was written.
pub(crate) fn version_key(resource: &str) -> Key<'_> {
    Key("version:", resource)
}

/// The value that the last holder left behind: the resource's own name.
pub(crate) fn value_key(resource: &str) -> Key<'_> {
    Key("", resource)
}

/// The waiting slots, by rank.
pub(crate) fn queue_key(resource: &str) -> Key<'_> {
    Key("queue:", resource)
}

/// The waiting slots' requests.
pub(crate) fn requests_key(resource: &str) -> Key<'_> {
    Key("queue-requests:", resource)
}

/// The waiting slots' time limits.
pub(crate) fn limits_key(resource: &str) -> Key<'_> {
    Key("queue-limits:", resource)
}

/// The resource of a key, for every kind of key except the value.
pub(crate) fn resource_of(key: &str) -> Option<&str> {
    let kinds =
        ["lock:", "fence:", "ticket:", "version:", "queue:", "queue-limits:", "queue-requests:"];
    kinds.iter().find_map(|kind| key.strip_prefix(kind))
}
