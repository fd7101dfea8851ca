//! Combining: many callers share one lease.
//!
//! Callers submit items for a resource, and each awaits its own result. A worker acquires the lock and
//! executes all waiting items as one batch, while the next batch collects. Without fair order, one batch
//! may hold the locks of several resources. The cost of the lock is divided by the length of the queue,
//! and a caller that goes away leaves no lock behind.

mod batch;
mod batch_times;
mod config;
mod entry;
mod fair;
mod fair_locks;
mod load;
mod queues;
mod unordered;
mod worker;

pub use batch::{Batch, ResourceBatch};
pub use config::CombinerConfig;
pub use entry::{Entry, SubmitError};
pub(crate) use fair_locks::FairLocks;
pub(crate) use queues::BatchQueues;
