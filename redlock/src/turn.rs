//! A client's place in the queue for a resource, and the tickets that make it.
//!
//! A ticket is issued by a majority of the nodes, each of which issues only above the highest it
//! has issued: so tickets are unique and in real-time order, as fencing tokens are. They are asked
//! for together with the lock, or alone by a client that holds it or waits for it already.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::sync::oneshot;
use tokio::time::sleep;

use crate::members::Member;
use crate::roster::Roster;
use crate::script::{Place, Stays, TicketsWanted, Vote};
use crate::shared::{Question, Shared};
use crate::tally::{Tally, Verdict};
use crate::{AcquireError, Redlock};

/// How long to wait before too few nodes are asked again.
const RETRY: Duration = Duration::from_millis(50);
/// Clients that ask at the same moment ask again at once so many times,
const AGAIN_AT_ONCE: u32 = 3;
/// and then after up to this long.
const OUTBID_PAUSE: Duration = Duration::from_millis(2);

/// A line: the callers of one client that wait for one resource.
#[derive(Debug)]
pub(crate) struct Turn {
    /// Under this name the line is in the nodes' queues: a client may have several lines.
    line: Arc<str>,
    stands: Mutex<Stands>,
}

#[derive(Debug, Default)]
struct Stands {
    /// The lowest ticket that still waits.
    lowest: Option<u64>,
    /// More are under way, none of them below this.
    under_way: Option<u64>,
    wanted: Option<Wanted>,
    /// What the release of a hold asks for, and whose hold that is.
    asks: Option<(String, Arc<Question>)>,
    /// How long the votes took that decided last.
    took: Duration,
}

/// Tickets that are asked for together with the lock.
#[derive(Debug)]
struct Wanted {
    count: usize,
    taken: oneshot::Sender<Result<u64, AcquireError>>,
}

impl Turn {
    pub(crate) fn new(shared: &Shared) -> Self {
        Self { line: shared.next_owner().into(), stands: Mutex::default() }
    }

    pub(crate) fn line(&self) -> Arc<str> {
        Arc::clone(&self.line)
    }

    /// Its lowest ticket (0: none), and where it stands with that; if it wants tickets, from `first`.
    pub(crate) fn place(&self, first: u64) -> (u64, Place) {
        let stands = self.lock();
        let ticket = stands.lowest.unwrap_or(0);
        let count = stands.wanted.as_ref().map_or(0, |wanted| wanted.count);
        #[expect(clippy::cast_precision_loss, reason = "tickets are far below 2^52")]
        let number = ticket as f64;
        let fair = Some(TicketsWanted { count, first });
        (ticket, Place { line: Arc::clone(&self.line), number, fair })
    }

    /// 0: none waits.
    pub(crate) fn lowest_ticket(&self) -> u64 {
        self.lock().lowest.unwrap_or(0)
    }

    /// What waits, and which tickets are under way: before they are asked for, so that nobody leaves
    /// the queue who has just come.
    pub(crate) fn set(&self, lowest: Option<u64>, under_way: Option<u64>) {
        let mut stands = self.lock();
        (stands.lowest, stands.under_way) = (lowest, under_way);
    }

    /// The tickets that were wanted were had, of which this is the first.
    pub(crate) fn took(&self, first: u64) {
        let mut stands = self.lock();
        if let Some(wanted) = stands.wanted.take() {
            stands.lowest.get_or_insert(first);
            stands.under_way = None;
            let _ = wanted.taken.send(Ok(first));
        }
    }

    /// The acquisition is over that could have brought tickets, perhaps for this reason.
    pub(crate) fn wants_no_more(&self, error: Option<&AcquireError>) {
        if let Some(wanted) = self.lock().wanted.take()
            && let Some(error) = error
        {
            let _ = wanted.taken.send(Err(error.clone()));
        }
    }

    /// The release of this hold asks for that.
    pub(crate) fn ask_with_release_of(&self, hold: &str, question: Arc<Question>) {
        self.lock().asks = Some((hold.to_owned(), question));
    }

    /// Whether no release has asked for that; none will.
    pub(crate) fn take_back(&self, question: &Question) -> bool {
        self.lock().asks.take_if(|(_, asks)| asks.owner == question.owner).is_some()
    }

    /// How long the votes took that decided last.
    pub(crate) fn votes_took(&self) -> Duration {
        self.lock().took
    }

    pub(crate) fn set_votes_took(&self, took: Duration) {
        self.lock().took = took;
    }

    /// Tells the nodes that this hold ends, where the line stands then, and what it asks for; under
    /// the lock, since what they are told last is so.
    pub(crate) fn leave<T>(
        &self,
        hold: &str,
        tell: impl FnOnce(Stays, Option<Arc<Question>>) -> T,
    ) -> T {
        let mut stands = self.lock();
        let asks = stands.asks.take_if(|(of, _)| of == hold).map(|(_, question)| question);
        let stays = match (stands.lowest, stands.under_way) {
            (Some(lowest), _) => Stays::At(lowest),
            (None, Some(first)) => Stays::From(first),
            (None, None) => Stays::Nowhere,
        };
        tell(stays, asks)
    }

