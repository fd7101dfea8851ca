//! Bounds of settings that the sale does not know; its own are in [`sale::bounds`]. `bounds.yaml` at the
//! root of the repository has both as cases.

use std::ops::RangeInclusive;
use std::time::Duration;

/// Of all other times.
pub const TIME: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_hours(1);
/// Of `TRUSTED_PROXIES`.
pub const TRUSTED_PROXIES: RangeInclusive<usize> = 0..=10;
/// Of `HTTP_MAX_CONNECTIONS`.
pub const CONNECTIONS: RangeInclusive<usize> = 1..=1_000_000;
/// Of `EVENT_LISTENERS`.
pub const EVENT_LISTENERS: RangeInclusive<usize> = 0..=1_000_000;
/// Of `DATABASE_MAX_CONNECTIONS`.
pub const DATABASE_CONNECTIONS: RangeInclusive<u32> = 1..=10_000;
