//! Threads for the API's connections. What sells (the locks and their leases, the batches under
//! them, the database) runs on others, beside the requests: among them, each step of a batch would
//! wait behind every request that is due, for milliseconds when hundreds were just answered.

use std::{io, thread};

use tokio::net::TcpListener;
use tokio::runtime::{Builder, Handle};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

/// As many as there are processors. What still runs there when this is dropped is broken off.
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
        // A runtime must not be dropped in a task of another.
        thread::Builder::new()
            .name("flashsale-http".to_owned())
            .spawn(move || runtime.block_on(ended.cancelled()))?;
        Ok(Self { runtime: handle, _end: end.drop_guard() })
    }

    /// The same socket, whose connections wake these threads.
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
    async fn what_runs_there_does_not_run_on_the_callers_threads() {
        let threads = Threads::start().unwrap();
        let (sender, receiver) = oneshot::channel();
        threads.spawn(async { sender.send(thread::current().id()).unwrap() });
        // Whatever the caller's runtime runs, this test's one thread runs.
        assert_ne!(receiver.await.unwrap(), thread::current().id());
    }

    #[tokio::test]
    async fn what_runs_there_ends_with_it() {
        let threads = Threads::start().unwrap();
        let running = threads.spawn(std::future::pending());
        drop(threads);
        assert!(running.await.unwrap_err().is_cancelled());
    }
}
