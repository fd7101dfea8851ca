//! What a sale reports of itself, so that it can be counted.

use std::fmt;

use crate::error::PurchaseError;
use crate::purchase::Receipt;

/// What is done on a timer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Job {
    /// Every value on every node is compared, and repaired.
    Compare,
    /// Products that a node lacks are loaded.
    Load,
}

impl Job {
    /// As it stands in metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Compare => "compare",
            Self::Load => "load",
        }
    }
}

/// How a stock value on a Redis node differs from the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drift {
    /// The node has none.
    Missing,
    /// It was written before the database's last change, and stayed.
    Behind,
    /// It is said to be the database's last, and is another.
    Different,
    /// It is said to be later than anything the database knows.
    Ahead,
}

impl Drift {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Missing, Self::Behind, Self::Different, Self::Ahead];

    /// As it stands in metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Behind => "behind",
            Self::Different => "different",
            Self::Ahead => "ahead",
        }
    }
}

/// Receives reports from many tasks at once. Each method returns at once: buyers wait for it.
pub trait Observer: fmt::Debug + Send + Sync {
    /// A buyer gets this answer.
    fn purchase(&self, _result: Result<&Receipt, &PurchaseError>) {}

    /// An order of several products was placed, changed or refused; a state or a code of
    /// [`OrderError`](crate::OrderError).
    fn order(&self, _outcome: &'static str) {}

    /// A request for a coupon ended; a code of [`CouponError`](crate::CouponError) or what was done.
    fn coupon(&self, _outcome: &'static str) {}

    /// So many purchases are decided together.
    fn batch(&self, _size: usize) {}

    /// A lease ended before what was done under it.
    fn lease_lost(&self) {}

    /// A job ended.
    fn ran(&self, _job: Job) {}

    /// A value on a Redis node did not agree with the database.
    fn drifted(&self, _kind: Drift) {}

    /// The stock of a product was written to Redis again, or could not be.
    fn repaired(&self, _done: bool) {}

    /// So many orders that Redis decided wait to be recorded in the database.
    fn unrecorded(&self, _orders: i64) {}

    /// Orders that Redis decided were recorded, and others could not be.
    fn recorded(&self, _new: usize, _refused: usize) {}
}
