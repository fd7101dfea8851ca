//! The users of a run: all at once, one after the other whatever happens to the earlier ones, or each as soon as the
//! earlier one has its ticket. Knows when users start, and not what they do.

use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, interval, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::buyers::buyer::{Buyer, BuyerResult, PurchaseOptions};
use crate::buyers::connections::Turn;
use crate::buyers::moments::due_or_now;
use crate::error::ConfigError;
use crate::observed::tally::Tally;
use crate::progress::Progress;
use crate::terminal::note;

const SHOWN_EVERY: Duration = Duration::from_secs(1);
/// A user whose ticket is not seen for this long is waited for no longer.
const TURN: Duration = Duration::from_secs(5);
/// A signal that comes so soon after the first one is the same request: `timeout` signals the process, and its group.
const ONE_REQUEST: Duration = Duration::from_millis(500);

/// What the users of a run did.
pub struct Sold {
    /// When the first user started.
    pub started: Instant,
    /// When the last user started.
    pub last_start: Instant,
    /// When the last user was done.
    pub ended: Instant,
    /// What the look-up of the API's names took, before the first user started.
    pub lookup: Duration,
    /// What happened to them.
    pub tally: Tally,
}

/// What all users of a pod share.
pub struct Crowd {
    pub options: Arc<PurchaseOptions>,
    pub progress: Arc<Progress>,
    /// Time after which a user gives up.
    pub deadline: Duration,
    /// No more users start once it is cancelled.
    pub stop: CancellationToken,
    /// What the look-up of the API's names took.
    pub lookup: Duration,
    /// Is notified once the users start, at once or one by one.
    pub begun: Arc<Notify>,
}

/// Users at work.
struct Users<'a> {
    crowd: &'a Crowd,
    started: Instant,
    last_start: Instant,
    tasks: JoinSet<(usize, BuyerResult)>,
    tally: Tally,
}

impl<'a> Users<'a> {
    fn new(crowd: &'a Crowd) -> Self {
        let started = Instant::now();
        Self { crowd, started, last_start: started, tasks: JoinSet::new(), tally: Tally::default() }
    }

    /// Starts a user who comes and wants to buy at this moment.
    fn start(&mut self, buyer: Buyer, wanted: Instant) {
        self.crowd.progress.start();
        self.last_start = wanted;
        self.let_buy(buyer, wanted, None);
    }

    fn let_buy(&mut self, buyer: Buyer, wanted: Instant, turn: Option<Turn>) {
        let Crowd { options, progress, deadline, .. } = self.crowd;
        let (options, progress) = (Arc::clone(options), Arc::clone(progress));
        let (index, deadline) = (buyer.index, wanted + *deadline);
        self.tasks.spawn(async move {
            let result = buyer.buy(&options, wanted, deadline, turn).await;
            progress.end(&result);
            (index, result)
        });
    }

    /// Adds what happened to a user. If the task panicked, nothing is known of the user; the log has the panic's message.
    fn end(&mut self, done: Result<(usize, BuyerResult), JoinError>) -> Option<usize> {
        let Ok((index, result)) = done else {
            self.tally.purchases.add_lost();
            return None;
        };
        self.tally.add(self.started, u32::try_from(index).unwrap_or(u32::MAX), result);
        Some(index)
    }

    /// Waits for all users, and shows the progress every second.
    async fn finish(mut self) -> Sold {
        let mut shown = interval(SHOWN_EVERY);
        loop {
            tokio::select! {
                done = self.tasks.join_next() => match done {
                    Some(done) => {
                        self.end(done);
                    }
                    None => break,
                },
                _ = shown.tick() => self.crowd.progress.show(false, self.started.elapsed()),
            }
        }
        self.crowd.progress.finish(self.started.elapsed());
        Sold {
            started: self.started,
            last_start: self.last_start,
            ended: Instant::now(),
            lookup: self.crowd.lookup,
            tally: self.tally,
        }
    }
}

