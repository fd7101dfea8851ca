//! One operator at a time: holds a Lease while it reconciles.

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

/// Another replica takes over this long after the holder died, in seconds.
const DURATION: u64 = 15;
/// The holder renews this long before the end, in seconds.
const GRACE: u64 = 5;
/// How long a replica that stops tries to give the Lease up.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(5);

/// Where a Lease is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseName {
    /// The operator's own namespace.
    pub namespace: String,
    /// One name for all replicas of a release, and for no other.
    pub name: String,
}

impl fmt::Display for LeaseName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Does `work` once the Lease is held, after `on_leading`; until `shutdown`. Gives the Lease up at the end.
///
/// # Errors
/// When the Lease can't be made or read, or is lost while the work is under way.
pub async fn run(
    mut leadership: Leadership,
    shutdown: &CancellationToken,
    on_leading: impl FnOnce(),
    work: impl Future<Output = ()>,
) -> Result<()> {
    let lease = leadership.lease.clone();
    info!(%lease, "standing by until the lease is free");
    // A replica that stops while it stands by has nothing to finish.
    if let Some(held) = shutdown.run_until_cancelled(leadership.wait_until(true)).await {
        held?;
        info!(%lease, "holds the lease");
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
        warn!(%lease, error, "the lease was not given up; it ends {DURATION} s after its last renewal");
    }
    Ok(())
}

/// A Lease that is sought or held.
#[derive(Debug)]
pub struct Leadership {
    lease: LeaseName,
    held: watch::Receiver<bool>,
    task: JoinHandle<Result<LeaseManager, LeaseManagerError>>,
}

impl Leadership {
    /// Starts to seek the Lease as `identity`.
    ///
    /// # Errors
    /// When the Lease can't be made or read.
    pub async fn start(client: Client, lease: LeaseName, identity: String) -> Result<Self> {
        let manager = LeaseManagerBuilder::new(client, &lease.name)
            .with_namespace(&lease.namespace)
            .with_identity(identity)
            .with_duration(DURATION)
            .with_grace(GRACE)
            .build()
            .await
            .with_context(|| format!("cannot make the lease {lease}"))?;
        let (held, task) = manager.watch().await;
        Ok(Self { lease, held, task })
    }

    /// Returns when the Lease is held (`true`) or lost (`false`).
    ///
    /// # Errors
    /// When nobody renews it any more.
    pub async fn wait_until(&mut self, held: bool) -> Result<()> {
        self.held.wait_for(|now| *now == held).await.context("the lease is no longer renewed")?;
        Ok(())
    }

    /// Gives the Lease up, so that the next one need not wait.
    ///
    /// # Errors
    /// When the API server can't be told in time.
    pub async fn release(self) -> Result<()> {
        drop(self.held);
        let ended = timeout(RELEASE_TIMEOUT, self.task).await.context("the API server is away")?;
        ended.context("the task that renews the lease ended")??;
        Ok(())
    }
}
