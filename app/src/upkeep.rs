//! Background tasks that run as long as the replica. A panic must not end them: the replica would stay
//! ready while its catalog grows stale or its orders are not recorded.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::FutureExt;
use tokio::time::{interval, sleep};
use tracing::{error, warn};

/// Pause before a restart, because the cause of the panic may persist.
const RESTART_DELAY: Duration = Duration::from_millis(250);

/// Runs this task until it returns, and restarts it whenever it panics.
pub(crate) async fn restart_on_panic<F: Future<Output = ()>>(what: &str, task: impl Fn() -> F) {
    while AssertUnwindSafe(task()).catch_unwind().await.is_err() {
        error!(what, "panicked; begun again in {RESTART_DELAY:?}");
        sleep(RESTART_DELAY).await;
    }
}

/// How often a file is checked for changes.
const RELOAD_INTERVAL: Duration = Duration::from_secs(2);

/// Reads a file again and again, for ever. An error is logged once, with what goes on meanwhile.
pub(crate) async fn reload_again<F: Future<Output = Result<(), String>>>(
    meanwhile: &str,
    reload: impl Fn() -> F,
) {
    let mut tick = interval(RELOAD_INTERVAL);
    let mut last_error = None;
    loop {
        tick.tick().await;
        let error = reload().await.err();
        if let Some(error) = &error
            && last_error.as_ref() != Some(error)
        {
            warn!(error, "{meanwhile}");
        }
        last_error = error;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test]
    async fn a_task_that_panics_is_restarted() {
        let starts = Cell::new(0);
        restart_on_panic("a test", async || {
            starts.set(starts.get() + 1);
            assert!(starts.get() == 3, "a defect");
        })
        .await;
        assert_eq!(starts.get(), 3);
    }
}
