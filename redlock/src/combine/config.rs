//! The limits of a combiner.

/// The limits of a [`crate::Combiner`].
#[derive(Debug, Clone, Copy)]
pub struct CombinerConfig {
    /// How many items may wait for one resource; at least one. Further callers are refused at once.
    pub queue: usize,
    /// How many items one lease may serve; at least one.
    pub batch: usize,
}

impl Default for CombinerConfig {
    fn default() -> Self {
        Self { queue: 16_384, batch: 1_024 }
    }
}
