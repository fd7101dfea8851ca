//! What `wait_queue` is made of. Its test puts a model checker's types here.

pub(crate) use std::sync::{Mutex, MutexGuard, PoisonError};

pub(crate) use tokio::sync::Notify;
