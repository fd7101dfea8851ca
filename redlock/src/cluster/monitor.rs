//! The monitor of a node: connects, checks the node regularly, and reconnects.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::BoxFuture;
use redis::aio::MultiplexedConnection;
use redis::{AsyncCommands, RedisResult};
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};

use super::connect::{CONNECT_TIMEOUT, Disconnects, connect};
use super::quarantine::{restore_from_client, try_admit};
use super::repair::repair;
use super::state::Cluster;
use crate::endpoint::Endpoint;
use crate::node::{ClockSample, Node, NodeFault, REFUSAL_POLL, Release};
use crate::observe::Exclusion;
use crate::protocol::{Departure, Probe};
use crate::scripts::keys::ADMITTED;

/// An owner that owns no lock.
const NO_OWNER: &str = "";
/// How often an admitted node is checked.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);
/// How often a node in quarantine is checked.
const QUARANTINE_POLL: Duration = Duration::from_millis(25);
const FIRST_RECONNECT: Duration = Duration::from_millis(50);
const LAST_RECONNECT: Duration = Duration::from_secs(1);

/// Watches a node until the future or the cluster is dropped.
pub(crate) fn monitor(
    node: Arc<Node>,
    endpoint: Endpoint,
    cluster: Weak<Cluster>,
) -> BoxFuture<'static, ()> {
    run(node, endpoint, cluster).boxed()
}

async fn run(node: Arc<Node>, endpoint: Endpoint, cluster: Weak<Cluster>) {
    let mut pause = FIRST_RECONNECT;
    let mut is_reported = false;
    loop {
        let Some(alive) = cluster.upgrade() else { return };
        match connect(&node, &endpoint, &alive).await {
            Ok(disconnects) => {
                (pause, is_reported) = (FIRST_RECONNECT, false);
                // After the node counts as connected, so that no release falls between the two.
                catch_up(&node, &alive).await;
                drop(alive);
                let reason = check_until_lost(&node, disconnects, &cluster).await;
                node.set_disconnected();
                let Some(cluster) = cluster.upgrade() else {
                    // The client was dropped, and its connections with it.
                    debug!(node = node.address(), reason, "lock node no longer used");
                    return;
                };
                warn!(node = node.address(), reason, "lock node lost");
                cluster.report_quorum();
            }
            Err(error) if is_reported => {
                debug!(node = node.address(), %error, "still not connected");
            }
            Err(error) => {
                warn!(node = node.address(), %error, "lock node does not connect");
                is_reported = true;
            }
        }
        sleep(pause.mul_f64(rand::random_range(0.5..1.0))).await;
        pause = (pause * 2).min(LAST_RECONNECT);
    }
}

/// Sends a node the releases and values that it missed. The node keeps values that are newer.
async fn catch_up(node: &Node, cluster: &Cluster) {
    for release in node.take_pending_releases().into_iter().map(Release::for_retry) {
        let Release { owner, departure, handovers, .. } = &release;
        let call = cluster.scripts.release(owner, departure, handovers);
        if node.run::<u64>(&call).await.is_err() {
            node.add_pending_release(release);
        }
    }
    let values = cluster.registry.values();
    if !values.is_empty() {
        let call = cluster.scripts.release(NO_OWNER, &Departure::default(), &values);
        // A node that fails here is connected to and caught up again.
        let _ = node.run::<u64>(&call).await;
    }
}

/// Checks the node until its connection is lost. Returns the reason.
async fn check_until_lost(
    node: &Arc<Node>,
    mut disconnects: Disconnects,
    cluster: &Weak<Cluster>,
) -> String {
    let mut checked_at = Instant::now();
    loop {
        let interval = match (node.is_admitted(), node.refuses_writes()) {
            (_, true) => REFUSAL_POLL,
            (true, false) => CHECK_INTERVAL,
            (false, false) => QUARANTINE_POLL,
        };
        let next_check = sleep((checked_at + interval).saturating_duration_since(Instant::now()));
        tokio::select! {
            disconnect = disconnects.recv() => {
                let why = if disconnect.is_some() { "disconnected" } else { "connection closed" };
                return why.to_owned();
            }
            // A node that hangs keeps its socket open: only a call that fails shows it.
            () = next_check => {}
            () = node.check_now.notified() => {}
        }
        let Some(cluster) = cluster.upgrade() else { return "no longer used".to_owned() };
        let Some(connection) = node.connection() else {
            return "connection closed".to_owned();
        };
        if let Err(error) = check(node, connection, &cluster).await {
            match NodeFault::of(&error) {
                Some(NodeFault::RefusesWrites) => node.refuse(&error.to_string()),
                _ => return format!("no sign of life: {error}"),
            }
        }
        report_refusal(node, &cluster);
        checked_at = Instant::now();
    }
}

