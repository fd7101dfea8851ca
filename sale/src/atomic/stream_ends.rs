//! The newest known ends of the streams, shared by all callers.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::Mutex;
use tokio::time::Instant;
use uuid::Uuid;

/// An entry's id: milliseconds and a number.
type EntryId = (u64, u64);
/// The ends of each stream that has an entry, by product.
pub(crate) type StreamEnds = HashMap<String, Ends>;

/// The largest assumed difference between the clocks of two servers, in ms.
const MAX_CLOCK_DIFFERENCE: u64 = 60_000;

/// The ends of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ends {
    pub(crate) first: EntryId,
    pub(crate) last: EntryId,
    /// When the first order of the first entry was made, in milliseconds since 1970.
    made: u64,
}

impl Ends {
    /// Reads the ids of the first and last entry and of the first order. `None`: the stream is empty.
    pub(crate) fn read(first: &str, last: &str, order: &str) -> Option<Self> {
        let (first, last) = (entry_id(first)?, entry_id(last)?);
        // By the clock of Redis, whose entries never go back even if the clock does.
        let made = order.parse().ok().and_then(made_at).unwrap_or(first.0);
        Some(Self { first, last, made })
    }

    /// Whether this order may be in the stream: later orders are behind the first one.
    pub(crate) fn may_have(&self, order: Uuid) -> bool {
        made_at(order).is_some_and(|made| made + MAX_CLOCK_DIFFERENCE >= self.made)
    }
}

fn entry_id(id: &str) -> Option<EntryId> {
    let (millis, number) = id.split_once('-')?;
    Some((millis.parse().ok()?, number.parse().ok()?))
}

/// The time in an order's id, in milliseconds since 1970; `None`: the id has no time, so it is no
/// order's.
fn made_at(id: Uuid) -> Option<u64> {
    let (seconds, nanos) = id.get_timestamp()?.to_unix();
    Some(seconds * 1_000 + u64::from(nanos) / 1_000_000)
}

/// The newest reply of Redis, and the time of the request.
#[derive(Debug, Default)]
pub(crate) struct StreamEndsCache {
    pub(crate) newest: Mutex<Option<(Instant, Arc<StreamEnds>)>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An order's id with this time, in milliseconds since 1970.
    fn order(millis: u64) -> Uuid {
        uuid::Builder::from_unix_timestamp_millis(millis, &[0; 10]).into_uuid()
    }

    #[test]
    fn an_order_that_was_made_long_before_the_first_one_is_not_in_the_stream() {
        let ends = Ends::read("5000000-0", "5000001-3", &order(3_000_000).to_string()).unwrap();
        assert_eq!((ends.first, ends.last), ((5_000_000, 0), (5_000_001, 3)));
        for (made, may_be) in [(2_939_000, false), (2_940_000, true), (9_000_000, true)] {
            assert_eq!(ends.may_have(order(made)), may_be, "{made}");
        }
        assert!(!ends.may_have(Uuid::from_u128(7)), "no id of an order");
    }

    #[test]
    fn without_an_order_the_time_of_the_entry_counts() {
        let ends = Ends::read("5000000-0", "5000000-0", "").unwrap();
        assert!(!ends.may_have(order(4_939_000)));
        assert!(ends.may_have(order(4_940_000)));
        assert_eq!(Ends::read("", "", ""), None);
    }
}
