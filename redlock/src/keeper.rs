//! A node's keeper: connects, asks for signs of life, and connects again.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use redis::{AsyncCommands, AsyncConnectionConfig, Client, PushInfo, PushKind, RedisResult, Value};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};

use crate::clock::Sample;
use crate::node::{Node, REFUSAL_POLL, Release};
use crate::observe::Exclusion;
use crate::quarantine;
use crate::repair::{Probe, repair};
use crate::roster::Roster;
use crate::script::{ADMITTED, CHANNEL, Left, REPAIRED};
use crate::trouble::Trouble;

/// Owns no lock.
const NOBODY: &str = "";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const PING_EVERY: Duration = Duration::from_millis(500);
/// How often a node that is kept out is looked at.
const QUARANTINE_POLL: Duration = Duration::from_millis(25);
const FIRST_RECONNECT: Duration = Duration::from_millis(50);
const LAST_RECONNECT: Duration = Duration::from_secs(1);

type Notices = UnboundedReceiver<PushInfo>;

/// Runs until it is dropped, or the roster is.
pub(crate) async fn keep(node: Arc<Node>, client: Client, roster: Weak<Roster>) {
    let mut pause = FIRST_RECONNECT;
    let mut reported = false;
    loop {
        let Some(alive) = roster.upgrade() else { return };
        match connect(&node, &client, &alive).await {
            Ok(notices) => {
                (pause, reported) = (FIRST_RECONNECT, false);
                // After it counts as connected, so that nothing falls between the two.
                catch_up(&node, &alive).await;
                drop(alive);
                let reason = listen(&node, notices, &roster).await;
                node.disconnected();
                let Some(roster) = roster.upgrade() else {
                    // The client was dropped, and with it the connection: nothing is lost.
                    debug!(node = node.address(), reason, "lock node no longer used");
                    return;
                };
                warn!(node = node.address(), reason, "lock node lost");
                roster.count_votes();
            }
            Err(error) if reported => {
                debug!(node = node.address(), %error, "still not connected");
            }
            Err(error) => {
                warn!(node = node.address(), %error, "lock node does not connect");
                reported = true;
            }
        }
        sleep(pause.mul_f64(rand::random_range(0.5..1.0))).await;
        pause = (pause * 2).min(LAST_RECONNECT);
    }
}

async fn connect(node: &Node, client: &Client, roster: &Arc<Roster>) -> RedisResult<Notices> {
    let (sender, notices) = unbounded_channel();
    let (slot, ears) = (node.slot(), Arc::downgrade(roster));
    let address = node.address().to_owned();
    // Notices are taken in where they arrive: another task for them is another wake-up for each.
    let hear = move |push: PushInfo| match push.kind {
        PushKind::Disconnection => sender.send(push).map_err(drop),
        PushKind::Message if push.data.first() == Some(&bulk(REPAIRED)) => {
            if let Some(Value::BulkString(lock)) = push.data.last() {
                let lock = String::from_utf8_lossy(lock);
                warn!(node = address, %lock, "lock without an expiry: it ends after the longest lease");
            }
            Ok(())
        }
        PushKind::Message => {
            if let Some(Value::BulkString(text)) = push.data.last()
                && let Some(roster) = ears.upgrade()
            {
                roster.board.heard(&String::from_utf8_lossy(text), slot);
            }
            Ok(())
        }
        _ => Ok(()),
    };
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_response_timeout(Some(CONNECT_TIMEOUT))
        .set_push_sender(hear);
    let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
    connection.subscribe(&[CHANNEL, REPAIRED]).await?;
    roster.scripts.load(&mut connection).await?;
    let run_id = run_id(&mut connection).await?;
    let probe: Probe = roster.scripts.probe().invoke(&mut connection).await?;
    roster.adopt(probe.membership);
    let admitted = Some(&*probe.admitted).filter(|admitted| !admitted.is_empty());
    node.connected(connection, &run_id, admitted);
    node.damage(probe.damaged);
    if !probe.refusal.is_empty() {
        node.refuse(&probe.refusal);
    }
    if node.is_admitted() {
        info!(node = node.address(), "lock node connected");
        roster.admit(node, &run_id);
    } else {
        roster.observer.node_excluded(node.slot(), Exclusion::Restarted);
        roster.count_votes();
    }
    Ok(notices)
}

fn bulk(text: &str) -> Value {
    Value::BulkString(text.as_bytes().to_vec())
}

/// Redis's id of the process that answers.
async fn run_id(connection: &mut MultiplexedConnection) -> RedisResult<String> {
    let information: String = redis::cmd("INFO").arg("server").query_async(connection).await?;
    let run_id = information.lines().find_map(|line| line.strip_prefix("run_id:"));
    Ok(run_id.unwrap_or_default().to_owned())
}

/// Tells a node what it missed: releases, and values. What it has newer it keeps.
async fn catch_up(node: &Node, roster: &Roster) {
    for release in node.take_owed().into_iter().map(Release::later) {
        let call = roster.scripts.release(&release.owner, &release.line, &release.handovers);
        if node.run::<u64>(&call).await.is_err() {
            node.owe(release);
        }
    }
    let values = roster.board.values();
    if !values.is_empty() {
        let call = roster.scripts.release(NOBODY, &Left::default(), &values);
        // A node that fails here is connected to again, and told again.
        let _ = node.run::<u64>(&call).await;
    }
}