    /// The same when what was asked for is given up. A node that granted it may not have the line in
    /// its queue; one that has no ticket yet would stand before those who have.
    pub(crate) fn give_up<T>(&self, tell: impl FnOnce(Stays) -> T) -> T {
        let stands = self.lock();
        tell(stands.lowest.map_or(Stays::Nowhere, Stays::At))
    }

    fn lock(&self) -> MutexGuard<'_, Stands> {
        self.stands.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tickets under way; the first of them.
pub(crate) type Tickets = BoxFuture<'static, Result<u64, AcquireError>>;

impl Redlock {
    /// Takes tickets for so many arrivals in one round trip.
    pub(crate) fn take_tickets(
        &self,
        resource: &str,
        count: usize,
        deadline: Instant,
        turn: &Arc<Turn>,
    ) -> Tickets {
        let (shared, turn) = (Arc::clone(&self.shared), Arc::clone(turn));
        let resource = resource.to_owned();
        async move { propose(&shared, &resource, &turn, count, deadline).await }.boxed()
    }

    /// The same by the acquisition that begins now. Should it bring the lock without them, they are
    /// taken alone.
    pub(crate) fn want_tickets(
        &self,
        resource: &str,
        count: usize,
        deadline: Instant,
        turn: &Arc<Turn>,
    ) -> Tickets {
        let (taken, tickets) = oneshot::channel();
        turn.lock().wanted = Some(Wanted { count, taken });
        let alone = self.take_tickets(resource, count, deadline, turn);
        let tickets = async move {
            match tickets.await {
                Ok(taken) => taken,
                Err(_not_taken) => alone.await,
            }
        };
        tickets.boxed()
    }
}

async fn propose(
    shared: &Shared,
    resource: &str,
    turn: &Turn,
    count: usize,
    deadline: Instant,
) -> Result<u64, AcquireError> {
    let mut outbid = Outbid::default();
    loop {
        let round = ask(shared, resource, turn, count).await;
        if round.verdict == Verdict::Won {
            return Ok(round.first);
        }
        if Instant::now() >= deadline {
            let (reachable, nodes, quorum) = round.shortage;
            return Err(AcquireError::QuorumUnavailable { reachable, nodes, quorum });
        }
        if round.verdict == Verdict::Unreachable {
            sleep(RETRY.mul_f64(rand::random_range(0.1..1.0))).await;
        } else {
            outbid.pause().await;
        }
    }
}

/// How often others were quicker.
#[derive(Debug, Default)]
pub(crate) struct Outbid(u32);

impl Outbid {
    /// The answers have raised what is proposed next.
    pub(crate) async fn pause(&mut self) {
        self.0 += 1;
        if self.0 > AGAIN_AT_ONCE {
            sleep(OUTBID_PAUSE.mul_f64(rand::random_range(0.1..1.0))).await;
        }
    }
}

/// What came of one proposal.
struct Proposed {
    verdict: Verdict,
    /// The first of the tickets, if they were won.
    first: u64,
    /// See [`Tally::shortage`].
    shortage: (usize, usize, usize),
}

/// A node that has issued what is proposed issues its next instead, so whoever does not know how
/// far they are is told so only if several ask at the same moment.
async fn ask(shared: &Shared, resource: &str, turn: &Turn, count: usize) -> Proposed {
    let Roster { scripts, board, .. } = &*shared.roster;
    let (topic, members) = (board.topic(resource), shared.roster.members());
    let (epoch, place) = (members.membership.epoch, turn.lowest_ticket());
    let wanted = TicketsWanted { count, first: topic.highest_ticket() + 1 };
    let call = scripts.take_tickets(epoch, resource, &turn.line, place, wanted);
    let ask = async |(position, node): (usize, &Arc<Member>)| {
        (position, node.vote::<(i64, u64)>(&call).await.ok())
    };
    let mut votes: FuturesUnordered<_> = members.nodes.iter().enumerate().map(ask).collect();
    let mut issued = Issued::default();
    while let Some((position, answer)) = votes.next().await {
        let first = answer.and_then(|(vote, first)| (vote == 1).then_some(first));
        if let Some(first) = first {
            topic.saw_ticket(wanted.last(first));
        }
        issued.add(position, first);
        let (first, tally) = issued.tally(&members.sets);
        if let Some(verdict) = tally.verdict() {
            return Proposed { verdict, first, shortage: tally.shortage() };
        }
    }
    let (first, tally) = issued.tally(&members.sets);
    Proposed { verdict: Verdict::Unreachable, first, shortage: tally.shortage() }
}

impl TicketsWanted {
    /// The last, if this is the first.
    pub(crate) fn last(self, first: u64) -> u64 {
        first + u64::try_from(self.count).unwrap_or(0) - 1
    }
}

/// The first ticket that the node at each position issued; `None`: none in time.
#[derive(Debug, Default)]
pub(crate) struct Issued(Vec<(usize, Option<u64>)>);

impl Issued {
    pub(crate) fn add(&mut self, position: usize, first: Option<u64>) {
        self.0.push((position, first));
    }

