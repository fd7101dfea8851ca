//! `cargo xtask test`: every test of the project, counted. A step that fails does not stop the next.
//! With `--changed` only what a change can break, in about a minute. With `--matrix`
//! on several versions of the servers. With `--faults-for` and its like, rounds of random faults.

mod changed;
mod clients;
mod count;
mod end_to_end;
mod libtest;
mod load_tools;
mod matrix;
mod neighbours;
mod nextest;
mod openapi;
mod plugin;
mod previous;
mod previous_app;
mod random;
mod revision;
mod steps;
mod unit;

use std::process::ExitCode;
use std::thread;

use anyhow::Result;
use clap::ValueEnum;

use self::count::Count;
use self::steps::{Step, run_all, timed};
use crate::background::Background;
use crate::{disk, interrupt, tools};

/// Options of `cargo xtask test`.
#[derive(clap::Args)]
pub struct Options {
    /// Only these steps (default: all but `load-tools`, `neighbours` and `lighthouse`).
    #[arg(value_enum)]
    steps: Vec<Step>,
    /// Instead of the steps: format, layers, clippy and the quick tests of the crates that differ from
    /// the merge base with a revision (default: main), committed or not, and of the crates that depend
    /// on them. `--changed=HEAD`: only what is not committed. Says what it leaves out
    #[arg(long, value_name = "REVISION", num_args = 0..=1, require_equals = true,
        default_missing_value = "main", conflicts_with = "steps")]
    changed: Option<String>,
    /// Instead of the steps: the lock, a sale and restarts on several versions of Redis, Valkey and
    /// PostgreSQL, unpacked from Debian's suites. Writes the tables of `docs/VERSIONS.md`
    #[arg(long, conflicts_with_all = ["steps", "changed"])]
    matrix: bool,
    #[command(flatten)]
    more: end_to_end::More,
    #[command(flatten)]
    random: random::Rounds,
}

/// `cargo xtask test`.
pub fn run(options: &Options) -> Result<ExitCode> {
    let wanted = |step: &Step| {
        options.steps.contains(step) || (options.steps.is_empty() && step.is_default())
    };
    let steps: Vec<Step> = Step::value_variants().iter().copied().filter(wanted).collect();
    options.more.ensure_applies(&steps)?;
    disk::ensure_room_for_tests()?;
    tools::ensure_packages(tools::PROCESSES)?;
    if let Some(result) = options.random.run() {
        return result;
    }
    if options.matrix {
        return matrix::run();
    }
    let mut count = Count::default();
    if let Some(revision) = &options.changed {
        changed::run(revision, &mut count)?;
    } else {
        if options.steps.contains(&Step::Previous) {
            previous_app::ensure_available()?;
        }
        tools::ensure_kubernetes()?;
        tools::ensure_helm()?;
        tools::ensure_helm3()?;
        run_steps(&steps, &options.more, &mut count)?;
    }
    count.print();
    Ok(if count.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs the steps in their order, except those that mostly wait: the cluster of `e2e` is prepared
/// beside all others, `fuzz` runs beside `unit`, and `api-server` and `policies` beside `e2e`.
fn run_steps(steps: &[Step], more: &end_to_end::More, count: &mut Count) -> Result<()> {
    if steps.iter().any(|step| matches!(step, Step::E2e | Step::Neighbours)) {
        interrupt::handle()?;
    }
    thread::scope(|scope| {
        let mut cluster = None;
        if steps.contains(&Step::E2e) {
            cluster = Some(Background::start(scope, end_to_end::prepare)?);
        }
        let mut fuzz = None;
        let mut beside_sales = Vec::new();
        for &step in steps {
            match step {
                Step::Unit if steps.contains(&Step::Fuzz) => {
                    fuzz = Some(Background::start(scope, || run_all(&[Step::Fuzz])));
                    count.add(run_all(&[step]));
                }
                Step::Fuzz if let Some(fuzz) = fuzz.take() => count.add(results(fuzz)),
                Step::ApiServer | Step::Policies if cluster.is_some() => {
                    beside_sales.push(step);
                }
                Step::E2e if let Some(cluster) = cluster.take() => {
                    let cluster = cluster.join().and_then(|prepared| prepared);
                    let others = std::mem::take(&mut beside_sales);
                    let beside = Background::start(scope, move || run_all(&others));
                    count.add(timed(step, |count| match cluster {
                        Ok(prepared) => end_to_end::run(prepared, more, count),
                        Err(error) => count.check(Err(error)),
                    }));
                    count.add(results(beside));
                }
                step => count.add(run_all(&[step])),
            }
        }
        Ok(())
    })
}

/// The results of steps in the background. If they did not start or did not end, that is a failure like others, and the
/// cluster of `e2e` is cleaned up all the same.
fn results(background: Result<Background<'_, Count>>) -> Count {
    background.and_then(Background::join).unwrap_or_else(|error| {
        let mut count = Count::default();
        count.check(Err(error));
        count
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_be_run_is_counted_with_its_reason() {
        let (mut all, mut some) = (Count::default(), Count { skipped: 2, ..Count::default() });
        some.skip("no database");
        all.add(some);
        assert_eq!((all.passed, all.skipped, all.failures.len()), (0, 3, 0));
        assert_eq!(all.reasons, ["no database"]);
    }

    #[test]
    fn steps_in_the_background_that_panic_are_a_failure() {
        thread::scope(|scope| {
            let panics = Background::start(scope, || -> Count { panic!("a defect") });
            assert_eq!(results(panics).failures, ["a step in the background panicked"]);
            let passes = Background::start(scope, || Count { passed: 1, ..Count::default() });
            assert_eq!(results(passes).passed, 1);
        });
    }
}
