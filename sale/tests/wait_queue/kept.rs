//! The queue over wake-ups that are kept until the task waits, as tokio's are.

pub mod sync {
    pub use std::sync::PoisonError;

    pub use loom::sync::{Mutex, MutexGuard};

    pub type Notify = crate::Notify<true>;
}

#[path = "../../src/atomic/wait_queue.rs"]
pub mod wait_queue;
