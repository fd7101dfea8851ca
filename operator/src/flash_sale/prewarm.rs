//! More replicas around the start of a sale: pure functions of the spec and of the time, which the driver passes in.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::crd::FlashSaleSpec;

/// The number of replicas at `now`; with an autoscaler, the minimum.
#[must_use]
pub fn replicas(spec: &FlashSaleSpec, now: Timestamp) -> i32 {
    let declared = spec.app.replicas;
    match (&spec.app.prewarm, window(spec)) {
        (Some(prewarm), Some([from, until])) if from <= now && now < until => {
            declared.max(prewarm.replicas)
        }
        _ => declared,
    }
}

/// First and last moment with more replicas.
#[must_use]
pub fn window(spec: &FlashSaleSpec) -> Option<[Timestamp; 2]> {
    let (prewarm, start) = (spec.app.prewarm.as_ref()?, spec.starts_at?);
    let before = signed(prewarm.before.into());
    let from = start.checked_sub(before).unwrap_or(Timestamp::MIN);
    let until = start.checked_add(signed(prewarm.after.into())).unwrap_or(Timestamp::MAX);
    Some([from, spec.ends_at.map_or(until, |end| until.min(end))])
}

fn signed(time: Duration) -> SignedDuration {
    SignedDuration::try_from(time).unwrap_or(SignedDuration::MAX)
}
