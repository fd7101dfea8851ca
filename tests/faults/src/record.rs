//! What the workers reported so far, and waiting until they reported something.

use std::collections::HashMap;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::history::{Event, Operation, operations};
use crate::worker::Report;

/// A time in which a process was not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stall {
    /// `None`: the suite itself, and with it every proxy.
    pub process: Option<usize>,
    /// From then.
    pub from: u64,
    /// Until then.
    pub to: u64,
}

/// Filled by a thread for each worker.
#[derive(Debug, Default)]
pub struct Record {
    reports: Mutex<Reports>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Reports {
    events: Vec<Event>,
    stalls: Vec<Stall>,
    /// How many nodes each process lets vote.
    voting: HashMap<usize, usize>,
}

/// A place in the record: what follows it.
#[derive(Debug, Clone, Copy)]
pub struct Mark(usize);

impl Record {
    /// Adds what a process reported.
    pub fn add(&self, process: usize, report: Report) {
        let mut reports = self.reports.lock().unwrap_or_else(PoisonError::into_inner);
        match report {
            Report::Step(event) => reports.events.push(event),
            Report::Stalled { from, to } => {
                reports.stalls.push(Stall { process: Some(process), from, to });
            }
            Report::Voting(nodes) => {
                reports.voting.insert(process, nodes);
            }
        }
        self.changed.notify_all();
    }

    /// The suite was not run.
    pub fn add_own_stall(&self, from: u64, to: u64) {
        let mut reports = self.reports.lock().unwrap_or_else(PoisonError::into_inner);
        reports.stalls.push(Stall { process: None, from, to });
    }

    /// The end of what there is now.
    #[must_use]
    pub fn mark(&self) -> Mark {
        Mark(self.reports.lock().unwrap_or_else(PoisonError::into_inner).events.len())
    }

    /// The first place that is later than this time.
    #[must_use]
    pub fn mark_at(&self, time: u64) -> Mark {
        let reports = self.reports.lock().unwrap_or_else(PoisonError::into_inner);
        let first = reports.events.iter().position(|event| event.at > time);
        Mark(first.unwrap_or(reports.events.len()))
    }

    /// All operations.
    #[must_use]
    pub fn operations(&self) -> Vec<Operation> {
        operations(&self.reports.lock().unwrap_or_else(PoisonError::into_inner).events)
    }

    /// All times in which something was not run.
    #[must_use]
    pub fn stalls(&self) -> Vec<Stall> {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner).stalls.clone()
    }

    /// What a process said of the nodes is not so any more.
    pub fn forget_voting(&self, process: usize) {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner).voting.remove(&process);
    }

    /// Waits until this number of processes lets this number of nodes vote.
    ///
    /// # Errors
    /// When they do not within this time.
    pub fn wait_until_all_vote(
        &self,
        processes: usize,
        nodes: usize,
        within: Duration,
    ) -> Result<()> {
        self.wait("all processes let all nodes vote", within, |reports| {
            let all = reports.voting.values().filter(|voting| **voting == nodes).count();
            (all == processes).then_some(())
        })
    }

    /// Waits until `found` finds something in the events since the mark.
    ///
    /// # Errors
    /// When it does not within this time; `what` says what was waited for.
    pub fn wait_for<T>(
        &self,
        what: &str,
        mark: Mark,
        within: Duration,
        mut found: impl FnMut(&[Event]) -> Option<T>,
    ) -> Result<T> {
        self.wait(what, within, |reports| found(&reports.events[mark.0..]))
    }

    fn wait<T>(
        &self,
        what: &str,
        within: Duration,
        mut found: impl FnMut(&Reports) -> Option<T>,
    ) -> Result<T> {
        let deadline = Instant::now() + within;
        let mut reports = self.reports.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(found) = found(&reports) {
                return Ok(found);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                bail!("not within {within:?}: {what}");
            }
            reports =
                self.changed.wait_timeout(reports, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