/// Reads the node's clock and membership, tests whether it accepts writes, repairs damaged keys, and
/// admits the node when it may vote again.
async fn check(
    node: &Node,
    mut connection: MultiplexedConnection,
    cluster: &Arc<Cluster>,
) -> RedisResult<()> {
    let sent = Instant::now();
    let probe: Probe = cluster.scripts.probe().invoke(&mut connection).await?;
    let sample = ClockSample { sent, received: Instant::now(), micros: probe.micros };
    cluster.check_clock(node, sample);
    cluster.adopt(probe.membership);
    // The admission of another process, or none: the node was wiped, or has the data of another node
    // (`REPLICAOF`).
    let lost_admission = probe.admitted != node.run_id();
    #[cfg(feature = "ablation")]
    let lost_admission =
        lost_admission && (probe.admitted.is_empty() || !cluster.quarantine_is_off);
    if !probe.refusal.is_empty() {
        node.refuse(&probe.refusal);
        // A replica has the data of another node, which must not be counted twice.
        if node.is_admitted() && lost_admission && !probe.admitted.is_empty() {
            exclude(node, cluster);
        }
        return Ok(());
    }
    let mut damaged = node.damaged();
    damaged.extend(probe.damaged);
    let forgot = !damaged.is_empty() && repair(node, &mut connection, &damaged, cluster).await?;
    if node.is_admitted() && (forgot || lost_admission) {
        on_data_loss(node, &mut connection, cluster).await?;
    } else if !damaged.is_empty() {
        catch_up(node, cluster).await;
    }
    node.mark_repaired(&damaged);
    if node.accepted_write(sent) {
        info!(node = node.address(), "lock node accepts writes again");
        catch_up(node, cluster).await;
    }
    let admitted = if forgot { "" } else { &probe.admitted };
    admit_if_due(node, &mut connection, admitted, cluster).await
}

async fn admit_if_due(
    node: &Node,
    connection: &mut MultiplexedConnection,
    admitted: &str,
    cluster: &Arc<Cluster>,
) -> RedisResult<()> {
    let Some(restarted) = node.restarted() else {
        // An exclusion for another reason may have ended.
        cluster.report_quorum();
        return Ok(());
    };
    let admission = try_admit(node, connection, &restarted, admitted, cluster);
    // Other nodes may hang, and this one must be checked in the meantime.
    if let Ok(is_admitted) = timeout(CONNECT_TIMEOUT, admission).await
        && is_admitted?
    {
        info!(node = node.address(), "lock node admitted to vote");
        cluster.admit(node, &restarted.run_id);
        cluster.observer.node_admitted(node.index());
    }
    Ok(())
}

/// Reports a refusal of writes once.
fn report_refusal(node: &Node, cluster: &Cluster) {
    if let Some(reason) = node.take_unreported_refusal() {
        warn!(node = node.address(), reason, "lock node excluded: it refuses writes");
        cluster.observer.node_excluded(node.index(), Exclusion::RefusesWrites);
        cluster.report_quorum();
    }
}

/// Handles a node that lost data while it ran (`FLUSHALL`) or through a repair: it has forgotten its
/// grants, as after a restart without data. It gets the values at once, and votes when it has learned
/// from the others. Without a majority of other nodes it learns what this client knows and keeps its
/// vote: an exclusion would stop every lock. Until the forgotten leases are over, only the guarded store
/// tells holders apart.
async fn on_data_loss(
    node: &Node,
    connection: &mut MultiplexedConnection,
    cluster: &Arc<Cluster>,
) -> RedisResult<()> {
    if !exclude(node, cluster) {
        warn!(node = node.address(), "lock node lost its data while it ran, as others did");
        restore_from_client(connection, cluster).await?;
        connection.set::<_, _, ()>(ADMITTED, node.run_id()).await?;
    }
    catch_up(node, cluster).await;
    Ok(())
}

/// Excludes a node that has forgotten its grants, if a majority of other nodes is admitted. Returns
/// whether it did.
fn exclude(node: &Node, cluster: &Cluster) -> bool {
    let others = |other: &Node| other.address() != node.address() && other.is_admitted();
    let is_excluded = cluster.members().majority_of_each(others);
    if is_excluded {
        warn!(node = node.address(), "lock node excluded: it lost its data while it ran");
        let run_id = node.run_id();
        cluster.end_first_use(&run_id);
        node.set_forgotten(run_id);
        cluster.observer.node_excluded(node.index(), Exclusion::Restarted);
        cluster.report_quorum();
    }
    is_excluded
}
