//! The synchronization types of `wait_queue`. Its test replaces them by those of a model checker.

pub(crate) use std::sync::{Mutex, MutexGuard, PoisonError};

pub(crate) use tokio::sync::Notify;
