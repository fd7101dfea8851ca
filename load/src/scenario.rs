//! What a run does, and how its Job looks on a cluster.

pub mod manifest;
pub mod summary;

pub use load_scenarios::{Restock, Scenario, built_in};

/// Upper bound of the time in which all pods of a run start: they play one crowd.
pub const PODS_APART_MS: f64 = 1_000.0;
