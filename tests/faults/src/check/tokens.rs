//! Fencing tokens, and tickets, are unique and increase in real time: an acquisition that ended
//! before another began has the lower one.
//!
//! That rests on what the nodes remember. When a majority of them forgot at once it starts afresh:
//! what is out of order across that moment is counted, and judged by the database's own check.

use crate::history::{Hold, Operation, OperationId};

/// Two acquisitions whose numbers are equal, or in the wrong order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disorder {
    /// The one that ended first.
    pub earlier: OperationId,
    /// The one that should have the higher number.
    pub later: OperationId,
    /// When the later one got the lock.
    pub at: u64,
    /// Whether it is a violation: no majority forgot in between.
    pub judged: bool,
}

/// Everything that is out of order; `forgotten` are the times at which a majority forgot.
#[must_use]
pub fn disorder(
    operations: &[&Operation],
    number: impl Fn(&Hold) -> Option<u64>,
    forgotten: &[u64],
) -> Vec<Disorder> {
    let mut acquisitions: Vec<Acquisition> = operations
        .iter()
        .filter_map(|operation| {
            let (at, hold) = operation.acquired?;
            let era = |time| forgotten.iter().filter(|at| **at <= time).count();
            let (asked, got) = (era(operation.invoked), era(at));
            Some(Acquisition {
                id: operation.id,
                invoked: operation.invoked,
                at,
                number: number(&hold)?,
                // Asked in one and answered in another: votes of both, so of neither.
                era: (asked == got).then_some(got),
            })
        })
        .collect();
    let all = violations(&mut acquisitions);
    let mut judged = Vec::new();
    for era in 0..=forgotten.len() {
        let mut within: Vec<Acquisition> =
            acquisitions.iter().filter(|one| one.era == Some(era)).copied().collect();
        judged.extend(violations(&mut within));
    }
    let later: Vec<OperationId> = judged.iter().map(|(_, later)| later.id).collect();
    let found = |(earlier, later): (Acquisition, Acquisition), judged| Disorder {
        earlier: earlier.id,
        later: later.id,
        at: later.at,
        judged,
    };
    let excused = all.into_iter().filter(|(_, one)| !later.contains(&one.id));
    let excused = excused.map(|pair| found(pair, false));
    judged.iter().map(|pair| found(*pair, true)).chain(excused).collect()
}

#[derive(Debug, Clone, Copy)]
struct Acquisition {
    id: OperationId,
    invoked: u64,
    at: u64,
    number: u64,
    era: Option<usize>,
}

/// For each acquisition that is too low, one that shows it.
fn violations(acquisitions: &mut [Acquisition]) -> Vec<(Acquisition, Acquisition)> {
    // Equal numbers, whatever the times.
    acquisitions.sort_by_key(|one| (one.number, one.at));
    let mut found: Vec<_> = acquisitions
        .windows(2)
        .filter(|pair| pair[0].number == pair[1].number)
        .map(|pair| (pair[0], pair[1]))
        .collect();
    // The highest number among those that ended before each began.
    let mut ended = acquisitions.to_vec();
    ended.sort_by_key(|one| one.at);
    acquisitions.sort_by_key(|one| one.invoked);
    let (mut ended, mut highest) = (ended.into_iter().peekable(), None::<Acquisition>);
    for one in acquisitions.iter() {
        while let Some(before) = ended.next_if(|before| before.at < one.invoked) {
            if highest.is_none_or(|highest| highest.number < before.number) {
                highest = Some(before);
            }
        }
        if let Some(highest) = highest.filter(|highest| highest.number > one.number) {
            found.push((highest, *one));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::example::acquired;

    fn check(operations: &[Operation], forgotten: &[u64]) -> Vec<(u64, u64, bool)> {
        let operations: Vec<_> = operations.iter().collect();
        disorder(&operations, |hold| Some(hold.token), forgotten)
            .iter()
            .map(|one| (one.earlier.number, one.later.number, one.judged))
            .collect()
    }

    #[test]
    fn acquisitions_at_the_same_time_may_have_any_order() {
        let operations = [acquired(1, 10, 20, 5), acquired(2, 15, 30, 4), acquired(3, 31, 40, 6)];
        assert_eq!(check(&operations, &[]), []);
    }

    #[test]
    fn a_token_below_one_that_was_there_before_is_refused() {
        let operations = [acquired(1, 10, 20, 5), acquired(2, 21, 30, 4)];
        assert_eq!(check(&operations, &[]), [(1, 2, true)]);
    }

    #[test]
    fn a_token_granted_twice_is_refused_even_at_the_same_time() {
        let operations = [acquired(1, 10, 20, 5), acquired(2, 15, 30, 5)];
        assert_eq!(check(&operations, &[]), [(1, 2, true)]);
    }

    #[test]
    fn what_a_majority_forgot_is_counted_and_what_came_after_is_judged_again() {
        let before = [acquired(1, 10, 20, 5)];
        let after = [acquired(2, 31, 40, 1), acquired(3, 41, 50, 2)];
        let operations = [&before[..], &after].concat();
        assert_eq!(check(&operations, &[30]), [(1, 2, false), (1, 3, false)]);
        let operations = [&before[..], &after, &[acquired(4, 51, 60, 1)]].concat();
        assert!(check(&operations, &[30]).contains(&(3, 4, true)));
        // Asked before and answered after: not judged against either side.
        let operations = [acquired(1, 10, 20, 5), acquired(2, 25, 40, 1)];
        assert_eq!(check(&operations, &[30]), [(1, 2, false)]);
    }
}
