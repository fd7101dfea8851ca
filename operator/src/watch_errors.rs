//! Errors of watches: delays between attempts, and the log level of each.

use std::future::ready;
use std::time::Duration;

use backon::ExponentialBuilder;
use futures::{Stream, StreamExt};
use kube::Resource;
use kube::runtime::watcher;
use tracing::{debug, warn};

use crate::error_chain::error_chain;

/// Delay after the first error.
const FIRST: Duration = Duration::from_millis(500);
/// Delay after many errors. A watch that was interrupted usually fails twice: it cannot be resumed, and begins anew.
const LONGEST: Duration = Duration::from_secs(5);

/// Delays of one watch. Jitter adds up to the same again.
pub fn delays() -> watcher::ExponentialBackoff {
    let delays = ExponentialBuilder::default().with_min_delay(FIRST).with_max_delay(LONGEST);
    delays.with_jitter().without_max_times().into()
}

/// A watch with delays of its own, without its errors: they are logged, the first one of a row as a warning.
///
/// A controller pauses all its watches after an error of any of them, for up to a minute. After an API server was away, each
/// watch has some errors.
pub fn logged<K>(
    watch: impl Stream<Item = watcher::Result<K>>,
) -> impl Stream<Item = watcher::Result<K>>
where
    K: Resource<DynamicType = ()>,
{
    let mut failing = false;
    watch.filter_map(move |event| {
        match &event {
            Ok(_) => failing = false,
            Err(error) if failing => debug!(error = error_chain(error), "watch failed again"),
            Err(error) => {
                failing = true;
                let kind = K::kind(&());
                warn!(%kind, error = error_chain(error), "watch failed; retrying");
            }
        }
        ready(event.is_ok().then_some(event))
    })
}
