//! A round: a suite, some faults one after the other, and the verdict.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use crate::fault::{Fault, NODE_FAULTS};
use crate::play::play;
use crate::suite::Suite;
use crate::verdict::History;

/// How many faults a random round has.
const FAULTS: usize = 12;

/// Faults on 1, 2 and 3 of the nodes, of the kinds with this name.
#[must_use]
pub fn of_nodes(name: &str, seed: u64) -> Vec<Fault> {
    let mut rng = StdRng::seed_from_u64(seed);
    let kinds = NODE_FAULTS.iter().filter(|(of, _)| *of == name).flat_map(|(_, kinds)| *kinds);
    kinds
        .flat_map(|kind| [1, 2, 3].map(|count| (*kind, count)))
        .map(|(kind, count)| Fault::of_nodes(kind, count, &mut rng))
        .collect()
}

/// Faults of worker processes.
#[must_use]
pub fn of_processes(seed: u64) -> Vec<Fault> {
    Fault::of_processes(&mut StdRng::seed_from_u64(seed))
}

/// Some faults of all kinds in any order. The same seed gives the same faults and the same victims
/// in the same order; how the processes take turns is the machine's choice, each time anew.
#[must_use]
pub fn at_random(seed: u64) -> Vec<Fault> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut faults = Fault::of_processes(&mut rng);
    for (_, kinds) in NODE_FAULTS {
        for kind in *kinds {
            faults.extend([1, 2, 3].map(|count| Fault::of_nodes(*kind, count, &mut rng)));
        }
    }
    faults.shuffle(&mut rng);
    faults.truncate(FAULTS);
    faults
}

/// Plays the faults, shows a line for each, and judges. Into the folder `FAULTS_HISTORY` it writes
/// all operations, for those who want to look at them.
///
/// # Errors
/// When something that is promised was not so.
pub fn run(worker: &Path, seed: u64, faults: &[Fault]) -> Result<()> {
    let mut suite = Suite::start(worker.to_owned())?;
    let mut played = Vec::new();
    let mut broken = Ok(());
    for fault in faults {
        match play(&mut suite, fault) {
            Ok(done) => played.push(done),
            Err(error) => {
                broken = Err(error.context(format!("{fault} (seed {seed})")));
                break;
            }
        }
    }
    // What was recorded is checked even if the faults did not come to their end.
    let last = if broken.is_ok() { suite.finish()? } else { Vec::new() };
    let (operations, stalls) = (suite.record().operations(), suite.record().stalls());
    if let Some(folder) = std::env::var_os("FAULTS_HISTORY") {
        let file = Path::new(&folder).join(format!("{seed}.json"));
        std::fs::write(file, serde_json::to_string(&operations)?)?;
    }
    let verdict = History { seed, played, operations, stalls, last }.judge();
    // Not by `print`: a test that passes shows its lines as well.
    std::io::stderr().write_all(verdict.lines().as_bytes())?;
    broken?;
    verdict.hold().with_context(|| format!("seed {seed}"))
}
