//! What a suite's history comes to: a line for each fault, and everything that should not be.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::check::{holds, order, register, tokens};
use crate::clock::nanoseconds;
use crate::history::{NoLock, Operation, OperationId, Outcome, Workload, of};
use crate::play::Played;
use crate::record::Stall;
use crate::worker::{NODE_TIMEOUT, WAIT};

/// What an answer may take beyond the client's own wait: on a machine that is busy with other
/// things, and with operations that wait in the client for their turn.
const SLACK: Duration = Duration::from_secs(4);

/// Highest number of violations that are shown: the first is the cause of the others.
const SHOWN: usize = 10;

/// A ticket takes one answer from each of a majority; and another if somebody was faster.
const TICKET: Duration = NODE_TIMEOUT.saturating_mul(3);

/// Everything that was recorded.
#[derive(Debug)]
pub struct History {
    /// What the faults were chosen by.
    pub seed: u64,
    /// In the order in which they were played.
    pub played: Vec<Played>,
    /// Of all workers.
    pub operations: Vec<Operation>,
    /// What was not run.
    pub stalls: Vec<Stall>,
    /// The registers' last values, if the suite came to its end.
    pub last: Vec<(Workload, u64)>,
}

/// What is counted for each fault.
#[derive(Debug, Clone, Copy, Default)]
struct Line {
    ok: usize,
    failed: usize,
    unknown: usize,
    refused_late: usize,
    overlapping: usize,
    repeated: usize,
    passed_over: usize,
    damage: usize,
}

/// The heads of the columns, in the order of [`Line::columns`].
const HEADS: [&str; 8] =
    ["ok", "failed", "unknown", "refused late", "overlaps", "repeats", "passed over", "damage"];

impl Line {
    fn columns(self) -> [usize; 8] {
        let Self { ok, failed, unknown, refused_late, .. } = self;
        let Self { overlapping, repeated, passed_over, damage, .. } = self;
        [ok, failed, unknown, refused_late, overlapping, repeated, passed_over, damage]
    }
}

/// The lines, and what is wrong.
#[derive(Debug)]
pub struct Verdict {
    lines: String,
    violations: Vec<String>,
}

impl Verdict {
    /// The lines, as they are shown.
    #[must_use]
    pub fn lines(&self) -> &str {
        &self.lines
    }

    /// Whether everything that is promised was so.
    ///
    /// # Errors
    /// Says what was not.
    pub fn hold(&self) -> Result<()> {
        let (count, first) = (self.violations.len(), self.violations.iter().take(SHOWN));
        let first: Vec<_> = first.map(String::as_str).collect();
        ensure!(count == 0, "{count} violations, the first:\n{}", first.join("\n"));
        Ok(())
    }
}

impl History {
    /// Checks everything.
    #[must_use]
    pub fn judge(&self) -> Verdict {
        let mut lines = vec![Line::default(); self.played.len()];
        let mut violations = Vec::new();
        for operation in &self.operations {
            self.count(&mut lines, operation.invoked, |line| match operation.outcome() {
                Outcome::Ok => line.ok += 1,
                Outcome::Failed => line.failed += 1,
                Outcome::Unknown => line.unknown += 1,
            });
            if operation.was_refused_late() {
                self.count(&mut lines, operation.invoked, |line| line.refused_late += 1);
            }
            violations.extend(self.answer(operation));
        }
        for workload in Workload::ALL {
            let operations = of(&self.operations, workload);
            self.tokens(&operations, &mut lines, &mut violations);
            self.order(&operations, &mut lines, &mut violations);
            self.register(workload, &operations, &mut lines, &mut violations);
        }
        Verdict { lines: self.show(&lines), violations }
    }

    /// Who asks gets an answer in time; and it is no lock when no majority could be reached.
    fn answer(&self, operation: &Operation) -> Option<String> {
        if let Some((_, NoLock::Other(why))) = &operation.not_acquired {
            return Some(format!("an error that no fault explains: {why}: {operation:?}"));
        }
        let answered = operation.answered()?;
        let waited = Duration::from_nanos(answered - operation.invoked);
        if waited > WAIT + SLACK && self.was_alive(operation) {
            return Some(format!("an answer took {waited:?}: {operation:?}"));
        }
        let (acquired, _) = operation.acquired?;
        self.played
            .iter()
            .find(|played| {
                played.fault.rules_out_a_lock(operation.process)
                    && played.injected < operation.invoked
                    && acquired < played.healing
            })
            .map(|played| format!("a lock without a majority ({}): {operation:?}", played.fault))
    }

    fn tokens(&self, operations: &[&Operation], lines: &mut [Line], violations: &mut Vec<String>) {
        let forgotten: Vec<u64> = self
            .played
            .iter()
            .filter(|played| played.fault.is_amnesia())
            .map(|played| played.injected)
            .collect();
        for found in tokens::disorder(operations, |hold| Some(hold.token), &forgotten) {
            self.count(lines, found.at, |line| line.repeated += 1);
            if found.judged {
                let pair = show(operations, found.earlier, found.later);
                violations.push(format!("tokens in the wrong order: {pair}"));
            }
        }
        for found in tokens::disorder(operations, |hold| hold.ticket, &forgotten) {
            if found.judged {
                let pair = show(operations, found.earlier, found.later);
                violations.push(format!("tickets in the wrong order: {pair}"));
            }
        }
        for found in holds::overlaps(operations) {
            self.count(lines, found.at, |line| line.overlapping += 1);
        }
    }

