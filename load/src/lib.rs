//! Runs load scenarios against a sale and judges the result.
//!
//! The verdict comes from outside: the API's responses, `GET stock:<product>` on the Redis nodes, the
//! rows of the database, the replicas' metrics. The crate shares no code with the app, so it cannot
//! repeat a mistake of the app.

mod arrivals;
mod buyer;
pub mod cli;
pub mod config;
mod database;
mod error;
mod html;
mod log_ins;
pub mod observed;
pub mod orders;
mod plot;
mod plots;
mod progress_display;
mod prometheus;
mod redis_nodes;
mod report;
mod report_input;
mod report_rows;
mod report_rules;
mod report_text;
pub mod response_times;
mod run;
pub mod scenario;
mod scrape;
pub mod series;
mod timeline;
mod token;
pub mod verdict;
pub mod verify;

pub use error::ConfigError;
pub use html::page;
pub use run::run;
