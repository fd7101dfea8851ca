//! The users of a run: all at once, or one after the other until the run is told to stop. Knows when users start, and
//! not what they do.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::buyer::{Buyer, BuyerResult, PurchaseOptions};
use crate::error::ConfigError;
use crate::observed::Outcome;
use crate::progress_display::{ProgressDisplay, State};

const SHOWN_EVERY: Duration = Duration::from_secs(1);

/// What the users of a run did.
pub struct Sold {
    /// When the first user started.
    pub started: Instant,
    /// When the last user started.
    pub last_start: Instant,
    /// When the last user was done.
    pub ended: Instant,
    /// One per user.
    pub results: Vec<BuyerResult>,
}

#[derive(Default)]
struct Progress {
    done: AtomicU32,
    sold: AtomicU32,
    unanswered: AtomicU32,
    slowest_us: AtomicU64,
    display: ProgressDisplay,
}

impl Progress {
    fn add(&self, result: &BuyerResult) {
        self.done.fetch_add(1, Ordering::Relaxed);
        match result.purchase.outcome {
            Outcome::Sold(_) => {
                self.sold.fetch_add(1, Ordering::Relaxed);
            }
            Outcome::Declined(_) => {}
            Outcome::Unanswered(_) => {
                self.unanswered.fetch_add(1, Ordering::Relaxed);
            }
        }
        let slowest = result.attempts.iter().map(|attempt| attempt.took).max().unwrap_or_default();
        let slowest = u64::try_from(slowest.as_micros()).unwrap_or(u64::MAX);
        self.slowest_us.fetch_max(slowest, Ordering::Relaxed);
    }

    fn state(&self, users: usize, more_come: bool) -> State {
        State {
            users: u32::try_from(users).unwrap_or(u32::MAX),
            more_come,
            done: self.done.load(Ordering::Relaxed),
            sold: self.sold.load(Ordering::Relaxed),
            unanswered: self.unanswered.load(Ordering::Relaxed),
            slowest: Duration::from_micros(self.slowest_us.load(Ordering::Relaxed)),
        }
    }

    fn show(&self, users: usize, more_come: bool, elapsed: Duration) {
        self.display.show(&self.state(users, more_come), elapsed);
    }
}

/// Starts all users at once.
pub async fn at_once(
    buyers: Vec<Buyer>,
    options: Arc<PurchaseOptions>,
    deadline: Duration,
) -> Sold {
    let gate = Arc::new(Barrier::new(buyers.len() + 1));
    let progress = Arc::new(Progress::default());
    let mut users = JoinSet::new();
    for buyer in buyers {
        let (options, gate, progress) =
            (Arc::clone(&options), Arc::clone(&gate), Arc::clone(&progress));
        users.spawn(async move {
            gate.wait().await;
            let result = buyer.buy(&options, Instant::now() + deadline).await;
            progress.add(&result);
            result
        });
    }
    let started = Instant::now();
    gate.wait().await;
    let results = finish(users, &progress, started).await;
    Sold { started, last_start: started, ended: Instant::now(), results }
}

/// How users come one after the other.
pub struct Pace {
    /// Time between two users.
    pub between: Duration,
    /// Time after which no more users start.
    pub duration: Duration,
    /// Maximum number of users.
    pub users: usize,
    /// Time after which a user gives up.
    pub deadline: Duration,
}

/// The signal that ends a run.
pub struct Stop {
    terminated: Signal,
    interrupted: Signal,
}

impl Stop {
    /// From now on SIGTERM and SIGINT end the run instead of the process.
    pub fn listen() -> Result<Self, ConfigError> {
        let listen = |kind| {
            signal(kind).map_err(|error| {
                ConfigError::new("--scenario", format!("cannot wait for signals: {error}"))
            })
        };
        Ok(Self {
            terminated: listen(SignalKind::terminate())?,
            interrupted: listen(SignalKind::interrupt())?,
        })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.terminated.recv() => {}
            _ = self.interrupted.recv() => {}
        }
    }
}

/// Starts one user after the other until `stop`, whatever happens to the earlier ones, and waits for all of them.
pub async fn one_by_one(
    mut buyers: impl FnMut(usize) -> Result<Buyer, ConfigError>,
    options: Arc<PurchaseOptions>,
    pace: &Pace,
    mut stop: Stop,
) -> Result<Sold, ConfigError> {
    let progress = Arc::new(Progress::default());
    let mut users = JoinSet::new();
    let mut results = Vec::new();
    let started = Instant::now();
    let mut last_start = started;
    let mut next = interval(pace.between);
    // A late start is made up for, so that the rate holds.
    next.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut shown = interval(SHOWN_EVERY);
    let mut over = std::pin::pin!(tokio::time::sleep(pace.duration));
    for index in 0..pace.users {
        loop {
            tokio::select! {
                biased;
                () = stop.wait() => {
                    eprintln!("told to stop; waiting for {} users", users.len());
                    results.extend(finish(users, &progress, started).await);
                    return Ok(Sold { started, last_start, ended: Instant::now(), results });
                }
                () = &mut over => {
                    results.extend(finish(users, &progress, started).await);
                    return Ok(Sold { started, last_start, ended: Instant::now(), results });
                }
                _ = shown.tick() => progress.show(index, true, started.elapsed()),
                Some(done) = users.join_next() => results.extend(done.ok()),
                _ = next.tick() => break,
            }
        }
        let buyer = buyers(index)?;
        last_start = Instant::now();
        let (options, progress) = (Arc::clone(&options), Arc::clone(&progress));
        let deadline = last_start + pace.deadline;
        users.spawn(async move {
            let result = buyer.buy(&options, deadline).await;
            progress.add(&result);
            result
        });
    }
    results.extend(finish(users, &progress, started).await);
    Ok(Sold { started, last_start, ended: Instant::now(), results })
}

/// Waits for all users, and shows the progress every second.
async fn finish(
    users: JoinSet<BuyerResult>,
    progress: &Progress,
    started: Instant,
) -> Vec<BuyerResult> {
    let total = users.len();
    let before = progress.done.load(Ordering::Relaxed) as usize;
    let mut results = std::pin::pin!(users.join_all());
    let mut tick = interval(SHOWN_EVERY);
    loop {
        tokio::select! {
            results = &mut results => {
                progress.display.finish(&progress.state(before + total, false), started.elapsed());
                return results;
            }
            _ = tick.tick() => progress.show(before + total, false, started.elapsed()),
        }
    }
}
