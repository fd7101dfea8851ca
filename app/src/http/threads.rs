//! Threads for the API's connections. Locks, leases, batches and the database run on the threads of
//! the main runtime. On shared threads, each step of a batch would wait behind all runnable requests:
//! milliseconds after hundreds of them were answered at once.

use std::{io, thread};

use tokio::net::TcpListener;
use tokio::runtime::{Builder, Handle};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

/// A runtime with one thread for each processor. Dropping it aborts the tasks that still run.
#[derive(Debug)]
pub(crate) struct Threads {
    runtime: Handle,
    _end: DropGuard,
}

impl Threads {
    pub(crate) fn start() -> io::Result<Self> {
        let runtime =
            Builder::new_multi_thread().thread_name("flashsale-http").enable_all().build()?;
        let (handle, end) = (runtime.handle().clone(), CancellationToken::new());
        let ended = end.clone();
        // A runtime must not be dropped inside a task of another runtime.
        thread::Builder::new()
            .name("flashsale-http".to_owned())
            .spawn(move || runtime.block_on(ended.cancelled()))?;
        Ok(Self { runtime: handle, _end: end.drop_guard() })
    }

    /// Moves a socket to these threads.
    pub(crate) fn take_over(&self, listener: TcpListener) -> io::Result<TcpListener> {
        let listener = listener.into_std()?;
        let _context = self.runtime.enter();
        TcpListener::from_std(listener)
    }

    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        self.runtime.spawn(task)
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn a_task_does_not_run_on_the_callers_threads() {
        let threads = Threads::start().unwrap();
        let (sender, receiver) = oneshot::channel();
        threads.spawn(async { sender.send(thread::current().id()).unwrap() });
        // The caller's runtime has a single thread: this one.
        assert_ne!(receiver.await.unwrap(), thread::current().id());
    }

    #[tokio::test]
    async fn a_task_ends_when_the_threads_are_dropped() {
        let threads = Threads::start().unwrap();
        let running = threads.spawn(std::future::pending());
        drop(threads);
        assert!(running.await.unwrap_err().is_cancelled());
    }
}
