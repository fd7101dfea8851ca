//! Waiting: for a condition, never for a time to pass, and never for ever.

use std::fmt::Debug;
use std::time::Duration;

use anyhow::{Context, Result};
use kube::runtime::wait::{Condition, await_condition};
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

/// Watches an object until it is as wanted.
pub(crate) async fn condition<K>(api: Api<K>, name: &str, met: impl Condition<K>) -> Result<()>
where
    K: Clone + Debug + Send + DeserializeOwned + Resource + 'static,
{
    await_condition(api, name, met).await?;
    Ok(())
}
