//! One operator at a time: holds a Lease while it reconciles.

use anyhow::{Context as _, Result};
use kube::Client;
use kube_lease_manager::{LeaseManager, LeaseManagerBuilder, LeaseManagerError};
use tokio::sync::watch;
use tokio::task::JoinHandle;

const LEASE: &str = "flashsale-operator";
/// Another replica takes over this long after the holder died, in seconds.
const DURATION: u64 = 15;
/// The holder renews this long before the end, in seconds.
const GRACE: u64 = 5;

/// A Lease that is sought or held.
#[derive(Debug)]
pub struct Leadership {
    held: watch::Receiver<bool>,
    task: JoinHandle<Result<LeaseManager, LeaseManagerError>>,
}

impl Leadership {
    /// Starts to seek the Lease in `namespace` as `identity`.
    ///
    /// # Errors
    /// When the Lease can't be made or read.
    pub async fn seek(client: Client, namespace: String, identity: String) -> Result<Self> {
        let manager = LeaseManagerBuilder::new(client, LEASE)
            .with_namespace(namespace)
            .with_identity(identity)
            .with_duration(DURATION)
            .with_grace(GRACE)
            .build()
            .await
            .context("cannot make the lease of the leader election")?;
        let (held, task) = manager.watch().await;
        Ok(Self { held, task })
    }

    /// Returns when the Lease is held (`true`) or lost (`false`).
    ///
    /// # Errors
    /// When nobody renews it any more.
    pub async fn until(&mut self, held: bool) -> Result<()> {
        self.held.wait_for(|now| *now == held).await.context("the lease is no longer renewed")?;
        Ok(())
    }

    /// Gives the Lease up, so that the next one need not wait.
    ///
    /// # Errors
    /// When the API server can't be told.
    pub async fn release(self) -> Result<()> {
        drop(self.held);
        self.task.await.context("the task that renews the lease ended")??;
        Ok(())
    }
}
