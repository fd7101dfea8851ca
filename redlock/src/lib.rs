//! A quorum lock over independent Redis nodes.
//!
//! [`Redlock::acquire`] asks all nodes at once and goes on as soon as a majority has voted; one
//! node is the case N = 1. Every [`Lease`] carries a fencing token for each resource: unique, and
//! in real-time order without any assumption on clocks, because a node grants a token only above
//! the highest one it has ever granted and two majorities share a node. Whatever the lock guards
//! must refuse a token not above the last it saw; then a holder that outlived its lease does no harm.
//! That holds as long as a majority remembers what it granted: a node that lost its data votes at
//! once, and until it is kept out the guarded thing is what keeps such tokens harmless.
//!
//! [`Combiner`] lets many callers share one acquisition.
//!
//! This crate knows resources by name only: no products, no HTTP, no Kubernetes, no Prometheus
//! (see [`Observer`]).

mod acquisition;
mod board;
mod combine;
mod config;
mod error;
mod lease;
mod lock;
mod node;
mod observe;
mod script;
mod shared;
mod tally;
mod turn;

pub use board::Published;
pub use combine::{Batch, Combiner, CombinerConfig, Entry, SubmitError};
pub use config::{Config, NodeConfig, Order, Policy};
pub use error::AcquireError;
pub use lease::Lease;
pub use lock::Redlock;
pub use observe::{AcquireOutcome, Observer};
