//! The operator against a real API server.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod backup;
mod bounds;
mod chart;
mod check;
mod claimed;
mod cluster;
mod containers;
mod control_plane;
mod crd;
mod definition;
mod deleted_secrets;
mod documented;
mod evictions;
mod fake_app;
mod helm;
mod hibernation;
mod images;
mod killed;
mod leader;
mod lifecycle;
mod names;
mod namespaces;
mod network;
mod nodes;
mod outage;
mod pause;
mod pods;
mod quota;
mod reconcile;
mod refused_secrets;
mod retained;
mod rights;
mod scale;
mod scheduling;
mod secrets;
mod status;
mod storage;
mod stores_tls;
mod support;
mod tls;
mod values;