/// Hands notices to the board, and looks after the node, until the connection is of no use any
/// more; returns why.
async fn listen(node: &Arc<Node>, mut notices: Notices, roster: &Weak<Roster>) -> String {
    let mut looked = Instant::now();
    loop {
        let every = match (node.is_admitted(), node.refuses_writes()) {
            (_, true) => REFUSAL_POLL,
            (true, false) => PING_EVERY,
            (false, false) => QUARANTINE_POLL,
        };
        let next_look = sleep((looked + every).saturating_duration_since(Instant::now()));
        tokio::select! {
            notice = notices.recv() => {
                let why = if notice.is_some() { "disconnected" } else { "connection closed" };
                return why.to_owned();
            }
            // A node that hangs keeps its socket open, so only a question finds out.
            () = next_look => {}
            () = node.look.notified() => {}
        }
        let Some(roster) = roster.upgrade() else { return "no longer used".to_owned() };
        let Some(connection) = node.connection() else {
            return "connection closed".to_owned();
        };
        if let Err(error) = look(node, connection, &roster).await {
            match Trouble::of(&error) {
                Some(Trouble::RefusesWrites) => node.refuse(&error.to_string()),
                _ => return format!("no sign of life: {error}"),
            }
        }
        tell_of_refusal(node, &roster);
        looked = Instant::now();
    }
}

/// Reads the node's clock and membership, sees whether it takes writes, repairs what is damaged, and
/// sees whether it may vote again.
async fn look(
    node: &Node,
    mut connection: MultiplexedConnection,
    roster: &Arc<Roster>,
) -> RedisResult<()> {
    let asked = Instant::now();
    let probe: Probe = roster.scripts.probe().invoke(&mut connection).await?;
    let sample = Sample { asked, answered: Instant::now(), micros: probe.micros };
    roster.clock_is_sound(node, sample);
    roster.adopt(probe.membership);
    // Or none: it was wiped, or got the data of another node (`REPLICAOF`).
    let is_another = probe.admitted != node.run_id();
    #[cfg(feature = "ablation")]
    let is_another = is_another && (probe.admitted.is_empty() || !roster.quarantine_is_off);
    if !probe.refusal.is_empty() {
        node.refuse(&probe.refusal);
        // The replica of another has the data of that one, which must not be counted twice.
        if node.is_admitted() && is_another && !probe.admitted.is_empty() {
            keep_out(node, roster);
        }
        return Ok(());
    }
    let mut damaged = node.damaged();
    damaged.extend(probe.damaged);
    let forgot = !damaged.is_empty() && repair(node, &mut connection, &damaged, roster).await?;
    if node.is_admitted() && (forgot || is_another) {
        wiped(node, &mut connection, roster).await?;
    } else if !damaged.is_empty() {
        catch_up(node, roster).await;
    }
    node.repaired(&damaged);
    if node.takes_writes(asked) {
        info!(node = node.address(), "lock node takes writes again");
        catch_up(node, roster).await;
    }
    let Some(restarted) = node.restarted() else {
        // What keeps it from voting may be over by now.
        roster.count_votes();
        return Ok(());
    };
    let admitted = if forgot { "" } else { &probe.admitted };
    let admission = quarantine::may_vote(node, &mut connection, &restarted, admitted, roster);
    // Whatever other nodes it needs for that, this one must not go unheard meanwhile.
    if let Ok(admitted) = timeout(CONNECT_TIMEOUT, admission).await
        && admitted?
    {
        info!(node = node.address(), "lock node admitted to vote");
        roster.admit(node, &restarted.run_id);
        roster.observer.node_admitted(node.slot());
    }
    Ok(())
}

/// Once for each time that it begins to refuse writes.
fn tell_of_refusal(node: &Node, roster: &Roster) {
    if let Some(reason) = node.refusal_to_tell() {
        warn!(node = node.address(), reason, "lock node left out: it takes no writes");
        roster.observer.node_excluded(node.slot(), Exclusion::RefusesWrites);
        roster.count_votes();
    }
}

/// The node's data were removed while it ran (`FLUSHALL`), or some of them were damaged: it has
/// forgotten what it granted, like one that restarted without them. It gets the values again at once, and votes when it has learned
/// from the others. Where no majority of others is left to learn from, it is told what this client
/// knows and goes on: keeping it out would stop everything, and it is for what the lock guards to
/// tell holders apart until the leases that were forgotten are over.
async fn wiped(
    node: &Node,
    connection: &mut MultiplexedConnection,
    roster: &Arc<Roster>,
) -> RedisResult<()> {
    if !keep_out(node, roster) {
        warn!(node = node.address(), "lock node lost its data while it ran, as others did");
        quarantine::remind(connection, roster).await?;
        connection.set::<_, _, ()>(ADMITTED, node.run_id()).await?;
    }
    catch_up(node, roster).await;
    Ok(())
}

/// Keeps a node out that has forgotten, if a majority of others is there.
fn keep_out(node: &Node, roster: &Roster) -> bool {
    let others = |other: &Node| other.address() != node.address() && other.is_admitted();
    let excluded = roster.members().majority_of_each(others);
    if excluded {
        warn!(node = node.address(), "lock node lost its data while it ran: it is kept out");
        let run_id = node.run_id();
        roster.ends_first_use(&run_id);
        node.forgot(run_id);
        roster.observer.node_excluded(node.slot(), Exclusion::Restarted);
        roster.count_votes();
    }
    excluded
}
