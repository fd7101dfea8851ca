//! One round of votes: what is asked, what came of it, and the request that stands afterwards.
//!
//! A round that was refused leaves its request on the nodes, and so does one that is asked with the
//! release of a hold. When the holder releases there, the node grants the request without being asked
//! again and tells its client, which counts that as a vote that came late. A vote may come late in
//! any case, so nothing new can go wrong by that.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::stream::StreamExt;
use tokio::runtime::Handle;
use tokio::task::coop::unconstrained;
use tokio::time::sleep_until;

use crate::acquisition::SPLIT_VOTE_PAUSE;
use crate::board::{Grant, Grants, Topic};
use crate::clock::Sample;
use crate::members::Members;
use crate::script::{Answer, Handover, Left, Stays, Vote};
use crate::shared::{Confirmed, Question, Shared, Votes};
use crate::tally::{Tally, Verdict};
use crate::turn::{Issued, Turn};

/// What became of a request that stood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// A majority granted it.
    Won,
    /// Its time is over, or the resource was released and nobody got it.
    AskAgain,
}

/// What a round has won.
pub(crate) struct Won {
    pub(crate) members: Arc<Members>,
    pub(crate) owner: String,
    pub(crate) line: Arc<str>,
    pub(crate) tokens: Vec<(String, u64)>,
    /// The line of the client and the lowest ticket in it (0: it got none), in fair order.
    pub(crate) turn: Option<(Arc<Turn>, u64)>,
}

/// Unless it is kept, it is given back: half-won nodes would stand in everybody's way, and a caller
/// that goes away in the middle holds nothing.
pub(crate) struct Round {
    shared: Arc<Shared>,
    members: Arc<Members>,
    topics: Vec<Arc<Topic>>,
    question: Arc<Question>,
    /// The line and its lowest ticket (0: none yet), in fair order.
    turn: Option<(Arc<Turn>, u64)>,
    /// The tickets that it asked for.
    issued: Issued,
    /// A lease counts from here.
    pub(crate) asked: Instant,
    /// How long it took until the votes decided.
    took: Duration,
    votes: Votes,
    /// What the nodes at these positions said; `None`: nothing in time.
    answers: Vec<(usize, Option<Vote>)>,
    /// The token that the node at each position granted to the only resource.
    granted: Vec<Option<u64>>,
    grants: Option<Grants>,
    won: Option<u64>,
    /// The lowest place of another line, by those that granted it.
    next_places: Vec<Option<u64>>,
    kept: bool,
}

impl Round {
    pub(crate) fn ask(
        shared: &Arc<Shared>,
        members: Arc<Members>,
        topics: Vec<Arc<Topic>>,
        question: Question,
        turn: Option<(Arc<Turn>, u64)>,
    ) -> Self {
        let question = Arc::new(question);
        let votes = shared.ask_all(&members, &question);
        let mut round = Self::new(shared, members, topics, question, turn, votes);
        // Sent now, whatever happens to the caller: giving up must come after.
        while let Some(Some((position, answer))) = unconstrained(round.votes.next()).now_or_never()
        {
            round.take_in(position, answer);
        }
        round
    }

    /// Asks with the release of this hold, which grants the resource to the first of all lines.
    pub(crate) fn ask_with_release_of(
        hold: &str,
        shared: &Arc<Shared>,
        members: Arc<Members>,
        topics: Vec<Arc<Topic>>,
        question: Question,
        turn: (Arc<Turn>, u64),
    ) -> Self {
        let (question, line) = (Arc::new(question), Arc::clone(&turn.0));
        let asks = Arc::clone(&question);
        let mut round = Self::new(shared, members, topics, question, Some(turn), Votes::new());
        round.took = line.votes_took();
        line.ask_with_release_of(hold, asks);
        round
    }

