//! Two replicas, each a process, pass one lock to each other: from the call of release in one to
//! the return of acquire in the other, which was waiting already.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::FutureExt;
use nix::time::{ClockId, clock_gettime};
use redlock::QueueDiscipline;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};
use tokio::runtime::Runtime;
use tokio::time::sleep;

use super::latencies::Latencies;
use super::nodes::{Nodes, connect, patient};
use super::raw::Raw;
use crate::figures::{Measured, Row, Section, Target, Unit};

pub(super) const SECTION: Section = Section {
    title: "Hand-off between two replicas (processes) that wait for one key in turn",
    rows: &[
        Row::Figure("hand_off_p50", Unit::Micros),
        Row::Figure("raw_round_trip_p50", Unit::Micros),
        Row::Ratio("hand_off_p50", "raw_round_trip_p50", Some(Target::Below(3.0))),
        Row::Figure("hand_off_p99", Unit::Micros),
        Row::Figure("hand_off_fair_p50", Unit::Micros),
        Row::Ratio("hand_off_fair_p50", "raw_round_trip_p50", None),
        Row::Figure("hand_off_after_pause_p50", Unit::Micros),
        Row::Figure("raw_round_trip_after_pause_p50", Unit::Micros),
        Row::Ratio(
            "hand_off_after_pause_p50",
            "raw_round_trip_after_pause_p50",
            Some(Target::Below(3.0)),
        ),
        Row::Ratio("hand_off_after_pause_p50", "raw_round_trip_p50", None),
    ],
    round: |round| measure(round.number).boxed(),
};

const RESOURCE: &str = "hand-off";
/// Turns of each replica.
const TURNS: u32 = 300;
/// Turns before anything counts.
const WARM_UP: usize = 20;
/// Back to back, as the raw round trips are: the other asks again as soon as it has released.
const NO_PAUSE: Duration = Duration::ZERO;
/// Long enough for the processor to have gone to sleep, which costs raw round trips as much.
const PAUSE: Duration = Duration::from_millis(1);
const RAW_ROUND_TRIPS: u32 = 1_000;

/// Settings of the process of one replica.
#[derive(clap::Args)]
pub struct ReplicaOptions {
    /// The nodes' addresses.
    #[arg(long, value_delimiter = ',')]
    nodes: Vec<String>,
    /// Fair or Unordered.
    #[arg(long)]
    discipline: QueueDiscipline,
    /// How long the lock is held.
    #[arg(long)]
    hold_micros: u64,
}

/// One hold, in nanoseconds of the machine's monotonic clock, which both processes read.
struct Hold {
    token: u64,
    asked: u64,
    acquired: u64,
    released: u64,
    replica: usize,
}

/// Connects, waits for a line on stdin, takes its turns, and prints them.
///
/// # Errors
/// When the nodes do not answer or nobody listens.
pub fn replica(options: &ReplicaOptions) -> Result<()> {
    let runtime = Runtime::new()?;
    let (nodes, discipline) = (options.nodes.clone(), options.discipline);
    let hold = Duration::from_micros(options.hold_micros);
    let turns = runtime.block_on(runtime.spawn(take_turns(nodes, discipline, hold)))??;
    for Hold { token, asked, acquired, released, replica: _ } in turns {
        println!("{token} {asked} {acquired} {released}");
    }
    Ok(())
}

async fn take_turns(
    nodes: Vec<String>,
    discipline: QueueDiscipline,
    hold: Duration,
) -> Result<Vec<Hold>> {
    let redlock = connect(&nodes).await?;
    println!("ready");
    BufReader::new(tokio::io::stdin()).read_line(&mut String::new()).await?;
    let mut turns = Vec::new();
    for _ in 0..TURNS {
        let asked = now()?;
        let lease = redlock.acquire(RESOURCE, patient(discipline)).await?;
        let acquired = now()?;
        if !hold.is_zero() {
            sleep(hold).await;
        }
        let (token, released) = (lease.token(), now()?);
        lease.release().await;
        turns.push(Hold { token, asked, acquired, released, replica: 0 });
    }
    Ok(turns)
}

fn now() -> Result<u64> {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC)?;
    Ok(u64::try_from(Duration::from(time).as_nanos())?)
}

async fn measure(round: u32) -> Result<Measured> {
    let nodes = Nodes::start()?;
    let mut raw = Raw::connect(&nodes.addresses()).await?;
    let first = raw_round_trips(&mut raw, None).await?;
    let mut kinds = [
        (QueueDiscipline::Unordered, NO_PAUSE, "hand_off_p50"),
        (QueueDiscipline::Fair, NO_PAUSE, "hand_off_fair_p50"),
        (QueueDiscipline::Unordered, PAUSE, "hand_off_after_pause_p50"),
    ];
    if round % 2 == 1 {
        kinds.reverse();
    }
    let mut measured = Vec::new();
    for (discipline, hold, p50) in kinds {
        let hand_offs = hand_offs(&nodes.addresses(), discipline, hold).await?;
        measured.push((p50, hand_offs.micros(50.0)));
        if p50 == "hand_off_p50" {
            measured.push(("hand_off_p99", hand_offs.micros(99.0)));
        }
    }
    let mut round_trips = raw_round_trips(&mut raw, None).await?;
    round_trips.merge(&first)?;
    let after_pause = raw_round_trips(&mut raw, Some(PAUSE)).await?;
    measured.push(("raw_round_trip_p50", round_trips.micros(50.0)));
    measured.push(("raw_round_trip_after_pause_p50", after_pause.micros(50.0)));
    Ok(measured.into())
}

