//! A worker process: some clients of each of the three resources over one [`Redlock`].
//!
//! It takes commands on stdin and reports on stdout, one JSON object a line. The end of stdin means that the
//! process that started it is gone; then it ends, too.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use redlock::{Combiner, CombinerConfig, Config, NodeConfig, Policy, QueueDiscipline, Redlock};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::clock;
use crate::history::{Event, OperationId, Workload};
use crate::register::Registers;
use crate::section::{Client, Fencing, Gate, Journal, Swaps};

/// How long a node keeps a lock for a holder that says nothing more.
pub const LEASE: Duration = Duration::from_secs(1);
/// How long a client waits for the lock.
pub const WAIT: Duration = Duration::from_secs(2);
/// How long one node may take to answer.
pub const NODE_TIMEOUT: Duration = Duration::from_millis(50);

/// A client that got an answer asks again after up to this long, so that the machine can breathe.
const THINK: Duration = Duration::from_millis(20);
/// How often each client of a combiner asks without a pause. The process pauses after that, so that others have
/// the lock for themselves.
const BURST: usize = 4;
const PAUSE: Duration = Duration::from_millis(100);
/// A process that was not run for so long is no witness of who was alive.
const STALL: Duration = Duration::from_millis(150);
const STALL_CHECK: Duration = Duration::from_millis(20);
const VOTING_CHECK: Duration = Duration::from_millis(20);

/// The first line on stdin.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Assignment {
    /// The process, from 0.
    pub process: usize,
    /// Each start of a process has its own.
    pub start: u64,
    /// The first of its clients.
    pub first_client: usize,
    /// How many clients it has, for each resource.
    pub clients: usize,
    /// `host:port` of each node.
    pub nodes: Vec<String>,
    /// The database.
    pub database_url: String,
}

/// The other lines on stdin.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub enum Command {
    /// Hold the next operation on this resource between its transactions.
    Hold(Workload),
    /// Let it go on.
    Go,
    /// Begin no more operations, and end when those under way have ended.
    Finish,
}

/// A line on stdout.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Report {
    /// A step of an operation.
    Step(Event),
    /// The process was not run in this time.
    Stalled {
        /// From then.
        from: u64,
        /// Until then.
        to: u64,
    },
    /// Number of nodes that may vote, as far as this process knows.
    Voting(usize),
}

/// Carries out the commands on stdin until the one to finish.
///
/// # Errors
/// When it does not understand a command.
pub async fn run() -> Result<()> {
    let mut first = String::new();
    std::io::stdin().read_line(&mut first)?;
    let assignment: Assignment = serde_json::from_str(&first).context("the first line on stdin")?;
    let (gate, finish) = (Arc::new(Gate::default()), Arc::new(AtomicBool::new(false)));
    let (closing, finishing) = (Arc::clone(&gate), Arc::clone(&finish));
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            match serde_json::from_str(&line) {
                Ok(Command::Hold(workload)) => closing.close(workload),
                Ok(Command::Go) => closing.open(),
                Ok(Command::Finish) => finishing.store(true, Ordering::Relaxed),
                Err(error) => eprintln!("lock-client: {line:?}: {error}"),
            }
        }
        std::process::exit(1);
    });
    watch_for_stalls(|| true, |from, to| report(&Report::Stalled { from, to }));
    work(&assignment, &gate, &finish).await
}

