//! `cargo xtask bench`: what the product costs, against limits measured in the same run. The
//! measuring itself is the crate `tests/bench/`, built with optimisation, and so is what it measures.

use std::ffi::OsString;
use std::process::{Command, ExitCode, ExitStatus};

use anyhow::{Context, Result};

use crate::binaries::target_folder;
use crate::shell::{self, cargo, command, line, say};
use crate::tools;

/// Options of `cargo xtask bench`.
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub struct Options {
    /// For the bench, which explains them with `--help`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTIONS")]
    arguments: Vec<OsString>,
}

/// Says to a bench that nothing else is built yet: it reads its arguments, and does what needs nothing else.
const UNPREPARED: &str = "FLASHSALE_BENCH_UNPREPARED";
/// The status by which it asks for the rest, then.
const PREPARE: i32 = 75;

/// `cargo xtask bench`.
pub fn run(options: &Options) -> Result<ExitCode> {
    if options.arguments.first().is_some_and(|word| word == "operator") {
        return operator(&options.arguments[1..]);
    }
    build_released("flashsale-bench")?;
    let folder = target_folder().join("release");
    let mut bench = command(folder.join("flashsale-bench"));
    bench
        .args(&options.arguments)
        .env("FLASHSALE_APP", folder.join("flashsale-app"))
        .env("FLASHSALE_LOAD", folder.join("flashsale-load"))
        // Files are where the person stands, not where the checkout is.
        .current_dir(std::env::current_dir()?);
    run_prepared(&mut bench, |_| {
        tools::ensure_packages(tools::BENCH)?;
        // One after the other: together, the app would be built with what only the bench needs.
        build_released("flashsale-app")?;
        if options.arguments.first().is_some_and(|word| word == "load") {
            build_released("flashsale-load")?;
        }
        Ok(())
    })
}

/// `cargo xtask bench operator`: the crate `tests/fleet`, with the operator built as it is released.
fn operator(arguments: &[OsString]) -> Result<ExitCode> {
    say("building flashsale-fleet");
    shell::run(cargo("build").args(["--package", "flashsale-fleet"]))?;
    let mut bench = command(target_folder().join("debug/flashsale-fleet"));
    bench.args(arguments);
    run_prepared(&mut bench, |bench| {
        tools::ensure_packages(tools::FLEET)?;
        tools::ensure_kubernetes()?;
        tools::ensure_helm()?;
        let (manager, definitions) = tools::ensure_cloudnative_pg()?;
        build_released("flashsale-operator")?;
        bench
            .env("FLASHSALE_OPERATOR", target_folder().join("release/flashsale-operator"))
            .env("FLASHSALE_CLUSTER_BIN", shell::binaries_folder())
            .env("CNPG_MANAGER", manager)
            .env("CNPG_CRDS", definitions);
        Ok(())
    })
}

fn build_released(package: &str) -> Result<()> {
    say(&format!("building {package} (release)"));
    shell::run(cargo("build").args(["--release", "--package", package]))
}

/// Runs a bench, and prepares what it measures once it has understood its arguments.
fn run_prepared(
    bench: &mut Command,
    prepare: impl FnOnce(&mut Command) -> Result<()>,
) -> Result<ExitCode> {
    let mut ended = status(bench.env(UNPREPARED, "1"))?;
    if ended.code() == Some(PREPARE) {
        prepare(bench)?;
        ended = status(bench.env_remove(UNPREPARED))?;
    }
    Ok(if ended.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn status(bench: &mut Command) -> Result<ExitStatus> {
    bench.status().with_context(|| format!("cannot start {}", line(bench)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether something is prepared for a bench of this script, and whether it succeeds.
    fn runs(script: &str) -> (bool, bool) {
        let mut bench = command("sh");
        bench.args(["-c", script]);
        let mut is_prepared = false;
        let ended = run_prepared(&mut bench, |bench| {
            is_prepared = true;
            bench.env("PROGRAM", "there");
            Ok(())
        });
        (is_prepared, format!("{:?}", ended.unwrap()) == format!("{:?}", ExitCode::SUCCESS))
    }

    #[test]
    fn nothing_is_prepared_for_a_wrong_argument_or_a_question() {
        assert_eq!(runs("exit 2"), (false, false));
        assert_eq!(runs("exit 0"), (false, true));
        let measures =
            format!("[ -z \"${UNPREPARED}\" ] || exit {PREPARE}; [ \"$PROGRAM\" = there ]");
        assert_eq!(runs(&measures), (true, true));
    }
}
