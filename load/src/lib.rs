//! Runs load scenarios against a sale and judges the result.
//!
//! The verdict comes from outside: the API's responses, `GET stock:<product>` on the Redis nodes, the
//! rows of the database, the replicas' metrics. The crate shares no code with the app, so it cannot
//! repeat a mistake of the app.

mod arrivals;
mod buyer;
pub mod cli;
pub mod config;
mod connections;
mod database;
mod error;
mod http;
mod job;
mod limits;
mod log_ins;
mod manifest;
mod moments;
pub mod observed;
mod progress;
mod prometheus;
mod redis_nodes;
mod report;
mod request;
mod restock;
mod run;
mod sale;
mod sales;
pub mod scenario;
mod scenario_summary;
mod scrape;
mod team;
mod tickets;
mod timeline;
mod token;
mod users;
pub mod verdict;
mod wire;
mod worker;

pub use error::ConfigError;
pub use run::{run, work};
