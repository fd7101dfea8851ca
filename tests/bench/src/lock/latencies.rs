//! Many durations of one kind.

use std::time::Duration;

use anyhow::Result;
use hdrhistogram::Histogram;

/// A histogram with three significant digits.
#[derive(Debug, Clone)]
pub(crate) struct Latencies(Histogram<u64>);

impl Latencies {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self(Histogram::new(3)?))
    }

    pub(crate) fn add(&mut self, took: Duration) -> Result<()> {
        Ok(self.0.record(u64::try_from(took.as_nanos())?)?)
    }

    pub(crate) fn merge(&mut self, other: &Self) -> Result<()> {
        Ok(self.0.add(&other.0)?)
    }

    #[expect(clippy::cast_precision_loss, reason = "three digits count")]
    pub(crate) fn count(&self) -> f64 {
        self.0.len() as f64
    }

    #[expect(clippy::cast_precision_loss, reason = "three digits count")]
    pub(crate) fn micros(&self, percent: f64) -> f64 {
        self.0.value_at_percentile(percent) as f64 / 1e3
    }

    pub(crate) fn millis(&self, percent: f64) -> f64 {
        self.micros(percent) / 1e3
    }
}
