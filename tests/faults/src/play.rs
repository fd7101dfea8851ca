//! A fault, from a healthy lock to a healthy lock. Every phase ends when what it is there to show
//! has been seen, not after some time.

use anyhow::{Context, Result, ensure};

use crate::clock;
use crate::fault::{Fault, Kind};
use crate::history::{Event, Operation, OperationId, Outcome, Step, Workload, operations};
use crate::suite::{PATIENCE, Suite};
use crate::topology::{NODES, PROCESSES};
use crate::worker::Command;

/// A process works if it wrote so often to each register.
const ENOUGH: usize = 3;

/// A fault that was played, and when.
#[derive(Debug, Clone)]
pub struct Played {
    /// Which.
    pub fault: Fault,
    /// The healthy lock before it.
    pub from: u64,
    /// From here on it was there.
    pub injected: u64,
    /// From here on it may be gone.
    pub healing: u64,
    /// From here on it was gone, and every process let all nodes vote.
    pub healed: u64,
    /// Everything worked again.
    pub to: u64,
}

/// Plays a fault.
///
/// # Errors
/// When something that is promised does not happen.
pub fn play(suite: &mut Suite, fault: &Fault) -> Result<Played> {
    let from = clock::now();
    // A node that is still kept out since the last fault would be one more that is gone.
    suite.record().wait_until_all_vote(PROCESSES.len(), NODES, PATIENCE)?;
    works(suite, from, &[0, 1, 2]).context("before the fault")?;
    let (injected, healing) = match fault {
        Fault::Nodes { kind, nodes, process } => nodes_fail(suite, fault, *kind, nodes, *process)?,
        Fault::StopInWrite { process, workload } => stop_in_write(suite, *process, *workload)?,
        Fault::KillHolder { process, workload } => {
            hold(suite, *process, *workload)?;
            kill(suite, *process)?
        }
        Fault::KillProcess { process } => kill(suite, *process)?,
    };
    let healed = clock::now();
    works(suite, healed, &[0, 1, 2]).context("after the fault")?;
    Ok(Played { fault: fault.clone(), from, injected, healing, healed, to: clock::now() })
}

fn nodes_fail(
    suite: &mut Suite,
    fault: &Fault,
    kind: Kind,
    nodes: &[usize],
    process: Option<usize>,
) -> Result<(u64, u64)> {
    let mut injected = clock::now();
    if fault.is_unclear() {
        // What they say from now on, they say after they noticed.
        for process in 0..PROCESSES.len() {
            suite.record().forget_voting(process);
        }
        suite.inject(kind, nodes, process)?;
    } else {
        suite.inject(kind, nodes, process)?;
        injected = clock::now();
        let (cut_off, others): (Vec<usize>, Vec<usize>) =
            (0..PROCESSES.len()).partition(|process| fault.cuts_off(*process));
        works(suite, injected, &others).context("during the fault")?;
        let every_caller = |operations: &[Operation]| {
            cut_off.iter().all(|process| all_are_refused(operations, *process))
        };
        let what = format!("every caller of processes {cut_off:?} is refused");
        await_operations(suite, &what, injected, every_caller)?;
    }
    let healing = clock::now();
    suite.heal(kind, nodes, process)?;
    // Nodes that are there again stay in quarantine, and each process ends that at its own time.
    suite.record().wait_until_all_vote(PROCESSES.len(), NODES, PATIENCE)?;
    Ok((injected, healing))
}

/// Whether each client was told so for each resource.
fn all_are_refused(operations: &[Operation], process: usize) -> bool {
    Workload::ALL.iter().all(|workload| {
        let mut refused: Vec<usize> = operations
            .iter()
            .filter(|one| one.process == process && one.workload == *workload)
            .filter(|one| one.not_acquired.is_some())
            .map(|one| one.client)
            .collect();
        refused.sort_unstable();
        refused.dedup();
        refused.len() == PROCESSES[process]
    })
}

fn stop_in_write(suite: &mut Suite, process: usize, workload: Workload) -> Result<(u64, u64)> {
    let held = hold(suite, process, workload)?;
    suite.worker(process).pause()?;
    let injected = clock::now();
    works(suite, injected, &others(process)).context("while a process is stopped")?;
    let mark = suite.record().mark();
    let healing = clock::now();
    // It goes on writing as soon as it wakes.
    suite.worker(process).tell(Command::Go)?;
    suite.worker(process).resume()?;
    let ended = suite.record().wait_for("the late write ends", mark, PATIENCE, |events| {
        let mut own = events.iter().filter(|event| event.operation == held);
        own.find_map(|event| match &event.step {
            step @ (Step::Wrote | Step::Refused(_) | Step::Broken(_)) => Some(step.clone()),
            _ => None,
        })
    })?;
    ensure!(matches!(ended, Step::Refused(_)), "a write that came too late ended so: {ended:?}");
    Ok((injected, healing))
}

fn kill(suite: &mut Suite, process: usize) -> Result<(u64, u64)> {
    suite.worker(process).kill()?;
    let injected = clock::now();
    works(suite, injected, &others(process)).context("while a process is gone")?;
    let healing = clock::now();
    suite.replace_worker(process)?;
    Ok((injected, healing))
}

fn others(process: usize) -> Vec<usize> {
    (0..PROCESSES.len()).filter(|other| *other != process).collect()
}

/// Makes a client of this process stay between its two transactions.
fn hold(suite: &mut Suite, process: usize, workload: Workload) -> Result<OperationId> {
    let mark = suite.record().mark();
    suite.worker(process).tell(Command::Hold(workload))?;
    suite.record().wait_for("a client is held in its write", mark, PATIENCE, |events| {
        let held = |event: &&Event| event.step == Step::Held;
        events.iter().find(held).map(|event| event.operation)
    })
}

/// Waits until these processes wrote enough since then, each to each register.
fn works(suite: &Suite, since: u64, processes: &[usize]) -> Result<()> {
    let what = format!("processes {processes:?} work");
    await_operations(suite, &what, since, |operations| {
        processes.iter().all(|process| {
            Workload::ALL.iter().all(|workload| {
                let wrote = |one: &&Operation| {
                    one.process == *process
                        && one.workload == *workload
                        && one.outcome() == Outcome::Ok
                };
                operations.iter().filter(wrote).count() >= ENOUGH
            })
        })
    })
}

/// Waits for something in the operations that were invoked since then.
fn await_operations(
    suite: &Suite,
    what: &str,
    since: u64,
    mut so: impl FnMut(&[Operation]) -> bool,
) -> Result<()> {
    // What began since then may have been reported before this call.
    let mark = suite.record().mark_at(since);
    suite.record().wait_for(what, mark, PATIENCE, |events| {
        let mut operations = operations(events);
        operations.retain(|operation| operation.invoked > since);
        so(&operations).then_some(())
    })
}
