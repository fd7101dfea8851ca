//! The operator of `FlashSale` resources, as a library for its binary and its tests.
//!
//! Start reading at [`flash_sale`]: a reconcile is five steps, one file each.

#![deny(clippy::print_stdout, clippy::print_stderr, reason = "they panic when the reader is gone")]

mod check;
pub mod cli;
pub mod config;
pub mod controller;
pub mod crd;
mod desired_state;
mod error_chain;
pub mod flash_sale;
pub mod gateway_api;
pub mod http;
pub mod leader;
pub mod metrics;
mod run;
pub mod sale_metrics;
mod secret_watch;
mod tls;
mod watch_errors;
mod watched;
