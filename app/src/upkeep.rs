//! Work that a replica does as long as it lives. A panic must not end it: the replica would stay ready,
//! with a catalog that grows old or orders that nobody records.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::FutureExt;
use tokio::time::sleep;
use tracing::error;

/// How soon it is begun again: what it panicked for may be there still.
const AGAIN_AFTER: Duration = Duration::from_millis(250);

/// Does this work until it ends by itself, and begins it again whenever it panics.
pub(crate) async fn restarting<F: Future<Output = ()>>(what: &str, work: impl Fn() -> F) {
    while AssertUnwindSafe(work()).catch_unwind().await.is_err() {
        error!(what, "panicked; begun again in {AGAIN_AFTER:?}");
        sleep(AGAIN_AFTER).await;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test]
    async fn work_that_panics_is_begun_again() {
        let begun = Cell::new(0);
        restarting("a test", async || {
            begun.set(begun.get() + 1);
            assert!(begun.get() == 3, "as a defect would");
        })
        .await;
        assert_eq!(begun.get(), 3);
    }
}