    fn new(
        shared: &Arc<Shared>,
        members: Arc<Members>,
        topics: Vec<Arc<Topic>>,
        question: Arc<Question>,
        turn: Option<(Arc<Turn>, u64)>,
        votes: Votes,
    ) -> Self {
        let grants = match &topics[..] {
            [topic] => Some(topic.expect_grants(&question.owner)),
            _ => None,
        };
        let nodes = members.nodes.len();
        Self {
            shared: Arc::clone(shared),
            topics,
            turn,
            issued: Issued::default(),
            asked: Instant::now(),
            took: Duration::ZERO,
            votes,
            members,
            question,
            answers: Vec::with_capacity(nodes),
            granted: vec![None; nodes],
            grants,
            won: None,
            next_places: vec![None; nodes],
            kept: false,
        }
    }

    /// Goes on as soon as the votes that came decide.
    pub(crate) async fn verdict(&mut self) -> Verdict {
        let verdict = self.decide().await;
        self.took = self.asked.elapsed();
        if let Some((turn, _)) = &self.turn {
            turn.set_votes_took(self.took);
        }
        verdict
    }

    /// How long to wait for those that are late, or that other contenders give up.
    pub(crate) fn split_pause(&self) -> Duration {
        SPLIT_VOTE_PAUSE.max(self.took)
    }

    async fn decide(&mut self) -> Verdict {
        loop {
            if let Some(verdict) = self.tally().verdict() {
                return verdict;
            }
            let Some((position, answer)) = self.votes.next().await else {
                return Verdict::Unreachable;
            };
            self.take_in(position, answer);
        }
    }

    /// How many of how many nodes answered, and the majority.
    pub(crate) fn shortage(&self) -> (usize, usize, usize) {
        self.tally().shortage()
    }

    /// Lets the request stand until a majority has granted it, for this long at most, or until it
    /// is `released` to nobody.
    pub(crate) async fn stand(
        &mut self,
        at_most: Duration,
        released: impl Future<Output = ()>,
    ) -> Outcome {
        let mut over = (Instant::now() + at_most).into();
        let mut released = pin!(released);
        let mut some_granted = false;
        loop {
            tokio::select! {
                Some((position, answer)) = self.votes.next(), if !self.votes.is_empty() => {
                    self.take_in(position, answer);
                }
                Some(grant) = next_grant(self.grants.as_mut()) => self.take_in_grant(grant),
                () = &mut released => return Outcome::AskAgain,
                () = sleep_until(over) => return Outcome::AskAgain,
            }
            if self.is_won() {
                return Outcome::Won;
            }
            // Not held any more, or in the wrong place, and the answers have raised what is proposed.
            if self.tally().is_outdated() || self.is_outbid() {
                return Outcome::AskAgain;
            }
            if !some_granted && self.granted.iter().any(Option::is_some) {
                some_granted = true;
                // The others follow at once, or they are somebody else's.
                over = over.min((Instant::now() + self.split_pause()).into());
            }
        }
    }

    /// The lowest ticket of another line: every ticket issued is known to one node at least of the
    /// majority that granted this.
    pub(crate) fn next_ticket(&self) -> Option<u64> {
        self.next_places.iter().flatten().min().copied()
    }

    /// Whether nodes that released it granted it, and not only those that were asked.
    pub(crate) fn was_granted_late(&self) -> bool {
        self.won.is_some()
    }

    fn take_in(&mut self, position: usize, answer: Option<Answer>) {
        self.answers.push((position, answer.as_ref().map(|answer| answer.vote)));
        self.take_in_ticket(position, answer.as_ref().and_then(|answer| answer.first_ticket));
        let Some(answer) = answer else { return };
        for (topic, fence) in self.topics.iter().zip(&answer.fences) {
            topic.saw_token(*fence);
        }
        if answer.vote == Vote::Granted {
            self.next_places[position] = answer.next_place;
            self.granted[position] = self.question.proposals.first().map(|(_, token)| *token);
        }
    }

    fn take_in_ticket(&mut self, position: usize, first: Option<u64>) {
        let Some(((turn, _), wanted)) = self.turn.as_ref().zip(self.question.place.fair) else {
            return;
        };
        if let (Some(first), Some(topic)) = (first, self.topics.first()) {
            topic.saw_ticket(wanted.last(first));
        }
        self.issued.add(position, first);
        let (first, tally) = self.issued.tally(&self.members.sets);
        if wanted.count > 0 && tally.verdict() == Some(Verdict::Won) {
            turn.took(first);
        }
    }