    fn order(&self, operations: &[&Operation], lines: &mut [Line], violations: &mut Vec<String>) {
        let was_alive = |operation: &Operation| self.was_alive(operation);
        for found in order::overtaken(operations, nanoseconds(TICKET), was_alive) {
            self.count(lines, found.at, |line| line.passed_over += 1);
            if found.judged {
                let pair = show(operations, found.served, found.passed_over);
                violations.push(format!("the second was passed over by the first: {pair}"));
            }
        }
    }

    fn register(
        &self,
        workload: Workload,
        operations: &[&Operation],
        lines: &mut [Line],
        violations: &mut Vec<String>,
    ) {
        let Some((_, last)) = self.last.iter().find(|(of, _)| *of == workload) else {
            return;
        };
        let findings = register::check(operations, 0, *last);
        for lost in operations.iter().filter(|one| findings.lost.contains(&one.id)) {
            self.count(lines, lost.invoked, |line| line.damage += 1);
            violations.push(format!("a write was lost to this one: {lost:?}"));
        }
        if !findings.linearizable {
            violations.push(format!("the register {} is not linearizable", workload.resource()));
        }
    }

    /// Whether nothing that happened to its process, or to the machine, explains that an operation
    /// had to wait.
    fn was_alive(&self, operation: &Operation) -> bool {
        let until = operation.answered().unwrap_or(u64::MAX);
        let meanwhile = |from: u64, to: u64| from < until && operation.invoked < to;
        let disturbed = self.played.iter().any(|played| {
            played.fault.disturbs(operation.process) && meanwhile(played.injected, played.healed)
        });
        let stalled = self.stalls.iter().any(|stall| {
            stall.process.is_none_or(|process| process == operation.process)
                && meanwhile(stall.from, stall.to)
        });
        !disturbed && !stalled
    }

    /// Counts something for the fault that was played then.
    fn count(&self, lines: &mut [Line], at: u64, count: impl FnOnce(&mut Line)) {
        let played = self.played.iter().rposition(|played| played.from <= at);
        if let Some(line) = lines.get_mut(played.unwrap_or(0)) {
            count(line);
        }
    }

    fn show(&self, lines: &[Line]) -> String {
        let mut text = format!("{:<50}", format!("seed {}", self.seed));
        for head in HEADS {
            // Writing into a string does not fail.
            let _ = write!(text, "  {head}");
        }
        for (played, line) in self.played.iter().zip(lines) {
            let _ = write!(text, "\n{:<50}", played.fault.to_string());
            for (head, count) in HEADS.iter().zip(line.columns()) {
                let _ = write!(text, "  {count:>width$}", width = head.len());
            }
        }
        text + "\n"
    }
}

/// Both operations, for those who look for the reason.
fn show(operations: &[&Operation], first: OperationId, second: OperationId) -> String {
    let find = |id| operations.iter().find(|operation| operation.id == id);
    format!("{:?} and {:?}", find(first), find(second))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::example::{acquired, invoked, swapped};
    use crate::fault::{Fault, Kind};

    /// Times are in milliseconds here, so that waits make sense.
    const MS: u64 = 1_000_000;

    fn at(operation: Operation) -> Operation {
        let scale = |time: u64| time * MS;
        Operation {
            invoked: scale(operation.invoked),
            acquired: operation.acquired.map(|(at, hold)| (scale(at), hold)),
            not_acquired: operation.not_acquired.map(|(at, why)| (scale(at), why)),
            ..operation
        }
    }

    /// Three nodes were stopped from 1000 to 4000 ms.
    fn history(operations: Vec<Operation>) -> History {
        let played = Played {
            fault: Fault::Nodes { kind: Kind::Stop, nodes: vec![0, 1, 2], process: None },
            from: 0,
            injected: 1000 * MS,
            healing: 4000 * MS,
            healed: 4100 * MS,
            to: 5000 * MS,
        };
        History { seed: 1, played: vec![played], operations, stalls: Vec::new(), last: Vec::new() }
    }

    fn refused(number: u64, asked: u64, told: u64, why: NoLock) -> Operation {
        Operation { not_acquired: Some((told, why)), ..invoked(number, asked) }
    }

    #[test]
    fn a_refusal_in_time_and_a_lock_before_and_after_are_right() {
        let operations = vec![
            at(acquired(1, 999, 1001, 1)),
            at(refused(2, 1500, 3500, NoLock::QuorumUnavailable)),
            at(acquired(3, 2500, 4050, 2)),
        ];
        history(operations).judge().hold().unwrap();
    }

    #[test]
    fn a_lock_without_a_majority_is_refused() {
        assert!(history(vec![at(acquired(1, 1001, 1100, 1))]).judge().hold().is_err());
    }

    #[test]
    fn an_answer_that_hangs_is_refused_unless_its_process_was_not_run() {
        let mut history = history(vec![at(refused(1, 5000, 12_000, NoLock::Timeout))]);
        assert!(history.judge().hold().is_err());
        history.stalls = vec![Stall { process: None, from: 6000 * MS, to: 11_000 * MS }];
        history.judge().hold().unwrap();
    }

    #[test]
    fn an_error_that_no_fault_explains_is_refused() {
        let odd = NoLock::Other("no lock nodes are configured".to_owned());
        assert!(history(vec![at(refused(1, 1500, 1600, odd))]).judge().hold().is_err());
    }

    #[test]
    fn a_lost_write_is_counted_as_damage_of_its_fault() {
        let operations = vec![swapped(1, 10, 20, 0), swapped(2, 30, 40, 0)];
        let last = vec![(Workload::Fair, 2)];
        let verdict = History { last, ..history(operations) }.judge();
        assert!(verdict.hold().is_err());
        let line = verdict.lines().lines().last().unwrap();
        assert!(line.starts_with("SIGSTOP, nodes 0 1 2") && line.ends_with(" 1"), "{line}");
    }
}