/// Back to back, or each after a pause, as hand-offs are: a processor that slept takes longer.
async fn raw_round_trips(raw: &mut Raw, pause: Option<Duration>) -> Result<Latencies> {
    let mut latencies = Latencies::new()?;
    for _ in 0..RAW_ROUND_TRIPS {
        if let Some(pause) = pause {
            sleep(pause).await;
        }
        latencies.add(raw.set("lock:raw", "raw").await?)?;
        raw.delete("lock:raw", "raw").await?;
    }
    Ok(latencies)
}

async fn hand_offs(
    nodes: &[String],
    discipline: QueueDiscipline,
    hold: Duration,
) -> Result<Latencies> {
    let mut replicas =
        [start_replica(nodes, discipline, hold)?, start_replica(nodes, discipline, hold)?];
    for replica in &mut replicas {
        let stdout = replica.stdout.as_mut().context("a replica has no output")?;
        let mut ready = [0; "ready\n".len()];
        stdout.read_exact(&mut ready).await.context("a replica did not connect")?;
    }
    for replica in &mut replicas {
        let stdin = replica.stdin.as_mut().context("a replica has no input")?;
        stdin.write_all(b"go\n").await?;
    }
    let mut holds = Vec::new();
    for (index, replica) in replicas.into_iter().enumerate() {
        let output = replica.wait_with_output().await?;
        ensure!(output.status.success(), "a replica failed: {}", output.status);
        for line in String::from_utf8(output.stdout)?.lines() {
            holds.push(parse_hold(line, index)?);
        }
    }
    between_replicas(holds)
}

fn start_replica(nodes: &[String], discipline: QueueDiscipline, hold: Duration) -> Result<Child> {
    let discipline = match discipline {
        QueueDiscipline::Unordered => "Unordered",
        QueueDiscipline::Fair => "Fair",
    };
    Command::new(std::env::current_exe()?)
        .args(["replica", "--discipline", discipline, "--nodes", &nodes.join(",")])
        .args(["--hold-micros", &hold.as_micros().to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("cannot start a replica")
}

fn parse_hold(line: &str, replica: usize) -> Result<Hold> {
    let numbers: Result<Vec<u64>, _> = line.split(' ').map(str::parse).collect();
    let &[token, asked, acquired, released] = numbers?.as_slice() else {
        anyhow::bail!("a replica printed {line:?}");
    };
    Ok(Hold { token, asked, acquired, released, replica })
}

/// The times from one replica's release to the other's acquisition, if that one was waiting.
fn between_replicas(mut holds: Vec<Hold>) -> Result<Latencies> {
    holds.sort_unstable_by_key(|hold| hold.token);
    let mut latencies = Latencies::new()?;
    let mut counted = 0;
    for pair in holds.windows(2).skip(WARM_UP) {
        let [before, after] = pair else { continue };
        ensure!(before.released <= after.acquired, "two replicas held the lock at once");
        if before.replica != after.replica && after.asked < before.released {
            latencies.add(Duration::from_nanos(after.acquired - before.released))?;
            counted += 1;
        }
    }
    ensure!(counted >= TURNS / 2, "only {counted} hand-offs in {} turns", 2 * TURNS);
    Ok(latencies)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(replica: usize, token: u64, times: [u64; 3]) -> Hold {
        let [asked, acquired, released] = times;
        Hold { token, asked, acquired, released, replica }
    }

    /// The replicas alternate; each hold lasts 5 and follows the last after 2.
    fn alternating() -> Vec<Hold> {
        (0..u64::from(2 * TURNS))
            .map(|turn| at(usize::from(turn % 2 == 1), turn, [0, turn * 7, turn * 7 + 5]))
            .collect()
    }

    #[test]
    fn a_hand_off_is_from_release_to_acquisition() {
        let latencies = between_replicas(alternating()).unwrap();
        assert!((latencies.micros(50.0) - 0.002).abs() < 1e-9);
    }

    #[test]
    fn who_did_not_wait_yet_does_not_count() {
        let mut holds = alternating();
        for hold in &mut holds {
            hold.asked = hold.acquired;
        }
        assert!(between_replicas(holds).is_err());
    }

    #[test]
    fn two_holders_at_once_are_an_error() {
        let mut holds = alternating();
        holds[100].released = holds[101].acquired + 1;
        assert!(between_replicas(holds).is_err());
    }
}
