//! The operator against a real API server.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod bounds;
mod chart;
mod cluster;
mod crd;
mod definition;
mod evictions;
mod leader;
mod lifecycle;
mod names;
mod reconcile;
mod scale;
mod secrets;
mod status;
mod storage;
mod support;
mod values;
