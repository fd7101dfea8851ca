#![doc = include_str!("../README.md")]
//!
//! ## How it works
//! [`Redlock::acquire`] asks all nodes at once and goes on as soon as a majority has voted; one
//! node is the case N = 1. Every [`Lease`] carries a fencing token for each resource: unique, and
//! in real-time order without any assumption on clocks, because a node grants a token only above
//! the highest one it has ever granted and two majorities share a node. Whatever the lock guards
//! must refuse a token not above the last it saw; then a holder that outlived its lease does no harm.
//! A node that restarted may have forgotten what it granted; it is kept out of votes until that can
//! do no harm.
//!
//! [`Combiner`] lets many callers share one acquisition.
//!
//! This crate knows resources by name only: no products, no HTTP, no Kubernetes, no Prometheus
//! (see [`Observer`]).

mod acquisition;
mod board;
mod call;
mod change;
mod clock;
mod combine;
mod config;
mod domain;
mod error;
mod keeper;
mod keys;
mod lease;
mod lock;
mod members;
mod node;
mod observe;
mod quarantine;
mod repair;
mod reply;
mod roster;
mod round;
mod script;
mod shared;
mod tally;
mod trouble;
mod turn;
mod values;

pub use board::{Published, REMOVED};
pub use combine::{Batch, Combiner, CombinerConfig, Entry, Lot, SubmitError};
#[cfg(feature = "ablation")]
pub use config::Ablation;
pub use config::{Config, NodeConfig, Order, Policy, SHORTEST_LEASE};
pub use domain::{Domain, Grant};
pub use error::{AcquireError, ChangeError, ExtendError};
pub use lease::Lease;
pub use lock::Redlock;
pub use observe::{AcquireOutcome, Exclusion, Observer};
pub use values::NodeValues;
