//! The newest answer of Redis about what waits in the streams, shared by all who ask.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::Mutex;
use tokio::time::Instant;

/// An entry's id: milliseconds and a number.
pub(crate) type EntryId = (u64, u64);
/// First and last entry of each stream that has one, by product.
pub(crate) type Ends = HashMap<String, (EntryId, EntryId)>;

/// The newest answer of Redis, and when it was asked for.
#[derive(Debug, Default)]
pub(crate) struct StreamEnds {
    pub(crate) newest: Mutex<Option<(Instant, Arc<Ends>)>>,
}
