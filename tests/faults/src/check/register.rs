//! The register is linearizable: each operation seems to have swapped its value at one moment
//! between its beginning and its end. The search is that of the crate `todc-utils` (Wing, Gong
//! and Lowe's, as in porcupine).
//!
//! An operation of unknown outcome happened if its value was ever read, and then before that read ended. Otherwise
//! it did not happen, because a final read ends each round. One that was refused did not write: who reads its value
//! reads what nobody wrote.

use std::collections::{HashMap, HashSet};

use todc_utils::linearizability::WGLChecker;
use todc_utils::linearizability::history::{Action, History};
use todc_utils::specifications::Specification;

use crate::history::{Operation, OperationId, Outcome};

/// What a history of the register comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Findings {
    /// Writes that were lost: another operation replaced a value that was not there any more.
    pub lost: Vec<OperationId>,
    /// Whether it is linearizable.
    pub linearizable: bool,
}

impl Findings {
    /// Whether the register is right.
    #[must_use]
    pub fn is_undamaged(&self) -> bool {
        self.linearizable && self.lost.is_empty()
    }
}

/// Checks a history that began with this value and ended with that one.
#[must_use]
pub fn check(operations: &[&Operation], initial: u64, last: u64) -> Findings {
    let accesses = accesses(operations, last);
    Findings { lost: lost(&accesses), linearizable: is_linearizable(&accesses, initial, last) }
}

/// What an operation did to the register, at one moment between two times.
#[derive(Debug, Clone, Copy)]
struct Access {
    id: OperationId,
    from: u64,
    to: u64,
    effect: Effect,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    Swap {
        read: u64,
        written: u64,
    },
    Read(u64),
    /// The beginning: whatever was there, it is this now.
    Begin(u64),
}

fn accesses(operations: &[&Operation], last: u64) -> Vec<Access> {
    let mut first_seen: HashMap<u64, u64> = HashMap::from([(last, u64::MAX)]);
    for (at, value) in operations.iter().filter_map(|operation| operation.read) {
        let first = first_seen.entry(value).or_insert(at);
        *first = at.min(*first);
    }
    operations
        .iter()
        .filter_map(|operation| {
            let (from, _) = operation.acquired?;
            let (read_at, read) = operation.read?;
            let unknown = operation.sent.filter(|_| operation.outcome() == Outcome::Unknown);
            let seen = unknown.and_then(|sent| Some((sent, *first_seen.get(&sent)?)));
            let (effect, to) = match (operation.sent, operation.wrote, seen) {
                (Some(written), Some(at), _) => (Effect::Swap { read, written }, at),
                (_, None, Some((written, seen_at))) => (Effect::Swap { read, written }, seen_at),
                _ => (Effect::Read(read), read_at),
            };
            Some(Access { id: operation.id, from, to, effect })
        })
        .collect()
}

/// Two swaps of the same value: the second of them did not see the first, whose write is lost.
fn lost(accesses: &[Access]) -> Vec<OperationId> {
    let mut swaps: Vec<_> = accesses.iter().collect();
    swaps.sort_by_key(|access| access.to);
    let mut replaced = HashSet::new();
    let is_lost = |access: &&&Access| match access.effect {
        Effect::Swap { read, .. } => !replaced.insert(read),
        Effect::Read(_) | Effect::Begin(_) => false,
    };
    swaps.iter().filter(is_lost).map(|access| access.id).collect()
}

/// The checker's time grows fast with the length of a history. So it gets it in pieces, cut where
/// no access is open: each begins with what the one before left.
fn is_linearizable(accesses: &[Access], initial: u64, last: u64) -> bool {
    let mut accesses = accesses.to_vec();
    accesses.sort_by_key(|access| access.from);
    let (mut state, mut piece, mut piece_ends) = (initial, Vec::new(), 0);
    for access in accesses {
        if access.from > piece_ends && !piece.is_empty() {
            let Some(left) = check_piece(&piece, state) else { return false };
            (state, piece) = (left, Vec::new());
        }
        piece_ends = piece_ends.max(access.to);
        piece.push(access);
    }
    check_piece(&piece, state) == Some(last)
}

/// The value that a piece leaves, if it is linearizable.
fn check_piece(piece: &[Access], initial: u64) -> Option<u64> {
    let begin = Access {
        id: OperationId { start: 0, number: 0 },
        from: 0,
        to: 0,
        effect: Effect::Begin(initial),
    };
    let mut times = Vec::new();
    for (process, access) in std::iter::once(&begin).chain(piece).enumerate() {
        // At the same moment beginnings come first: then the two are concurrent.
        times.push((access.from, false, process, Action::Call(access.effect)));
        times.push((access.to, true, process, Action::Response(access.effect)));
    }
    times.sort_by_key(|(at, is_end, process, _)| (*at, *is_end, *process));
    let actions = times.into_iter().map(|(_, _, process, action)| (process, action)).collect();
    WGLChecker::<Register>::is_linearizable(History::from_actions(actions))
        .then(|| left_by(piece, initial))
}

