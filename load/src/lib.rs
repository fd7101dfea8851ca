//! Runs load scenarios against a sale and judges the result.
//!
//! The verdict comes from outside: the API's responses, `GET stock:<product>` on the Redis nodes, the
//! rows of the database, the replicas' metrics. The crate shares no code with the app, so it cannot
//! repeat a mistake of the app.

#![deny(clippy::print_stdout, clippy::print_stderr, reason = "they panic when the reader is gone")]

mod buyers;
pub mod cli;
pub mod config;
mod error;
mod http;
mod limits;
pub mod observed;
pub mod orders;
mod pods;
mod progress;
mod run;
mod sale;
pub mod scenario;
mod stores;
mod terminal;
mod token;
pub mod verdict;
pub mod verify;

pub use error::ConfigError;
pub use load_report::{ResponseTimes, page};
pub use run::{run, work};