/// Starts all users at once. Each of them wants to buy at the same moment.
pub async fn at_once(buyers: Vec<Buyer>, crowd: &Crowd) -> Sold {
    if crowd.options.connections.are_shared() {
        return at_once_by_turns(buyers, crowd).await;
    }
    let (open, gate) = watch::channel(None::<Instant>);
    let mut users = Users::new(crowd);
    for buyer in buyers {
        let Crowd { options, progress, deadline, .. } = crowd;
        let (options, progress) = (Arc::clone(options), Arc::clone(progress));
        let (index, deadline, mut gate) = (buyer.index, *deadline, gate.clone());
        progress.start();
        users.tasks.spawn(async move {
            let opened = gate.wait_for(Option::is_some).await.ok().and_then(|moment| *moment);
            let wanted = opened.unwrap_or_else(Instant::now);
            let result = buyer.buy(&options, wanted, wanted + deadline, None).await;
            progress.end(&result);
            (index, result)
        });
    }
    drop(gate);
    users.started = Instant::now();
    users.last_start = users.started;
    open.send_replace(Some(users.started));
    crowd.begun.notify_one();
    users.finish().await
}

/// The same with shared connections: all users want to buy at the same moment, and the task of each begins when it is the
/// user's turn. If all tasks began together, the first answers would wait until each had asked for a connection.
async fn at_once_by_turns(buyers: Vec<Buyer>, crowd: &Crowd) -> Sold {
    for _ in &buyers {
        crowd.progress.start();
    }
    let mut users = Users::new(crowd);
    let wanted = users.started;
    crowd.begun.notify_one();
    let mut shown = interval(SHOWN_EVERY);
    let mut too_late = std::pin::pin!(tokio::time::sleep(crowd.deadline));
    for buyer in buyers {
        let mut turn = std::pin::pin!(crowd.options.connections.turn());
        let turn = loop {
            tokio::select! {
                biased;
                turn = &mut turn => break Some(turn),
                // Without a turn, the user learns by itself that there is no time left.
                () = &mut too_late => break None,
                Some(done) = users.tasks.join_next() => {
                    users.end(done);
                }
                _ = shown.tick() => crowd.progress.show(false, users.started.elapsed()),
            }
        };
        users.let_buy(buyer, wanted, turn);
    }
    users.finish().await
}

/// How users come one after the other.
pub struct Pace {
    /// Time between two users of the whole run.
    pub between: Duration,
    /// Time after which no more users start.
    pub duration: Duration,
}

/// What SIGTERM and SIGINT mean to a run.
#[derive(Debug, Clone, Default)]
pub struct Stops {
    /// The first one: no more users start.
    pub arrivals: CancellationToken,
    /// Another one, not at once: nobody waits for the users who started.
    pub run: CancellationToken,
}

impl Stops {
    /// From now on the signals end the run instead of the process.
    ///
    /// # Errors
    /// When signals cannot be received.
    pub fn on_signals() -> Result<Self, ConfigError> {
        let listen = |kind| {
            signal(kind).map_err(|error| {
                ConfigError::new("--scenario", format!("cannot wait for signals: {error}"))
            })
        };
        let mut terminated = listen(SignalKind::terminate())?;
        let mut interrupted = listen(SignalKind::interrupt())?;
        let stops = Self::default();
        let told = stops.clone();
        tokio::spawn(async move {
            let first = either(&mut terminated, &mut interrupted).await;
            note(
                "told to stop; no more users start, and a signal half a second later or more ends the run",
            );
            told.arrivals.cancel();
            while !is_another(first, either(&mut terminated, &mut interrupted).await) {}
            told.run.cancel();
        });
        Ok(stops)
    }
}

/// The moment of the next signal.
async fn either(one: &mut Signal, other: &mut Signal) -> Instant {
    tokio::select! {
        _ = one.recv() => {}
        _ = other.recv() => {}
    }
    Instant::now()
}

/// Whether a signal is another request than the first one.
fn is_another(first: Instant, now: Instant) -> bool {
    now.duration_since(first) >= ONE_REQUEST
}

/// Starts the users of these numbers, each at its own moment, until the stop, and waits for all of them.
pub async fn one_by_one(
    indexes: impl Iterator<Item = usize>,
    mut buyers: impl FnMut(usize) -> Result<Buyer, ConfigError>,
    crowd: &Crowd,
    pace: &Pace,
) -> Result<Sold, ConfigError> {
    let mut users = Users::new(crowd);
    crowd.begun.notify_one();
    let mut shown = interval(SHOWN_EVERY);
    let mut over = std::pin::pin!(tokio::time::sleep(pace.duration));
    for index in indexes {
        let due = users.started + pace.between * u32::try_from(index).unwrap_or(u32::MAX);
        loop {
            tokio::select! {
                biased;
                () = crowd.stop.cancelled() => return Ok(users.finish().await),
                () = &mut over => return Ok(users.finish().await),
                _ = shown.tick() => crowd.progress.show(true, users.started.elapsed()),
                () = sleep_until(due) => break,
                Some(done) = users.tasks.join_next() => {
                    users.end(done);
                }
            }
        }
        users.start(buyers(index)?, due_or_now(due));
    }
    Ok(users.finish().await)
}

