//! `kubectl flashsale`: a sale at the terminal. It reads and changes what its user may read and change, and runs the load
//! tool as a Job where something must be inside the cluster.

#![deny(clippy::print_stdout, clippy::print_stderr, reason = "they panic when the reader is gone")]

mod bundle;
pub mod cli;
mod cluster;
mod export;
mod hibernate;
mod interrupts;
mod jobs;
mod load;
mod logs;
mod partial;
mod proxy;
mod report;
mod retained;
mod sales;
mod status;
mod table;
mod terminal;
mod ticks;
mod verify;
