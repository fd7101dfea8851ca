//! Bounds of times, the same for settings, requests and the catalog file. `bounds.yaml` at the root of the
//! repository has the same bounds as cases: the tests of this crate and those of the resource definition
//! read them all.

use std::ops::RangeInclusive;
use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::temporal::Pieces;

/// Of `LOCK_WAIT_SECONDS`, and of a product's wait.
pub const WAIT_TIMEOUT: RangeInclusive<Duration> =
    Duration::from_millis(1)..=Duration::from_mins(1);
/// Of `LOCK_TIMEOUT_SECONDS` and `LOCK_LONGEST_LEASE_SECONDS`.
pub const LEASE_TIME: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_mins(1);
/// Of `LOCK_NODE_TIMEOUT_SECONDS`.
pub const NODE_TIMEOUT: RangeInclusive<Duration> =
    Duration::from_millis(1)..=Duration::from_secs(5);
/// Of `HOLD_SECONDS`, and of a product's hold.
pub const HOLD: RangeInclusive<Duration> = Duration::from_secs(5)..=Duration::from_hours(24);

/// How many times as long as `LOCK_NODE_TIMEOUT_SECONDS` a lease must be, and longer: asking the nodes
/// and giving back what a minority granted may each take that long.
pub const NODE_TIMEOUTS_PER_LEASE: u32 = 2;

/// 0001-01-01T00:00:00Z to 9999-12-30T22:00:00Z: what `jiff` can hold, in years of four digits.
const MOMENT: RangeInclusive<Timestamp> =
    Timestamp::constant(-62_135_596_800, 0)..=Timestamp::constant(253_402_207_200, 0);
const SECONDS_PER_DAY: u32 = 86_400;

/// What [`moment`] takes.
pub const MOMENT_RULE: &str = "must be a time by RFC 3339 such as 2026-11-28T00:00:00Z, from \
                               0001-01-01T00:00:00Z to 9999-12-30T22:00:00Z, its offset below 24:00 and its \
                               fraction of at most 9 digits; leave it out for no limit";

/// Reads a moment; `None`: it breaks [`MOMENT_RULE`].
#[must_use]
pub fn moment(text: &str) -> Option<Timestamp> {
    let moment: Timestamp = text.parse().ok()?;
    let offset = Pieces::parse(text).ok()?.to_numeric_offset()?;
    let by_rfc_3339 = offset.seconds().unsigned_abs() < SECONDS_PER_DAY;
    (by_rfc_3339 && MOMENT.contains(&moment)).then_some(moment)
}
