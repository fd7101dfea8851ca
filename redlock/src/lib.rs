#![doc = include_str!("../README.md")]
//!
//! ## How it works
//! [`Redlock::acquire`] asks all nodes at once and continues as soon as a majority has voted; a single
//! node is a majority of one. Every [`Lease`] carries a fencing token for each resource. Tokens are unique
//! and in real-time order, without any assumption about clocks: a node grants a token only above the
//! highest one that it has granted, and two majorities share a node. The store behind the lock must refuse
//! a token that is not above the last one it stored; then a holder that outlived its lease does no harm. A
//! node that restarted may have forgotten its grants, so it has no vote until that can do no harm.
//!
//! [`Combiner`] lets many callers share one lease. If callers wait, it renews the lease while a batch is
//! executed, so that the next batch begins at once.
//!
//! This crate knows resources by name only: no products, no HTTP, no Kubernetes, no Prometheus
//! (see [`Observer`]).
//!
//! ## Modules
//! From the bottom to the top; a module imports only modules above it in this list:
//!
//! | module | what it is for |
//! | --- | --- |
//! | `error`, `observe`, `config`, `time` | what callers configure, and what they get back |
//! | `endpoint` | how to connect to a node: address, log-in, TLS |
//! | `protocol` | the messages between a client and a node |
//! | `scripts` | the `.lua` files, their keys and their calls |
//! | `registry` | what this process knows about each resource |
//! | `node` | one node: connection, clock, vote |
//! | `cluster` | all nodes: membership, majorities, monitor, quarantine, repair |
//! | `queue` | slots and tickets in fair order |
//! | `acquire` | rounds of votes, leases |
//! | `combine` | batches of callers that share a lease |
//! | `lock`, `combiner`, `domain`, `change`, `values` | what users call |

mod acquire;
mod change;
mod cluster;
mod combine;
mod combiner;
mod config;
mod domain;
mod endpoint;
mod error;
mod lock;
mod node;
mod observe;
mod protocol;
mod queue;
mod registry;
mod scripts;
mod time;
mod values;

pub use acquire::Lease;
pub use change::MemberNodes;
pub use combine::{Batch, CombinerConfig, Entry, ResourceBatch, SubmitError};
pub use combiner::Combiner;
#[cfg(feature = "ablation")]
pub use config::Ablation;
pub use config::{Config, NodeConfig, Policy, QueueDiscipline, SHORTEST_LEASE};
pub use domain::{Domain, LeaseContext};
pub use endpoint::Endpoint;
pub use error::{AcquireError, AcquireOutcome, ChangeError, ExtendError};
pub use lock::Redlock;
pub use observe::{Exclusion, Observer};
pub use registry::{Published, REMOVED};
pub use values::NodeValues;
