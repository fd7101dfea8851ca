//! What an observer that follows single callers learns of a batch.

use std::any::Any;
use std::sync::Arc;
use std::time::Instant;

/// A mark of a caller. Only the observer, which makes it, knows what it is.
pub type Origin = Arc<dyn Any + Send + Sync>;

/// What a batch decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchKind {
    /// Purchases of one product each.
    Purchases,
    /// Orders of several products.
    Orders,
    /// Coupons.
    Coupons,
}

/// What a batch waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepKind {
    /// The lock, from the request to the grant.
    Lock,
    /// The database.
    Database,
    /// The Redis node that decides.
    Redis,
}

/// A step of a batch.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    /// What it waited for.
    pub kind: StepKind,
    /// Its start.
    pub started: Instant,
    /// Its end.
    pub ended: Instant,
}

/// A batch that ended.
#[derive(Debug)]
pub struct BatchReport<'a> {
    /// What it decided.
    pub kind: BatchKind,
    /// Its items, with and without marks.
    pub size: usize,
    /// The marks of its callers.
    pub origins: Vec<&'a Origin>,
    /// Its steps, in their order; at least one.
    pub steps: &'a [Step],
    /// Why the batch as a whole, or a resource of it, decided nothing. `None`: everything was decided.
    pub failure: Option<&'static str>,
}
