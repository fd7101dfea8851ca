//! `cargo xtask test`: every test of the project, counted. A step that fails does not stop the next.
//! With `--changed` only what a change can break, in about a minute. With `--faults-for` and its
//! like, rounds of random faults.

mod changed;
mod count;
mod end_to_end;
mod libtest;
mod neighbours;
mod nextest;
mod random;
mod steps;
mod unit;

use std::process::ExitCode;
use std::thread;
use std::time::Instant;

use anyhow::Result;
use clap::ValueEnum;

use self::count::Count;
use self::steps::Step;
use crate::background::Background;
use crate::shell::say;
use crate::tools;

/// Options of `cargo xtask test`.
#[derive(clap::Args)]
pub struct Options {
    /// Only these steps (default: all but `neighbours`).
    #[arg(value_enum)]
    steps: Vec<Step>,
    /// Instead of the steps: format, layers, clippy and the quick tests of the crates that differ from
    /// the merge base with a revision (default: main), committed or not, and of the crates that depend
    /// on them. `--changed=HEAD`: only what is not committed. Says what it leaves out
    #[arg(long, value_name = "REVISION", num_args = 0..=1, require_equals = true,
        default_missing_value = "main", conflicts_with = "steps")]
    changed: Option<String>,
    #[command(flatten)]
    random: random::Rounds,
}

/// `cargo xtask test`.
pub fn run(options: &Options) -> Result<ExitCode> {
    tools::ensure_packages(tools::PROCESSES)?;
    if let Some(result) = options.random.run() {
        return result;
    }
    let mut count = Count::default();
    if let Some(revision) = &options.changed {
        changed::run(revision, &mut count)?;
    } else {
        tools::ensure_kubernetes()?;
        tools::ensure_helm()?;
        tools::ensure_helm3()?;
        let wanted = |step: &Step| {
            options.steps.contains(step) || (options.steps.is_empty() && step.is_default())
        };
        let steps: Vec<Step> = Step::value_variants().iter().copied().filter(wanted).collect();
        run_steps(&steps, &mut count)?;
    }
    count.print();
    Ok(if count.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs the steps in their order, except that the cluster of `e2e` is prepared beside all others,
/// and that `fuzz` runs beside `unit`.
fn run_steps(steps: &[Step], count: &mut Count) -> Result<()> {
    thread::scope(|scope| {
        let mut cluster = None;
        if steps.contains(&Step::E2e) {
            cluster = Some(Background::start(scope, end_to_end::prepare)?);
        }
        let mut fuzz = None;
        for step in steps {
            let started = Instant::now();
            say(&format!("{step:?}"));
            if *step == Step::Unit && steps.contains(&Step::Fuzz) {
                fuzz = Some(Background::start(scope, fuzz_alone)?);
            }
            match step {
                Step::Fuzz if let Some(fuzz) = fuzz.take() => count.add(fuzz.join()?),
                Step::E2e if let Some(cluster) = cluster.take() => match cluster.join()? {
                    Ok(prepared) => end_to_end::run(prepared, count),
                    Err(error) => count.check(Err(error)),
                },
                step => step.run(count),
            }
            say(&format!("{step:?}: {} s", started.elapsed().as_secs()));
        }
        Ok(())
    })
}

fn fuzz_alone() -> Count {
    let mut count = Count::default();
    Step::Fuzz.run(&mut count);
    count
}
