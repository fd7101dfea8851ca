//! A quorum lock over independent Redis nodes.
//!
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
//!
//! # Example
//! ```no_run
//! use redlock::{
//!     Batch, Combiner, CombinerConfig, Config, Entry, Lease, NodeConfig, Policy, Redlock,
//! };
//!
//! /// Sells units in one transaction, and says for each caller whether there were enough. Its first
//! /// statement installs the token, so that the holder of an earlier lease changes nothing any more:
//! /// `UPDATE stock SET fence = $token WHERE fence < $token`
//! async fn sell(units: &[u32], token: u64) -> Vec<bool> {
//!     println!("token {token}: {units:?} units");
//!     vec![true; units.len()]
//! }
//!
//! struct Sales;
//!
//! impl Batch for Sales {
//!     type Item = u32;
//!     type Output = bool;
//!
//!     fn policy(&self, _resource: &str, _units: &u32) -> Policy {
//!         Policy::default()
//!     }
//!
//!     async fn execute(
//!         &self,
//!         _resource: &str,
//!         lease: Lease,
//!         entries: Vec<Entry<u32, bool>>,
//!     ) -> Vec<Entry<u32, bool>> {
//!         let units: Vec<u32> = entries.iter().map(|entry| entry.item).collect();
//!         let sold = lease.while_held(sell(&units, lease.token())).await;
//!         lease.release().await;
//!         // Entries that get no reply because the lease was lost end as `SubmitError::Abandoned`.
//!         for (entry, sold) in entries.into_iter().zip(sold.unwrap_or_default()) {
//!             entry.reply(sold);
//!         }
//!         Vec::new()
//!     }
//! }
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let node = |port| NodeConfig { address: format!("127.0.0.1:{port}"), password: None };
//!     let redlock = Redlock::start(&Config::new([7001, 7002, 7003].map(node).into()))?;
//!
//!     // One caller, one lease.
//!     let lease = redlock.acquire("stock:1", Policy::default()).await?;
//!     lease.keep_extended();
//!     match lease.while_held(sell(&[1], lease.token())).await {
//!         Some(sold) => println!("sold: {sold:?}"),
//!         None => println!("the lease was lost: another client may hold the lock by now"),
//!     }
//!     lease.release().await;
//!
//!     // Many callers, one lease for all that wait.
//!     let sales = Combiner::new(redlock, Sales, CombinerConfig::default());
//!     let (ann, bob) = tokio::join!(sales.submit("stock:1", 1), sales.submit("stock:1", 2));
//!     println!("ann: {}, bob: {}", ann?, bob?);
//!     Ok(())
//! }
//! ```
//!
//! `examples/one_at_a_time.rs` is a program to run on nodes of your own.

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

/// The example of the README compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