    /// The one that most of them issued, which is the only one that can be won, and the votes on it.
    pub(crate) fn tally<'a>(&self, sets: &'a [Vec<usize>]) -> (u64, Tally<'a>) {
        let same = |first: u64| self.0.iter().filter(|(_, other)| *other == Some(first)).count();
        let most = self.0.iter().filter_map(|(_, first)| *first).max_by_key(|first| same(*first));
        let mut tally = Tally::new(sets);
        for (position, first) in &self.0 {
            let vote = if *first == most { Vote::Granted } else { Vote::Stale };
            tally.count(*position, first.map(|_| vote));
        }
        (most.unwrap_or(0), tally)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(firsts: &[Option<u64>]) -> (u64, Option<Verdict>) {
        let mut issued = Issued::default();
        for (position, first) in firsts.iter().enumerate() {
            issued.add(position, *first);
        }
        let sets = [(0..5).collect()];
        let (first, tally) = issued.tally(&sets);
        (first, tally.verdict())
    }

    #[test]
    fn tickets_are_had_when_a_majority_issued_the_same() {
        assert_eq!(verdict(&[Some(7), None, Some(7)]), (7, None));
        assert_eq!(verdict(&[Some(7), Some(9), Some(7), Some(7)]), (7, Some(Verdict::Won)));
        assert_eq!(verdict(&[Some(7), Some(9), Some(8)]).1, None);
        assert_eq!(verdict(&[Some(7), Some(9), Some(8), Some(6)]).1, Some(Verdict::Stale));
        let of_few = verdict(&[Some(7), None, None, None, Some(7)]);
        assert_eq!(of_few.1, Some(Verdict::Unreachable));
    }

    #[test]
    fn a_line_leaves_the_queue_only_if_nobody_waits_or_comes() {
        let turn = Turn { line: "me".into(), stands: Mutex::default() };
        let told = || turn.leave("me-0", |stays, _| stays);
        assert_eq!(told(), Stays::Nowhere);
        turn.set(None, Some(9));
        assert_eq!(told(), Stays::From(9));
        turn.set(Some(7), Some(9));
        assert_eq!(told(), Stays::At(7));
    }

    #[test]
    fn a_release_asks_once_and_not_for_what_was_given_up() {
        let turn = Turn { line: "me".into(), stands: Mutex::default() };
        let question = |owner: &str| {
            let (owner, place) = (owner.to_owned(), turn.place(1).1);
            Arc::new(Question { epoch: 0, owner, lease: RETRY, proposals: Vec::new(), place })
        };
        let told = |hold| turn.leave(hold, |_, asks| asks.map(|asks| asks.owner.clone()));
        let (first, second) = (question("me-2"), question("me-3"));
        turn.ask_with_release_of("me-1", Arc::clone(&first));
        assert_eq!(told("me-0"), None, "a hold that ended before that");
        assert!(!turn.take_back(&second));
        assert_eq!(told("me-1").as_deref(), Some("me-2"));
        assert!(!turn.take_back(&first), "the nodes must be told that it gives up");
        assert_eq!(told("me-1"), None);
        turn.ask_with_release_of("me-2", Arc::clone(&second));
        assert!(turn.take_back(&second));
        assert_eq!(told("me-2"), None);
    }

    #[test]
    fn a_line_that_gives_up_stays_only_with_a_ticket() {
        let turn = Turn { line: "me".into(), stands: Mutex::default() };
        turn.set(None, Some(9));
        assert_eq!(turn.give_up(|stays| stays), Stays::Nowhere);
        turn.set(Some(7), Some(9));
        assert_eq!(turn.give_up(|stays| stays), Stays::At(7));
    }

    #[test]
    fn an_acquisition_that_ends_says_whether_it_brought_tickets() {
        let turn = Turn { line: "me".into(), stands: Mutex::default() };
        let want = || {
            let (taken, tickets) = oneshot::channel();
            turn.lock().wanted = Some(Wanted { count: 2, taken });
            turn.set(None, Some(7));
            tickets
        };
        let mut tickets = want();
        turn.took(7);
        assert_eq!((tickets.try_recv(), turn.lowest_ticket()), (Ok(Ok(7)), 7));
        let mut tickets = want();
        turn.wants_no_more(None);
        assert!(tickets.try_recv().is_err(), "they are taken alone");
        let mut tickets = want();
        let error = AcquireError::Timeout { waited: RETRY };
        turn.wants_no_more(Some(&error));
        assert_eq!(tickets.try_recv(), Ok(Err(error)));
    }
}
