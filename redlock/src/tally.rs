//! Counting the votes of one round; pure, so that every case can be tested.

use crate::script::Vote;

/// What a round has come to so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// A majority granted.
    Won,
    /// A majority is out of reach because locks are held; the time in ms until the last expires.
    Held(u64),
    /// As `Held`, but some nodes granted: contenders share the votes, and nobody holds a majority.
    Split,
    /// A majority is out of reach because the tokens proposed are too low; try higher at once.
    Stale,
    /// Too few nodes answered.
    Unreachable,
}

/// The votes of one round.
#[derive(Debug)]
pub(crate) struct Tally {
    nodes: usize,
    granted: usize,
    held: usize,
    stale: usize,
    failed: usize,
    wait: u64,
}

impl Tally {
    pub(crate) fn new(nodes: usize) -> Self {
        Self { nodes, granted: 0, held: 0, stale: 0, failed: 0, wait: 0 }
    }

    pub(crate) fn quorum(&self) -> usize {
        self.nodes / 2 + 1
    }

    pub(crate) fn reachable(&self) -> usize {
        self.granted + self.held + self.stale
    }

    /// Counts one node; `None` is a node that did not answer.
    pub(crate) fn count(&mut self, vote: Option<Vote>) {
        match vote {
            Some(Vote::Granted) => self.granted += 1,
            Some(Vote::Held { wait_ms }) => {
                self.held += 1;
                self.wait = self.wait.max(wait_ms);
            }
            Some(Vote::Stale) => self.stale += 1,
            None => self.failed += 1,
        }
    }

    /// The verdict, as soon as no further vote can change it.
    pub(crate) fn verdict(&self) -> Option<Verdict> {
        if self.granted >= self.quorum() {
            return Some(Verdict::Won);
        }
        let lost = self.nodes - self.quorum();
        if self.failed > lost {
            // Nothing is gained by hurry, and the caller wants to know how many are left.
            let counted = self.reachable() + self.failed;
            return (counted == self.nodes).then_some(Verdict::Unreachable);
        }
        if self.held + self.stale + self.failed <= lost {
            return None;
        }
        // A node without the lock may still refuse a low token: waiting helps only where it is held.
        Some(match (self.held, self.granted) {
            (0, _) => Verdict::Stale,
            (_, 0) => Verdict::Held(self.wait),
            _ => Verdict::Split,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(nodes: usize, votes: &[Option<Vote>]) -> Option<Verdict> {
        let mut tally = Tally::new(nodes);
        for vote in votes {
            tally.count(*vote);
        }
        tally.verdict()
    }

    const GRANTED: Option<Vote> = Some(Vote::Granted);
    const STALE: Option<Vote> = Some(Vote::Stale);
    const HELD: Option<Vote> = Some(Vote::Held { wait_ms: 7 });

    #[test]
    fn one_node_decides_alone() {
        assert_eq!(verdict(1, &[GRANTED]), Some(Verdict::Won));
        assert_eq!(verdict(1, &[HELD]), Some(Verdict::Held(7)));
        assert_eq!(verdict(1, &[None]), Some(Verdict::Unreachable));
    }

    #[test]
    fn three_of_five_win_whatever_the_others_say() {
        assert_eq!(verdict(5, &[GRANTED, GRANTED]), None);
        assert_eq!(verdict(5, &[GRANTED, GRANTED, None, None]), None);
        assert_eq!(verdict(5, &[GRANTED, GRANTED, None, None, GRANTED]), Some(Verdict::Won));
    }

    #[test]
    fn two_of_five_are_never_a_quorum() {
        assert_eq!(verdict(5, &[GRANTED, None, None, None]), None);
        assert_eq!(verdict(5, &[GRANTED, None, None, None, GRANTED]), Some(Verdict::Unreachable));
        assert_eq!(verdict(5, &[GRANTED, GRANTED, HELD, HELD, None]), Some(Verdict::Split));
    }

    #[test]
    fn a_low_token_is_told_from_a_held_lock() {
        assert_eq!(verdict(5, &[GRANTED, STALE, STALE, STALE]), Some(Verdict::Stale));
        assert_eq!(verdict(5, &[STALE, STALE, HELD]), Some(Verdict::Held(7)));
    }
}
