//! The newest known ends of the streams, shared by all callers.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::Mutex;
use tokio::time::Instant;

/// An entry's id: milliseconds and a number.
pub(crate) type EntryId = (u64, u64);
/// First and last entry of each stream that has one, by product.
pub(crate) type StreamEnds = HashMap<String, (EntryId, EntryId)>;

/// The newest reply of Redis, and the time of the request.
#[derive(Debug, Default)]
pub(crate) struct StreamEndsCache {
    pub(crate) newest: Mutex<Option<(Instant, Arc<StreamEnds>)>>,
}
