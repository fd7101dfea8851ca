//! The purchase API of a flash sale.
//!
//! `api/router.rs` shows every route; the crate [`sale`] decides who gets what; [`config`] is the only place
//! that reads the environment.

pub mod api;
pub mod auth;
mod client_address;
mod concurrency_limit;
pub mod config;
mod count;
pub mod erasures;
mod event_count;
mod hold_count;
pub mod http;
pub mod metrics;
mod node_changes;
mod order_count;
pub mod order_events;
mod order_state;
pub mod payments;
mod protobuf;
mod retention;
pub mod seed;
pub mod serve;
mod times;
pub mod traces;
mod upkeep;
