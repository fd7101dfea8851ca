//! The queue over wake-ups that are lost unless the task waits: the protection is off.

pub mod sync {
    pub use std::sync::PoisonError;

    pub use loom::sync::{Mutex, MutexGuard};

    pub type Notify = crate::Notify<false>;
}

#[path = "../../src/atomic/wait_queue.rs"]
pub mod wait_queue;