/// Tells whether another ticket was issued.
pub trait Tickets {
    /// Remembers the tickets of this moment.
    async fn mark(&mut self);
    /// Whether a majority of the nodes has issued one since then.
    async fn another(&mut self) -> bool;
}

/// Starts each user once the earlier one has a ticket, or an answer: so users ask in the order of their numbers, and
/// still many of them wait at the same time. The second result is the number of users whose ticket was not seen.
pub async fn in_turn(
    buyers: Vec<Buyer>,
    crowd: &Crowd,
    tickets: &mut impl Tickets,
) -> (Sold, usize) {
    let mut users = Users::new(crowd);
    let mut unseen = 0;
    for buyer in buyers {
        tickets.mark().await;
        let index = buyer.index;
        let now = Instant::now();
        users.start(buyer, now);
        let mut is_done = false;
        loop {
            while let Some(done) = users.tasks.try_join_next() {
                is_done |= users.end(done) == Some(index);
            }
            if is_done || tickets.another().await {
                break;
            }
            if now.elapsed() > TURN {
                unseen += 1;
                break;
            }
        }
    }
    (users.finish().await, unseen)
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use futures::FutureExt;
    use load_scenarios::Kind;

    use super::*;
    use crate::buyers::connections::Connections;
    use crate::http::Call;

    /// A crowd without a server to buy from.
    fn crowd(connections: Option<u32>) -> Crowd {
        let options = PurchaseOptions {
            servers: Vec::new(),
            connections: Connections::new(connections, 0),
            kind: Kind::Purchase,
            products: Vec::new(),
            purchase: Call::get("/"),
            admin_token: String::new(),
            pause: Duration::ZERO..=Duration::ZERO,
            max_tries: 1,
            answer_timeout: Duration::ZERO,
            honours_retry_after: false,
        };
        Crowd {
            options: Arc::new(options),
            progress: Arc::default(),
            deadline: Duration::ZERO,
            stop: CancellationToken::new(),
            lookup: Duration::ZERO,
            begun: Arc::default(),
        }
    }

    #[tokio::test]
    async fn a_crowd_has_begun_once_its_gate_is_open() {
        let crowd = crowd(None);
        let has_begun = || crowd.begun.notified().now_or_never().is_some();
        let mut users = std::pin::pin!(at_once(Vec::new(), &crowd));
        assert!(!has_begun());
        users.as_mut().await;
        assert!(has_begun());
        let pace = Pace { between: Duration::from_hours(1), duration: Duration::MAX };
        let nobody = |_| Err(ConfigError::new("--scenario", "has no user"));
        let mut users = std::pin::pin!(one_by_one(1.., nobody, &crowd, &pace));
        // The first user comes in an hour.
        assert!(users.as_mut().now_or_never().is_none() && has_begun());
    }

    #[test]
    fn signals_that_come_together_are_one_request() {
        let first = Instant::now();
        let after = |millis| first + Duration::from_millis(millis);
        assert!(!is_another(first, first) && !is_another(first, after(499)));
        assert!(is_another(first, after(500)) && is_another(first, after(60_000)));
    }

    #[tokio::test]
    async fn a_user_whose_task_is_lost_has_no_answer() {
        let crowd = crowd(None);
        let mut users = Users::new(&crowd);
        users.tasks.spawn(pending()).abort();
        let purchases = users.finish().await.tally.purchases;
        assert_eq!((purchases.users, purchases.unanswered), (1, 1));
        assert_eq!(purchases.failed["panicked"], 1);
    }

    fn buyer(index: usize) -> Buyer {
        Buyer { index, subject: index.to_string(), token: String::new(), follow_up: None }
    }

    #[tokio::test]
    async fn a_crowd_that_waits_for_a_connection_ends_at_its_deadline() {
        let crowd = crowd(Some(1));
        let busy = crowd.options.connections.turn().await;
        let sold = at_once((0..3).map(buyer).collect(), &crowd).await;
        let purchases = sold.tally.purchases;
        assert_eq!((purchases.users, purchases.unanswered), (3, 3));
        assert_eq!(crowd.progress.own().came, 3);
        drop(busy);
    }
}
