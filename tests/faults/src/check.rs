//! What is checked in a history. Pure functions: they know no process, no clock and no fault, only
//! operations and times.

pub mod holds;
pub mod order;
pub mod register;
pub mod tokens;

/// Operations for the checks' own tests, told in a few numbers.
#[cfg(test)]
pub(crate) mod example {
    use crate::history::{Hold, Operation, OperationId, Workload};

    pub(crate) fn invoked(number: u64, at: u64) -> Operation {
        let id = OperationId { start: 0, number };
        Operation::invoked(id, 0, 0, Workload::Fair, at)
    }

    /// Asked, and got a lock with this token (and ticket).
    pub(crate) fn acquired(number: u64, asked: u64, got: u64, token: u64) -> Operation {
        let hold = Hold { token, ticket: Some(token), deadline: got + 100 };
        Operation { acquired: Some((got, hold)), ..invoked(number, asked) }
    }

    /// Read a value and wrote its own, which is its number, in this time.
    pub(crate) fn swapped(number: u64, from: u64, to: u64, read: u64) -> Operation {
        Operation {
            read: Some((to, read)),
            sent: Some(number),
            wrote: Some(to),
            ..acquired(number, from, from, number)
        }
    }
}
