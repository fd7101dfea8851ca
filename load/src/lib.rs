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
mod html;
mod http;
mod job;
mod limits;
mod log_ins;
mod manifest;
mod moments;
pub mod observed;
pub mod orders;
mod plot;
mod plots;
mod progress;
mod progress_display;
mod prometheus;
mod redis_nodes;
mod report;
mod report_input;
mod report_rows;
mod report_rules;
mod report_text;
mod request;
pub mod response_times;
mod restock;
mod run;
mod sale;
mod sales;
pub mod scenario;
mod scenario_summary;
mod scrape;
pub mod series;
mod team;
mod tickets;
mod timeline;
mod token;
mod users;
pub mod verdict;
pub mod verify;
mod wire;
mod worker;

pub use error::ConfigError;
pub use html::page;
pub use run::{run, work};
