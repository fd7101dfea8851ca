//! The metrics of one name, before they are written in a format.

use prometheus::proto::MetricFamily;

/// All metrics of one name.
#[derive(Debug)]
pub(super) struct Family {
    /// As every scraper reads it.
    pub(super) classic: MetricFamily,
    /// The native buckets of each of its histograms, if it has them.
    pub(super) native: Vec<NativeBuckets>,
}

/// Buckets of a native histogram, as Prometheus's protobuf format has them.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct NativeBuckets {
    /// Each bucket is 2^(2^-schema) times as wide as the one before.
    pub(super) schema: i32,
    /// Durations up to this number of seconds are in `zero_count`.
    pub(super) zero_threshold: f64,
    /// Durations that count as zero.
    pub(super) zero_count: u64,
    /// Runs of buckets: the gap to the run before (at first: the index), and the number of buckets.
    pub(super) spans: Vec<(i32, u32)>,
    /// For each bucket, its count minus that of the bucket before.
    pub(super) deltas: Vec<i64>,
}
