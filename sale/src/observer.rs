//! Reports of a sale, for metrics.

use std::fmt;
use std::sync::Arc;

use crate::batch_report::{BatchReport, Origin};
use crate::error::PurchaseError;
use crate::purchase::Receipt;

/// A task that runs on a timer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Job {
    /// Compares every value on every node, and repairs differences.
    Compare,
    /// Loads products that a node lacks.
    Load,
}

impl Job {
    /// All jobs.
    pub const ALL: [Self; 2] = [Self::Compare, Self::Load];

    /// The label in metrics.
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
    /// The node has no value.
    Missing,
    /// The value is older than the database's last change.
    Behind,
    /// The value has the version of the database's last change, but another number.
    Different,
    /// The value has a later version than any change of the database.
    Ahead,
    /// `Atomic`: the stock includes orders or changes that the database had and lost.
    DatabaseOlder,
}

impl Drift {
    /// All kinds.
    pub const ALL: [Self; 5] =
        [Self::Missing, Self::Behind, Self::Different, Self::Ahead, Self::DatabaseOlder];

    /// The label in metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Behind => "behind",
            Self::Different => "different",
            Self::Ahead => "ahead",
            Self::DatabaseOlder => "database_older",
        }
    }
}

/// Receives reports from many tasks at once. Each method must return at once, because buyers wait for
/// it.
pub trait Observer: fmt::Debug + Send + Sync {
    /// A buyer gets this answer.
    fn purchase(&self, _result: Result<&Receipt, &PurchaseError>) {}

    /// An order of several products was placed, changed or refused: its state, or a code of
    /// [`OrderError`](crate::OrderError).
    fn order(&self, _outcome: &'static str) {}

    /// The holds of as many orders ended without a payment.
    fn expired(&self, _orders: u64) {}

    /// As many buyers who waited for units were served.
    fn handed_out(&self, _orders: usize) {}

    /// A request for a coupon ended: `issued`, `replayed`, or a code of
    /// [`CouponError`](crate::CouponError).
    fn coupon(&self, _outcome: &'static str) {}

    /// A batch of this size is being decided.
    fn batch(&self, _size: usize) {}

    /// A mark of the caller of this task, which comes back with the report of its batch. `None`: no report is
    /// needed for it. Called once for each item of a batch.
    fn origin(&self) -> Option<Origin> {
        None
    }

    /// A batch ended, and some of its callers have marks. They are answered next.
    fn batch_ended(&self, _report: &BatchReport<'_>) {}

    /// A lease ended before the work under it.
    fn lease_lost(&self) {}

    /// A job ended.
    fn ran(&self, _job: Job) {}

    /// A value on a Redis node differed from the database.
    fn drifted(&self, _kind: Drift) {}

    /// A product's stock was written to Redis again, or the attempt failed.
    fn repaired(&self, _done: bool) {}

    /// The number of orders that Redis decided and the database does not have yet.
    fn unrecorded(&self, _orders: i64) {}

    /// Orders from Redis were recorded in the database, and others were refused by it.
    fn recorded(&self, _new: usize, _refused: usize) {}
}

/// Two observers that get the same reports. The second one marks callers.
#[derive(Debug)]
pub struct ObserverPair(pub Arc<dyn Observer>, pub Arc<dyn Observer>);

impl ObserverPair {
    fn each(&self, report: impl Fn(&dyn Observer)) {
        report(&*self.0);
        report(&*self.1);
    }
}

impl Observer for ObserverPair {
    fn purchase(&self, result: Result<&Receipt, &PurchaseError>) {
        self.each(|observer| observer.purchase(result));
    }

    fn order(&self, outcome: &'static str) {
        self.each(|observer| observer.order(outcome));
    }

    fn handed_out(&self, orders: usize) {
        self.each(|observer| observer.handed_out(orders));
    }

    fn coupon(&self, outcome: &'static str) {
        self.each(|observer| observer.coupon(outcome));
    }

    fn batch(&self, size: usize) {
        self.each(|observer| observer.batch(size));
    }

    fn origin(&self) -> Option<Origin> {
        self.1.origin()
    }

    fn batch_ended(&self, report: &BatchReport<'_>) {
        self.each(|observer| observer.batch_ended(report));
    }

    fn lease_lost(&self) {
        self.0.lease_lost();
        self.1.lease_lost();
    }

    fn ran(&self, job: Job) {
        self.each(|observer| observer.ran(job));
    }

    fn drifted(&self, kind: Drift) {
        self.each(|observer| observer.drifted(kind));
    }

    fn repaired(&self, done: bool) {
        self.each(|observer| observer.repaired(done));
    }

    fn unrecorded(&self, orders: i64) {
        self.each(|observer| observer.unrecorded(orders));
    }

    fn recorded(&self, new: usize, refused: usize) {
        self.each(|observer| observer.recorded(new, refused));
    }
}
