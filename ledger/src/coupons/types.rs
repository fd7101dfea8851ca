//! Coupons, and the answers to requests for one.

use uuid::Uuid;

/// A kind of coupon.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Coupon {
    /// Names it in the API and in Redis.
    pub id: String,
    /// How many there are in all.
    pub quantity: i64,
    /// How many of them have been issued.
    pub issued: i64,
    /// Start of the issue, in milliseconds since 1970.
    pub starts_at_ms: Option<i64>,
    /// End of the issue, exclusive, in milliseconds since 1970.
    pub ends_at_ms: Option<i64>,
    /// The highest fencing token that changed the coupon.
    pub fence: i64,
}

/// A coupon that a buyer has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issue {
    /// In order of time.
    pub id: Uuid,
    /// Which kind.
    pub coupon_id: String,
    /// Whose.
    pub buyer: String,
}

/// The decision on a request for a coupon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Issued {
    /// Issued now.
    Now(Issue),
    /// The buyer already has one.
    Before(Issue),
    /// None is left.
    Exhausted,
    /// Another account of the person has one.
    LimitReached,
}

/// What one transaction issued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issuance {
    /// One for each buyer, in their order.
    pub outcomes: Vec<Issued>,
    /// Coupons left after it.
    pub remaining: i64,
}