/// The one value that was written and not replaced: each is written once and replaced once.
fn left_by(piece: &[Access], initial: u64) -> u64 {
    let replaced: HashSet<u64> = piece
        .iter()
        .filter_map(|access| match access.effect {
            Effect::Swap { read, .. } => Some(read),
            Effect::Read(_) | Effect::Begin(_) => None,
        })
        .collect();
    piece
        .iter()
        .find_map(|access| match access.effect {
            Effect::Swap { written, .. } if !replaced.contains(&written) => Some(written),
            _ => None,
        })
        .unwrap_or(initial)
}

/// What the checker knows of the register.
struct Register;

impl Specification for Register {
    type State = u64;
    type Operation = Effect;

    fn init() -> u64 {
        // Never seen: every piece starts with `Begin`.
        u64::MAX
    }

    fn apply(operation: &Effect, state: &u64) -> (bool, u64) {
        match *operation {
            Effect::Begin(value) => (true, value),
            Effect::Read(value) => (value == *state, *state),
            Effect::Swap { read, written } if read == *state => (true, written),
            Effect::Swap { .. } => (false, *state),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::example::swapped;

    fn findings(operations: &[Operation], last: u64) -> Findings {
        check(&operations.iter().collect::<Vec<_>>(), 0, last)
    }

    #[test]
    fn a_chain_of_swaps_is_right_and_may_overlap() {
        let operations = [swapped(1, 10, 20, 0), swapped(2, 15, 30, 1), swapped(3, 31, 40, 2)];
        assert!(findings(&operations, 3).is_undamaged());
        assert!(findings(&[], 0).is_undamaged());
    }

    #[test]
    fn a_lost_write_is_refused() {
        let operations = [swapped(1, 10, 20, 0), swapped(2, 15, 30, 0)];
        let findings = findings(&operations, 2);
        assert!(!findings.linearizable);
        assert_eq!(findings.lost, [operations[1].id]);
    }

    #[test]
    fn reading_what_was_replaced_before_is_refused() {
        let late = Operation { sent: None, wrote: None, ..swapped(3, 41, 50, 1) };
        let operations = [swapped(1, 10, 20, 0), swapped(2, 30, 40, 1), late];
        let findings = findings(&operations, 2);
        assert!(!findings.linearizable);
        assert_eq!(findings.lost, []);
    }

    #[test]
    fn a_final_value_that_nobody_left_is_refused() {
        let operations = [swapped(1, 10, 20, 0), swapped(2, 30, 40, 1)];
        assert!(!findings(&operations, 1).linearizable);
        assert!(!findings(&[], 1).linearizable);
    }

    #[test]
    fn an_unknown_write_happened_if_it_was_seen_and_otherwise_did_not() {
        let unknown = Operation { wrote: None, ..swapped(2, 30, 31, 1) };
        let seen = [swapped(1, 10, 20, 0), unknown.clone(), swapped(3, 60, 70, 2)];
        assert!(findings(&seen, 3).is_undamaged());
        let unseen = [swapped(1, 10, 20, 0), unknown.clone(), swapped(3, 60, 70, 1)];
        assert!(findings(&unseen, 3).is_undamaged());
        // Seen at the end only.
        assert!(findings(&[swapped(1, 10, 20, 0), unknown.clone()], 2).is_undamaged());
        // Both: somebody replaced what it had replaced.
        let both = [swapped(1, 10, 20, 0), unknown, swapped(3, 60, 70, 1)];
        assert!(!findings(&both, 2).linearizable);
    }

    #[test]
    fn a_refused_write_that_is_seen_is_refused() {
        let late = Operation { wrote: None, refused: Some(35), ..swapped(2, 30, 31, 1) };
        let unseen = [swapped(1, 10, 20, 0), late.clone(), swapped(3, 60, 70, 1)];
        assert!(findings(&unseen, 3).is_undamaged());
        let seen = [swapped(1, 10, 20, 0), late.clone(), swapped(3, 60, 70, 2)];
        assert!(!findings(&seen, 3).linearizable);
        assert!(!findings(&[swapped(1, 10, 20, 0), late], 2).linearizable);
    }

    #[test]
    fn a_long_history_is_checked_in_pieces() {
        let mut operations: Vec<_> =
            (1..=20_000).map(|i| swapped(i, 10 * i, 10 * i + 12, i - 1)).collect();
        for operation in operations.iter_mut().filter(|operation| operation.id.number % 5 == 0) {
            operation.wrote = operation.wrote.map(|at| at - 5);
        }
        assert!(findings(&operations, 20_000).is_undamaged());
        operations[9_999].read = Some((0, 7));
        assert!(!findings(&operations, 20_000).is_undamaged());
    }
}
