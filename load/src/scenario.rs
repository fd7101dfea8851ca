//! What a run does, and how its Job looks on a cluster.

pub mod manifest;
pub mod summary;

pub use load_scenarios::{Restock, Scenario, built_in};
