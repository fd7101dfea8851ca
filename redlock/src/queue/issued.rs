//! Counts which tickets the nodes issued.

use crate::cluster::Tally;
use crate::protocol::Vote;

/// The first ticket that the node at each position issued; `None`: none in time.
#[derive(Debug, Default)]
pub(crate) struct IssuedTickets(Vec<(usize, Option<u64>)>);

impl IssuedTickets {
    /// Records the reply of the node at this position.
    pub(crate) fn add(&mut self, position: usize, first: Option<u64>) {
        self.0.push((position, first));
    }

    /// The ticket that most nodes issued, which is the only one that can win, and the votes on it.
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
    use crate::cluster::Verdict;

    fn verdict(firsts: &[Option<u64>]) -> (u64, Option<Verdict>) {
        let mut issued = IssuedTickets::default();
        for (position, first) in firsts.iter().enumerate() {
            issued.add(position, *first);
        }
        let sets = [(0..5).collect()];
        let (first, tally) = issued.tally(&sets);
        (first, tally.verdict())
    }

    #[test]
    fn tickets_are_won_when_a_majority_issued_the_same() {
        assert_eq!(verdict(&[Some(7), None, Some(7)]), (7, None));
        assert_eq!(verdict(&[Some(7), Some(9), Some(7), Some(7)]), (7, Some(Verdict::Won)));
        assert_eq!(verdict(&[Some(7), Some(9), Some(8)]).1, None);
        assert_eq!(verdict(&[Some(7), Some(9), Some(8), Some(6)]).1, Some(Verdict::Stale));
        let of_few = verdict(&[Some(7), None, None, None, Some(7)]);
        assert_eq!(of_few.1, Some(Verdict::Unreachable));
    }
}
