//! The queue with that protection off.

pub mod sync {
    pub use std::sync::PoisonError;

    pub use loom::sync::{Mutex, MutexGuard};

    pub type Notify = crate::Notify<false>;
}

#[path = "../../src/atomic/wait_queue.rs"]
pub mod wait_queue;
