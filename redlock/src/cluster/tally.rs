//! Counts the votes of one round. Pure, so that tests can cover every case.

use crate::protocol::Vote;

/// The result of a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// A majority granted.
    Won,
    /// No majority can grant any more, because locks are held. Milliseconds until the last one expires.
    Held(u64),
    /// As `Held`, but some nodes granted: contenders share the votes, and none has a majority.
    Split,
    /// No majority can grant any more, because the proposed tokens are too low. Higher ones may win at
    /// once.
    Stale,
    /// Too few nodes answered.
    Unreachable,
}

/// The votes of one set of nodes.
#[derive(Debug)]
struct Count<'a> {
    /// The positions of the nodes among all nodes.
    set: &'a [usize],
    granted: usize,
    held: usize,
    stale: usize,
    failed: usize,
    wait: u64,
}

/// The votes of one round: of one set of nodes, or of two while the membership changes.
#[derive(Debug)]
pub(crate) struct Tally<'a> {
    counts: Vec<Count<'a>>,
}

impl<'a> Tally<'a> {
    /// No votes of these sets.
    pub(crate) fn new(sets: &'a [Vec<usize>]) -> Self {
        let count = |set| Count { set, granted: 0, held: 0, stale: 0, failed: 0, wait: 0 };
        Self { counts: sets.iter().map(|set| count(set.as_slice())).collect() }
    }

    /// Counts the vote of the node at this position; `None`: the node did not answer.
    pub(crate) fn count(&mut self, position: usize, vote: Option<Vote>) {
        for count in self.counts.iter_mut().filter(|count| count.set.contains(&position)) {
            match vote {
                Some(Vote::Granted) => count.granted += 1,
                Some(Vote::Held { wait_ms }) => {
                    count.held += 1;
                    count.wait = count.wait.max(wait_ms);
                }
                Some(Vote::Stale) => count.stale += 1,
                Some(Vote::OldEpoch) | None => count.failed += 1,
            }
        }
    }

    /// The verdict, as soon as no further vote can change it. A round is won if it won every set.
    pub(crate) fn verdict(&self) -> Option<Verdict> {
        let mut verdict = Some(Verdict::Won);
        for count in &self.counts {
            match count.verdict() {
                Some(Verdict::Won) => {}
                Some(lost) => return Some(lost),
                None => verdict = None,
            }
        }
        verdict
    }

    /// Whether a majority of each set would have granted a higher token.
    pub(crate) fn would_win_higher(&self) -> bool {
        self.counts
            .iter()
            .all(|count| count.stale > 0 && count.granted + count.stale >= count.quorum())
    }

    /// For the set that is farthest from a majority: the number of nodes that answered, of all its
    /// nodes, and of a majority.
    pub(crate) fn shortage(&self) -> (usize, usize, usize) {
        let answers = |count: &Count<'_>| (count.reachable(), count.set.len(), count.quorum());
        let spare = |(reachable, _, quorum): &(usize, usize, usize)| {
            i64::try_from(*reachable).unwrap_or(0) - i64::try_from(*quorum).unwrap_or(0)
        };
        self.counts.iter().map(answers).min_by_key(spare).unwrap_or((0, 0, 1))
    }
}

impl Count<'_> {
    fn quorum(&self) -> usize {
        self.set.len() / 2 + 1
    }

    fn reachable(&self) -> usize {
        self.granted + self.held + self.stale
    }

    fn verdict(&self) -> Option<Verdict> {
        if self.granted >= self.quorum() {
            return Some(Verdict::Won);
        }
        let lost = self.set.len() - self.quorum();
        if self.failed > lost {
            // Waits for all votes: the caller reports how many nodes answered.
            let counted = self.reachable() + self.failed;
            return (counted == self.set.len()).then_some(Verdict::Unreachable);
        }
        if self.held + self.stale + self.failed <= lost {
            return None;
        }
        // Waiting helps only where the lock is held.
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
        joint(&[(0..nodes).collect()], votes)
    }

    fn joint(sets: &[Vec<usize>], votes: &[Option<Vote>]) -> Option<Verdict> {
        let mut tally = Tally::new(sets);
        for (position, vote) in votes.iter().enumerate() {
            tally.count(position, *vote);
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
    fn three_of_five_win_regardless_of_the_others() {
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
    fn a_low_token_differs_from_a_held_lock() {
        assert_eq!(verdict(5, &[GRANTED, STALE, STALE, STALE]), Some(Verdict::Stale));
        assert_eq!(verdict(5, &[STALE, STALE, HELD]), Some(Verdict::Held(7)));
    }

    #[test]
    fn both_sets_must_be_won_while_the_membership_changes() {
        let sets = [vec![0, 1, 2], vec![2, 3, 4]];
        assert_eq!(joint(&sets, &[GRANTED, GRANTED]), None);
        assert_eq!(joint(&sets, &[GRANTED, GRANTED, GRANTED]), None);
        assert_eq!(joint(&sets, &[GRANTED, GRANTED, GRANTED, GRANTED]), Some(Verdict::Won));
        let held_in_one = [GRANTED, GRANTED, GRANTED, HELD, HELD];
        assert_eq!(joint(&sets, &held_in_one), Some(Verdict::Split));
        let gone_in_one = [GRANTED, GRANTED, None, None, None];
        assert_eq!(joint(&sets, &gone_in_one), Some(Verdict::Unreachable));
        let mut tally = Tally::new(&sets);
        for (position, vote) in gone_in_one.into_iter().enumerate() {
            tally.count(position, vote);
        }
        assert_eq!(tally.shortage(), (0, 3, 2));
    }
}
