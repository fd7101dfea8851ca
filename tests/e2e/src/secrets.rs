//! Secrets of a sale that change or go, and the wait that means it: until the operator has acted on the version.

use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::Value;

use crate::shop::{SOON, Shop, holds};
use crate::wait::{condition, within};

/// Five Redis nodes, one after the other.
const ROLLED_OUT: Duration = Duration::from_mins(5);

impl Shop {
    /// Value of a key of a Secret.
    ///
    /// # Errors
    /// When there is no such Secret or key.
    pub async fn secret_value(&self, name: &str, key: &str) -> Result<String> {
        let secret = self.api::<Secret>().get(name).await?;
        let value = secret.data.unwrap_or_default().remove(key);
        Ok(String::from_utf8(value.with_context(|| format!("{name} has no {key}"))?.0)?)
    }

    /// Changes a Secret by a merge patch, and waits until the sale uses that version and is ready.
    ///
    /// # Errors
    /// When that takes longer than the longest roll-out.
    pub async fn rotate(&self, name: &str, patch: Value) -> Result<()> {
        let patch = Patch::Merge(patch);
        let changed = self.api::<Secret>().patch(name, &PatchParams::default(), &patch).await?;
        let version = changed.resource_version();
        self.await_rolled_out(name, version).await
    }

    /// Deletes a Secret, waits until the operator has made it again, and until the sale uses it and is ready.
    ///
    /// # Errors
    /// When the Secret stays away, or the sale does not become ready.
    pub async fn lose_secret(&self, name: &str) -> Result<()> {
        let secrets = self.api::<Secret>();
        let before = secrets.get(name).await?.uid();
        secrets.delete(name, &DeleteParams::default()).await?;
        let again = |secret: Option<&Secret>| secret.is_some_and(|secret| secret.uid() != before);
        let what = format!("the Secret {name} to be made again");
        within(SOON, &what, condition(secrets.clone(), name, again)).await?;
        let version = secrets.get(name).await?.resource_version();
        self.await_rolled_out(name, version).await
    }

    /// Deletes a Secret, does `meanwhile`, and restores it.
    ///
    /// # Errors
    /// Of `meanwhile`, or when the API server refuses it.
    pub async fn without_secret(
        &self,
        name: &str,
        meanwhile: impl AsyncFnOnce() -> Result<()>,
    ) -> Result<()> {
        let secrets = self.api::<Secret>();
        let mut secret = secrets.get(name).await?;
        secrets.delete(name, &DeleteParams::default()).await?;
        meanwhile().await?;
        secret.metadata.resource_version = None;
        secret.metadata.uid = None;
        let again = secrets.create(&PostParams::default(), &secret).await?;
        self.await_rolled_out(name, again.resource_version()).await
    }

    async fn await_rolled_out(&self, secret: &str, version: Option<String>) -> Result<()> {
        let what = format!("the sale to use the new {secret}");
        self.await_status(&what, ROLLED_OUT, |status| {
            status["secrets"][secret].as_str() == version.as_deref() && holds(status, "Ready")
        })
        .await
    }
}
