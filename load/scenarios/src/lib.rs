//! The load scenarios as data: users, what they buy, what must come of it, and how each runs on a cluster. The load tool
//! runs them; `kubectl flashsale load` and `cargo xtask demo` start it. Knows no network.

mod call;
mod error;
mod job;
mod scenario;

pub use call::{FollowUp, Kind};
pub use error::ScenarioError;
pub use job::{JobSpec, Step};
pub use scenario::{
    AnswerRules, FollowUps, Restock, Scenario, Targets, built_in, positive_seconds,
};
