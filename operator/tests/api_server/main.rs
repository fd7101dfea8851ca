//! The operator against a real API server.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod bounds;
mod chart;
mod check;
mod cluster;
mod crd;
mod definition;
mod evictions;
mod helm;
mod leader;
mod lifecycle;
mod names;
mod namespaces;
mod reconcile;
mod rights;
mod secrets;
mod storage;
mod support;
mod values;
