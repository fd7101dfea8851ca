//! Runs load scenarios against a sale and judges the result.
//!
//! Sees the sale as an outsider does: the API's answers, `GET stock:<product>` on the Redis nodes,
//! the rows of the database, the replicas' metrics. Shares no code with the app, so that a mistake
//! there is not made here again.

mod buyer;
pub mod cli;
mod cluster;
pub mod config;
mod error;
mod ledger;
pub mod observed;
mod prometheus;
mod report;
mod run;
pub mod scenario;
mod scrape;
mod token;
pub mod verdict;

pub use error::ConfigError;
pub use run::run;
