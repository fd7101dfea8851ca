//! Failures and changes of a sale with buyers at work, each judged by what the buyers saw (`cargo xtask test e2e`). The
//! long ones are in [`all`] and [`stores`], and run with `--all-failures`.
//!
//! One sale lives through several of them, because its start takes longest. Each step has its own buyers, its own verdict
//! and its own line of output.

mod all;
mod parts;
mod sale;
mod secrets;
mod stores;
