//! One clock for all processes of the machine.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// Nanoseconds by `CLOCK_MONOTONIC`, which all processes of a Linux machine share and nobody sets.
///
/// 0 on a system without that clock: then nothing in a history is before anything else, and most checks find nothing.
#[must_use]
pub fn now() -> u64 {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |time| nanoseconds(Duration::from(time)))
}

/// A duration as the distance of two times.
#[must_use]
pub fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
