//! Leader election: a replica reconciles only while it holds the Lease.

use std::fmt;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use kube::Client;
use kube_lease_manager::{LeaseManager, LeaseManagerBuilder, LeaseManagerError};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Duration of the Lease in seconds: another replica takes over this long after a crash of the holder.
const DURATION: u64 = 15;
/// The holder renews the Lease this many seconds before it expires.
const GRACE: u64 = 5;
/// Deadline for releasing the Lease at shutdown.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(5);

/// Namespace and name of a Lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseName {
    /// The namespace of the operator.
    pub namespace: String,
    /// Shared by all replicas of a release, unique among releases.
    pub name: String,
}

impl fmt::Display for LeaseName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Waits for the Lease, calls `on_leading` and runs `work` until `shutdown`. Releases the Lease at the end.
///
/// # Errors
/// When the Lease cannot be created or read, or is lost during `work`.
pub async fn run(
    mut leadership: Leadership,
    shutdown: &CancellationToken,
    on_leading: impl FnOnce(),
    work: impl Future<Output = ()>,
) -> Result<()> {
    let lease = leadership.lease.clone();
    info!(%lease, "waiting for the lease");
    // A standby has no work to finish at shutdown.
    if let Some(held) = shutdown.run_until_cancelled(leadership.wait_until(true)).await {
        held?;
        info!(%lease, "acquired the lease");
        on_leading();
        tokio::select! {
            () = work => {}
            lost = leadership.wait_until(false) => {
                lost?;
                bail!("the lease {lease} was lost to another replica");
            }
        }
    }
    if let Err(error) = leadership.release().await {
        let error = format!("{error:#}");
        warn!(%lease, error, "cannot release the lease; it expires {DURATION} s after its last renewal");
    }
    Ok(())
}

/// A candidacy for the Lease, or its possession.
#[derive(Debug)]
pub struct Leadership {
    lease: LeaseName,
    held: watch::Receiver<bool>,
    task: JoinHandle<Result<LeaseManager, LeaseManagerError>>,
}

impl Leadership {
    /// Becomes a candidate for the Lease as `identity`.
    ///
    /// # Errors
    /// When the Lease cannot be created or read.
    pub async fn start(client: Client, lease: LeaseName, identity: String) -> Result<Self> {
        let manager = LeaseManagerBuilder::new(client, &lease.name)
            .with_namespace(&lease.namespace)
            .with_identity(identity)
            .with_duration(DURATION)
            .with_grace(GRACE)
            .build()
            .await
            .with_context(|| format!("cannot create the lease {lease}"))?;
        let (held, task) = manager.watch().await;
        Ok(Self { lease, held, task })
    }

    /// Waits until the Lease is held (`true`) or lost (`false`).
    ///
    /// # Errors
    /// When the renewal task has ended.
    pub async fn wait_until(&mut self, held: bool) -> Result<()> {
        self.held.wait_for(|now| *now == held).await.context("the lease is no longer renewed")?;
        Ok(())
    }

    /// Releases the Lease, so that another replica can acquire it at once.
    ///
    /// # Errors
    /// When the API server does not respond in time.
    pub async fn release(self) -> Result<()> {
        drop(self.held);
        let ended =
            timeout(RELEASE_TIMEOUT, self.task).await.context("the API server does not respond")?;
        ended.context("the task that renews the lease ended")??;
        Ok(())
    }
}
