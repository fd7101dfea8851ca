//! Fair order: if A's ticket was issued before B asked, A gets the lock before B, as long as A's
//! client is alive.
//!
//! When a ticket was issued is not in the history; that of somebody who asked is taken to be there
//! after some time that the caller names. Whether somebody was alive is for the caller to say as
//! well: a process that was stopped or cut off, or that the machine did not run, may be passed
//! over. What is out of the tickets' order and no violation is counted all the same. (That tickets
//! agree with real time is [`super::tokens`]'s check, as tickets are numbers like tokens.)

use crate::history::{Operation, OperationId};

/// Somebody was served before one who had the lower ticket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overtaking {
    /// Who had the lower ticket.
    pub passed_over: OperationId,
    /// Who was served first.
    pub served: OperationId,
    /// When the one who was passed over got the lock after all.
    pub at: u64,
    /// Whether it is a violation: the one who was passed over was there all the time, and in line
    /// before the other asked.
    pub judged: bool,
}

/// All that were passed over, each with the one who asked last of those that were served before.
/// A client has its ticket `issued_within` nanoseconds after its request.
#[must_use]
pub fn overtaken(
    operations: &[&Operation],
    issued_within: u64,
    was_alive: impl Fn(&Operation) -> bool,
) -> Vec<Overtaking> {
    let mut served: Vec<_> = operations
        .iter()
        .filter_map(|operation| {
            let (at, hold) = operation.acquired?;
            Some((at, hold.ticket?, *operation))
        })
        .collect();
    served.sort_by_key(|(at, _, _)| *at);
    let (mut found, mut highest) = (Vec::new(), 0);
    for (i, (at, ticket, operation)) in served.iter().enumerate() {
        if *ticket > highest {
            highest = *ticket;
            continue;
        }
        let before = served[..i].iter().filter(|(_, other, _)| other > ticket);
        let Some((_, _, other)) = before.max_by_key(|(_, _, other)| other.invoked) else {
            continue;
        };
        let in_line = operation.invoked.saturating_add(issued_within);
        found.push(Overtaking {
            passed_over: operation.id,
            served: other.id,
            at: *at,
            judged: in_line < other.invoked && was_alive(operation),
        });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::example::acquired;

    #[test]
    fn service_in_the_order_of_tickets_is_fair() {
        let operations = [acquired(1, 30, 40, 1), acquired(2, 20, 50, 2), acquired(3, 10, 60, 7)];
        assert_eq!(overtaken(&operations.iter().collect::<Vec<_>>(), 0, |_| true), []);
    }

    #[test]
    fn a_lower_ticket_served_later_is_refused_unless_its_client_was_away() {
        let operations = [acquired(1, 10, 60, 1), acquired(2, 20, 50, 2)];
        let operations: Vec<_> = operations.iter().collect();
        let found = overtaken(&operations, 9, |_| true);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].passed_over.number, found[0].served.number), (1, 2));
        assert!(found[0].judged);
        assert!(!overtaken(&operations, 9, |_| false)[0].judged);
        // Its ticket may not have been there yet.
        assert!(!overtaken(&operations, 10, |_| true)[0].judged);
    }

    #[test]
    fn an_acquisition_without_a_ticket_has_no_order() {
        let mut late = acquired(2, 20, 50, 1);
        if let Some((_, hold)) = &mut late.acquired {
            hold.ticket = None;
        }
        assert_eq!(overtaken(&[&acquired(1, 10, 40, 3), &late], 0, |_| true), []);
    }
}