async fn work(assignment: &Assignment, gate: &Arc<Gate>, finish: &Arc<AtomicBool>) -> Result<()> {
    let redlock = Redlock::start(&config(&assignment.nodes))?;
    let connections = u32::try_from(assignment.clients * Workload::ALL.len())?;
    let registers = Registers::connect(&assignment.database_url, connections)?;
    tokio::spawn(report_voting(redlock.clone()));
    // Who asks before that has no ticket for as long as connecting takes, and may be passed over.
    let connected = async {
        while !redlock.has_quorum() {
            sleep(VOTING_CHECK).await;
        }
    };
    // Where there is no quorum, that is for the operations to find out.
    let _ = timeout(WAIT, connected).await;
    let journal: Journal = Arc::new(|event| report(&Report::Step(event)));
    let numbers = Arc::new(AtomicU64::new(1));
    let one = CombinerConfig { batch: 1, ..CombinerConfig::default() };
    // One of the processes in fair order, beside the others.
    let is_fair = assignment.process == 1;
    let discipline = if is_fair { QueueDiscipline::Fair } else { QueueDiscipline::Unordered };
    let swaps = Swaps(Policy { discipline, ..policy() });
    let combiner = Arc::new(Combiner::new(redlock.clone(), swaps, one));
    let (mut clients, mut in_batches) = (JoinSet::new(), Vec::new());
    for workload in Workload::ALL {
        for number in assignment.first_client..assignment.first_client + assignment.clients {
            let client = Client {
                process: assignment.process,
                number,
                workload,
                redlock: redlock.clone(),
                policy: policy(),
                registers: registers.clone(),
                fencing: Fencing::InstalledBeforeReading,
                gate: Arc::clone(gate),
                journal: Arc::clone(&journal),
            };
            let (numbers, finish) = (Arc::clone(&numbers), Arc::clone(finish));
            let start = assignment.start;
            if workload == Workload::Renewed {
                in_batches.push(client);
                continue;
            }
            clients.spawn(async move {
                while !finish.load(Ordering::Relaxed) {
                    let number = numbers.fetch_add(1, Ordering::Relaxed);
                    client.swap(OperationId { start, number }).await;
                    sleep(THINK.mul_f64(rand::random_range(0.0..1.0))).await;
                }
            });
        }
    }
    let (start, finish) = (assignment.start, Arc::clone(finish));
    clients.spawn(async move {
        while !finish.load(Ordering::Relaxed) {
            let mut bursts = JoinSet::new();
            for client in in_batches.clone() {
                let (numbers, combiner) = (Arc::clone(&numbers), Arc::clone(&combiner));
                bursts.spawn(async move {
                    for _ in 0..BURST {
                        let number = numbers.fetch_add(1, Ordering::Relaxed);
                        client.swap_in_batch(&combiner, OperationId { start, number }).await;
                    }
                });
            }
            bursts.join_all().await;
            sleep(PAUSE.mul_f64(rand::random_range(0.0..1.0))).await;
        }
    });
    while let Some(ended) = clients.join_next().await {
        ended?;
    }
    Ok(())
}

/// Tells how many nodes may vote, whenever that changes.
async fn report_voting(redlock: Redlock) {
    let mut last = 0;
    loop {
        let (voting, _) = redlock.connected();
        if voting != last {
            report(&Report::Voting(voting));
            last = voting;
        }
        sleep(VOTING_CHECK).await;
    }
}

/// The nodes at these addresses.
#[must_use]
pub fn config(addresses: &[String]) -> Config {
    let nodes = addresses
        .iter()
        .map(|address| NodeConfig { address: address.clone(), password: None })
        .collect();
    let renew_from = Duration::ZERO;
    Config { node_timeout: NODE_TIMEOUT, longest_lease: LEASE, renew_from, ..Config::new(nodes) }
}

/// Lease and wait of every client.
#[must_use]
pub fn policy() -> Policy {
    Policy { wait_timeout: WAIT, lease_time: LEASE, ..Policy::default() }
}

/// Tells of every time in which this process was not run, from a thread of its own, as long as somebody wants to know.
pub fn watch_for_stalls(
    is_wanted: impl Fn() -> bool + Send + 'static,
    stalled: impl Fn(u64, u64) + Send + 'static,
) {
    std::thread::spawn(move || {
        while is_wanted() {
            let (from, started) = (clock::now(), Instant::now());
            std::thread::sleep(STALL_CHECK);
            if started.elapsed() > STALL {
                stalled(from, clock::now());
            }
        }
    });
}

/// Written at once and as a whole: the process may be killed after it.
fn report(report: &Report) {
    let mut stdout = std::io::stdout().lock();
    // A reader that is gone also closed stdin, which ends this process.
    let _ = serde_json::to_string(report).map(|line| writeln!(stdout, "{line}"));
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{RecvTimeoutError, channel};

    use super::*;

    #[test]
    fn nobody_watches_for_a_suite_that_is_gone() {
        let suite = Arc::new(());
        let (wanted, (told, watched)) = (Arc::downgrade(&suite), channel());
        drop(suite);
        let stalled = move |_, _| {
            let _ = told.send(());
        };
        watch_for_stalls(move || wanted.strong_count() > 0, stalled);
        // The thread has the sender as long as it lives.
        let ended = watched.recv_timeout(Duration::from_secs(20));
        assert_eq!(ended, Err(RecvTimeoutError::Disconnected));
    }
}
