//! A round: a suite, some faults one after the other, and the verdict.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Error, Result, ensure};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use crate::fault::{Fault, NODE_FAULTS};
use crate::history::Operation;
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

/// Faults to play, and how to play them again.
#[derive(Debug)]
pub struct Round<'a> {
    /// Of the test.
    pub name: &'a str,
    /// What the faults were chosen by.
    pub seed: u64,
    /// The command that chooses the same.
    pub again: String,
    /// In this order.
    pub faults: Vec<Fault>,
}

/// Plays the faults, shows a line for each, and judges. Into the folder `FAULTS_HISTORY` it writes
/// all operations, for those who want to look at them.
///
/// # Errors
/// When something that is promised was not so.
pub fn run(worker: &Path, round: &Round<'_>) -> Result<()> {
    let Round { seed, again, .. } = round;
    // At first: a process that hangs is ended with all that it did not say. Not by `print`: a test that passes
    // shows it as well.
    std::io::stderr().write_all(format!("seed {seed}; once more: {again}\n").as_bytes())?;
    played(worker, round).with_context(|| format!("seed {seed}; once more: {again}"))
}

fn played(worker: &Path, round: &Round<'_>) -> Result<()> {
    let mut suite = Suite::start(worker.to_owned()).context("the suite does not start")?;
    let mut played = Vec::new();
    let mut broken = Vec::new();
    for fault in &round.faults {
        match play(&mut suite, fault) {
            Ok(done) => played.push(done),
            Err(error) => {
                broken.push(error.context(fault.to_string()));
                break;
            }
        }
    }
    // What was recorded is checked even if the faults, or the operations, did not come to their end.
    let mut last = Vec::new();
    if broken.is_empty() {
        match suite.finish() {
            Ok(values) => last = values,
            Err(error) => broken.push(error.context("the suite does not end")),
        }
    }
    let (operations, stalls) = (suite.record().operations(), suite.record().stalls());
    broken.extend(keep(round, &operations).err());
    let verdict = History { seed: round.seed, played, operations, stalls, last }.judge();
    std::io::stderr().write_all(verdict.lines().as_bytes())?;
    broken.extend(verdict.hold().err());
    all(&broken)
}

/// Writes the operations for those who want to look at them.
fn keep(round: &Round<'_>, operations: &[Operation]) -> Result<()> {
    let Some(folder) = std::env::var_os("FAULTS_HISTORY") else { return Ok(()) };
    let file = Path::new(&folder).join(format!("{}-{}.json", round.name, round.seed));
    std::fs::write(&file, serde_json::to_string(operations)?)
        .with_context(|| format!("cannot write {}", file.display()))
}

/// What broke, and what the history shows: the one may be the reason for the other.
fn all(errors: &[Error]) -> Result<()> {
    let texts: Vec<String> = errors.iter().map(|error| format!("{error:#}")).collect();
    ensure!(texts.is_empty(), "{}", texts.join("\n"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn violations_are_told_beside_what_broke() {
        all(&[]).unwrap();
        let broken = anyhow!("an operation hangs").context("the suite does not end");
        let error = all(&[broken, anyhow!("2 violations")]).unwrap_err();
        let told = "the suite does not end: an operation hangs\n2 violations";
        assert_eq!(error.to_string(), told);
    }

    #[test]
    fn a_suite_that_does_not_start_is_told_with_its_seed() {
        let again = "FAULTS_SEED=7 again".to_owned();
        let round = Round { name: "none", seed: 7, again, faults: Vec::new() };
        let error = format!("{:#}", run(Path::new("/not/there"), &round).unwrap_err());
        assert!(error.starts_with("seed 7; once more: FAULTS_SEED=7 again: "), "{error}");
    }
}
