//! The end of a lease, for actions that must not happen before it.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

/// When a lease ended: when it was released or dropped.
#[derive(Debug, Default)]
pub(super) struct LeaseEnd {
    pub(super) token: CancellationToken,
    at: OnceLock<Instant>,
}

impl LeaseEnd {
    /// Records that the lease ends now.
    pub(super) fn mark(&self) {
        let _ = self.at.set(Instant::now());
        self.token.cancel();
    }

    /// When the lease ended.
    pub(super) fn at(&self) -> Option<Instant> {
        self.at.get().copied()
    }

    /// Does something when the lease has ended: now, if it has. Without a runtime, which cannot send anything
    /// either, it is not done.
    pub(super) fn then(this: Option<&Arc<Self>>, action: impl FnOnce() + Send + 'static) {
        match this.filter(|end| !end.token.is_cancelled()) {
            None => action(),
            Some(end) => {
                if let Ok(runtime) = Handle::try_current() {
                    let token = end.token.clone();
                    runtime.spawn(async move {
                        token.cancelled().await;
                        action();
                    });
                }
            }
        }
    }
}
