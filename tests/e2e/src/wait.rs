//! Waiting: for a condition, never for a time to pass, and never for ever.

use std::fmt::Debug;
use std::pin::Pin;
use std::time::Duration;

use anyhow::{Context, Result};
use futures::{Stream, StreamExt};
use kube::runtime::WatchStreamExt;
use kube::runtime::wait::Condition;
use kube::runtime::watcher::{self, watch_object};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;

/// Gives up after `deadline`, naming what was waited for.
///
/// # Errors
/// The future's own, or that time is up.
pub async fn within<T>(
    deadline: Duration,
    what: &str,
    future: impl Future<Output = Result<T>>,
) -> Result<T> {
    tokio::time::timeout(deadline, future)
        .await
        .with_context(|| format!("waited {deadline:?} in vain for {what}"))?
        .with_context(|| format!("while waiting for {what}"))
}

/// A watch that goes on when the API server drops it; the caller's deadline bounds it.
pub fn unbroken<T>(
    watch: impl Stream<Item = watcher::Result<T>> + Send,
) -> Pin<Box<impl Stream<Item = T>>> {
    Box::pin(watch.default_backoff().filter_map(async |event| {
        event.inspect_err(|error| eprintln!("a watch is begun again: {error}")).ok()
    }))
}

/// Watches an object until it is as wanted.
///
/// # Errors
/// When the watch ends.
pub async fn condition<K>(api: Api<K>, name: &str, met: impl Condition<K>) -> Result<()>
where
    K: Clone + Debug + Send + DeserializeOwned + Resource + 'static,
{
    let mut states = unbroken(watch_object(api, name));
    while let Some(state) = states.next().await {
        if met.matches_object(state.as_ref()) {
            return Ok(());
        }
    }
    anyhow::bail!("the watch ended")
}
