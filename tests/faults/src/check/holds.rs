//! Times in which two clients believed at once that they hold the lock. No lock with a timeout
//! can exclude it, so they are counted and shown; the register shows that they did no harm.

use crate::history::{Operation, OperationId};

/// Somebody got the lock while somebody else believed that he had it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overlap {
    /// Who had it.
    pub holder: OperationId,
    /// Who got it.
    pub next: OperationId,
    /// When.
    pub at: u64,
}

/// All of them. A belief ends with the release, or with the lease by the client's own clock.
#[must_use]
pub fn overlaps(operations: &[&Operation]) -> Vec<Overlap> {
    let mut holds: Vec<_> = operations
        .iter()
        .filter_map(|operation| {
            let (from, hold) = operation.acquired?;
            let to = operation.releasing.map_or(hold.deadline, |at| at.min(hold.deadline));
            Some((from, to, operation.id))
        })
        .collect();
    holds.sort_unstable();
    let mut found = Vec::new();
    let mut latest = None::<(u64, OperationId)>;
    for (from, to, id) in holds {
        if let Some((until, holder)) = latest
            && from < until
        {
            found.push(Overlap { holder, next: id, at: from });
        }
        if latest.is_none_or(|(until, _)| until < to) {
            latest = Some((to, id));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::example::acquired;

    fn held(number: u64, from: u64, to: u64) -> Operation {
        Operation { releasing: Some(to), ..acquired(number, from, from, number) }
    }

    fn count(operations: &[Operation]) -> usize {
        overlaps(&operations.iter().collect::<Vec<_>>()).len()
    }

    #[test]
    fn holds_one_after_the_other_do_not_overlap() {
        assert_eq!(count(&[held(1, 10, 20), held(2, 20, 30), held(3, 31, 40)]), 0);
    }

    #[test]
    fn a_hold_within_another_is_seen_and_so_is_the_one_after_it() {
        assert_eq!(count(&[held(1, 10, 50), held(2, 20, 30), held(3, 40, 60)]), 2);
    }

    #[test]
    fn a_lease_that_ended_is_believed_no_longer() {
        // Its lease ends at 110.
        let stopped = Operation { releasing: None, ..held(1, 10, 0) };
        assert_eq!(count(&[stopped.clone(), held(2, 109, 120)]), 1);
        assert_eq!(count(&[stopped, held(2, 110, 120)]), 0);
    }
}