    /// Whether tickets are not to be had this time: others were quicker on some of the nodes.
    pub(crate) fn is_outbid(&self) -> bool {
        let (_, tally) = self.issued.tally(&self.members.sets);
        self.question.place.fair.is_some_and(|wanted| wanted.count > 0)
            && tally.verdict() == Some(Verdict::Stale)
    }

    fn take_in_grant(&mut self, grant: Grant) {
        let nodes = &self.members.nodes;
        let Some(position) = nodes.iter().position(|node| node.slot() == grant.node) else {
            return;
        };
        let node = &nodes[position];
        let sample = Sample { asked: self.asked, answered: Instant::now(), micros: grant.micros };
        if node.votes() && self.shared.roster.clock_is_sound(node, sample) {
            self.granted[position] = Some(grant.token);
            self.next_places[position] = grant.next_place;
        }
    }

    /// Whether a majority granted the same token.
    fn is_won(&mut self) -> bool {
        let granted = |token: u64| {
            let same = |position: usize| self.granted[position] == Some(token);
            Members::majority(&self.members.sets, same)
        };
        self.won = self.granted.iter().flatten().copied().find(|token| granted(*token));
        self.won.is_some()
    }

    fn tally(&self) -> Tally<'_> {
        let mut tally = Tally::new(&self.members.sets);
        for (position, vote) in &self.answers {
            tally.count(*position, *vote);
        }
        tally
    }

    /// What was won is the caller's now.
    pub(crate) fn keep(mut self) -> Won {
        self.kept = true;
        self.end();
        let mut tokens = self.question.proposals.clone();
        if let (Some(token), [(_, granted)]) = (self.won, &mut tokens[..]) {
            *granted = token;
        }
        let turn = self.turn.take().map(|(turn, ticket)| {
            // It may have got its first ticket in this round.
            let ticket = if ticket == 0 { turn.lowest_ticket() } else { ticket };
            (turn, ticket)
        });
        let Question { owner, place, .. } = &*self.question;
        Won {
            members: Arc::clone(&self.members),
            owner: owner.clone(),
            line: Arc::clone(&place.line),
            tokens,
            turn,
        }
    }

    fn end(&mut self) {
        for topic in self.grants.iter().flat_map(|_| &self.topics) {
            topic.forget_grants(&self.question.owner);
        }
        let votes = std::mem::take(&mut self.votes);
        if !votes.is_empty()
            && let Ok(runtime) = Handle::try_current()
        {
            // Nobody waits for the rest, but what became of them is measured.
            runtime.spawn(votes.for_each(|_late| std::future::ready(())));
        }
    }
}

impl Drop for Round {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        self.end();
        let Question { owner, proposals, place, .. } = &*self.question;
        let turn = self.turn.as_ref().map(|(turn, _)| turn);
        if turn.is_some_and(|turn| turn.take_back(&self.question)) {
            return;
        }
        let given_up = proposals.iter().zip(&self.topics).map(|((resource, _), topic)| Handover {
            resource: resource.clone(),
            token: topic.highest_token(),
            value: None,
        });
        let (given_up, confirmed) = (given_up.collect(), Confirmed::ByMajority);
        let release = |stays| {
            let line = Arc::clone(&place.line);
            let turn = turn.cloned();
            let line = Left { line, stays, turn, gives_up: true, asks: None };
            self.shared.release(&self.members, owner, line, given_up, confirmed)
        };
        let released = match turn {
            Some(turn) => turn.give_up(release),
            None => release(Stays::AsItIs),
        };
        // Outside a runtime nothing can be sent; the nodes then end the lease themselves.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(released);
        }
    }
}

async fn next_grant(grants: Option<&mut Grants>) -> Option<Grant> {
    match grants {
        Some(grants) => grants.recv().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
