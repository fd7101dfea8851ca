//! The plugin's binary against a real API server, whose only kubelet is a small one that has logs.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod bundle;
mod errors;
mod hibernate;
mod jobs;
mod kubelet;
mod logs;
mod proxy;
mod retained;
mod status;
mod support;
