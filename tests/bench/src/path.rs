//! The whole path of a purchase against its limits: HTTP, the lock over five nodes, PostgreSQL
//! with its default durability, all as processes on this machine, with `wrk` on the same cores.
//!
//! After each load the database's orders are compared with the answers that `wrk` got and with the
//! stock on every node; a difference ends the run.

mod alone;
mod burst;
mod crowd;
mod events;
mod far;
mod fresh;
mod holds;
mod http;
mod hundred_thousand;
mod large;
mod ledger;
mod limited;
mod limits;
mod load_job;
mod loads;
mod metrics;
mod network;
mod observed;
mod run;
mod several;
mod sink;
mod spent;
mod stage;
mod tls;
mod tokens;
mod traced;
mod wrk;

use crate::figures::Section;

pub use load_job::SECTION as LOAD_JOB;
pub use loads::{FITTED, Loaded, PREDICTED};

/// All of them, in the order of the table.
pub const SECTIONS: &[Section] = &[
    loads::AT_512,
    loads::AT_64,
    loads::THREE_REPLICAS,
    loads::FAIR,
    loads::ONE_NODE,
    loads::SQLITE,
    loads::ATOMIC,
    loads::SOLD_OUT,
    loads::AT_2000,
    burst::SECTION,
    fresh::SECTION,
    several::SECTION,
    crowd::SECTION,
    hundred_thousand::SECTION,
    loads::HUNDRED_PRODUCTS,
    limited::SECTION,
    limited::PERSONS,
    tls::SECTION,
    far::SECTION,
    large::RECOVERY,
    large::SOLD_OUT,
    alone::SECTION,
    far::ALONE,
    limits::SECTION,
    traced::SECTION,
    events::SECTION,
    events::DELIVERY,
    holds::SECTION,
    observed::SECTION,
    loads::NOT_FITTED,
];
