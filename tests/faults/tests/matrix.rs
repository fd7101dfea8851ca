//! Every kind of fault, on 1, 2 and 3 of 5 nodes and on the clients' processes.
//!
//! `FAULTS_SEED` chooses the victims; without it each run chooses others. Each says its seed, and the command that plays
//! it once more.

use std::any::type_name_of_val;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use anyhow::Context as _;
use flashsale_faults::fault::Fault;
use flashsale_faults::round::{self, Round};

/// One suite at a time: two would take the processors from each other.
static MACHINE: Mutex<()> = Mutex::new(());

/// Runs the faults that a seed chooses for this test.
fn run<T>(test: &T, faults: impl FnOnce(u64) -> Vec<Fault>) -> anyhow::Result<()> {
    let _alone = MACHINE.lock().unwrap_or_else(PoisonError::into_inner);
    let seed = match std::env::var("FAULTS_SEED") {
        Ok(seed) => seed.parse::<u64>().with_context(|| format!("FAULTS_SEED={seed}"))?,
        Err(_unset) => rand::random_range(0..1_000_000),
    };
    let name = type_name_of_val(test).rsplit("::").next().unwrap_or_default();
    let again = format!("FAULTS_SEED={seed} cargo test --locked --workspace --test matrix {name}");
    let round = Round { name, seed, again, faults: faults(seed) };
    round::run(Path::new(env!("CARGO_BIN_EXE_lock-client")), &round)
}

#[test]
fn nodes_are_killed_and_come_back_with_their_data() -> anyhow::Result<()> {
    run(&nodes_are_killed_and_come_back_with_their_data, |seed| round::of_nodes("kill", seed))
}

#[test]
fn nodes_are_killed_and_come_back_empty() -> anyhow::Result<()> {
    run(&nodes_are_killed_and_come_back_empty, |seed| round::of_nodes("kill and forget", seed))
}

#[test]
fn nodes_are_stopped() -> anyhow::Result<()> {
    run(&nodes_are_stopped, |seed| round::of_nodes("stop", seed))
}

#[test]
fn nodes_are_cut_off_from_everybody() -> anyhow::Result<()> {
    run(&nodes_are_cut_off_from_everybody, |seed| round::of_nodes("partition", seed))
}

#[test]
fn nodes_are_cut_off_from_one_process() -> anyhow::Result<()> {
    run(&nodes_are_cut_off_from_one_process, |seed| {
        round::of_nodes("partition of one process", seed)
    })
}

#[test]
fn nodes_are_slow() -> anyhow::Result<()> {
    run(&nodes_are_slow, |seed| round::of_nodes("slow", seed))
}

#[test]
fn clocks_of_nodes_jump() -> anyhow::Result<()> {
    run(&clocks_of_nodes_jump, |seed| round::of_nodes("clock jump", seed))
}

#[test]
fn processes_of_clients_are_stopped_in_a_write_and_killed() -> anyhow::Result<()> {
    run(&processes_of_clients_are_stopped_in_a_write_and_killed, round::of_processes)
}
