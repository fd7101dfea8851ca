//! The keys that a node has for a resource.

use std::fmt;

/// A key of a resource: what it is, and whose.
pub(crate) struct Key<'a>(&'static str, &'a str);

impl fmt::Display for Key<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(kind, resource) = self;
        f.write_str(kind)?;
        f.write_str(resource)
    }
}

/// The key whose value is the current owner: `lock:<resource>`.
pub(crate) fn lock_key(resource: &str) -> Key<'_> {
    Key("lock:", resource)
}

/// The highest token ever granted.
pub(crate) fn fence_key(resource: &str) -> Key<'_> {
    Key("fence:", resource)
}

/// The highest ticket issued.
pub(crate) fn ticket_key(resource: &str) -> Key<'_> {
    Key("ticket:", resource)
}

/// The token under which the value was written.
pub(crate) fn version_key(resource: &str) -> Key<'_> {
    Key("version:", resource)
}

/// The resource that one of its keys belongs to, but for the key of its value.
pub(crate) fn resource_of(key: &str) -> Option<&str> {
    let kinds =
        ["lock:", "fence:", "ticket:", "version:", "queue:", "queue-limits:", "queue-requests:"];
    kinds.iter().find_map(|kind| key.strip_prefix(kind))
}

/// What the last holder left.
pub(crate) fn value_key(resource: &str) -> Key<'_> {
    Key("", resource)
}

/// Who waits, by place.
pub(crate) fn queue_key(resource: &str) -> Key<'_> {
    Key("queue:", resource)
}

/// What each of them asks for.
pub(crate) fn requests_key(resource: &str) -> Key<'_> {
    Key("queue-requests:", resource)
}

/// Until when each of them is believed alive.
pub(crate) fn limits_key(resource: &str) -> Key<'_> {
    Key("queue-limits:", resource)
}
