//! `cargo xtask bench`: what the product costs, against limits measured in the same run. The
//! measuring itself is the crate `tests/bench/`, built with optimisation, and so is what it measures.

use std::ffi::OsString;
use std::process::ExitCode;

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

/// `cargo xtask bench`.
pub fn run(options: &Options) -> Result<ExitCode> {
    if options.arguments.first().is_some_and(|word| word == "operator") {
        return operator(&options.arguments[1..]);
    }
    tools::ensure_packages(tools::BENCH)?;
    let mut packages = vec!["flashsale-app", "flashsale-bench"];
    if options.arguments.first().is_some_and(|word| word == "load") {
        packages.push("flashsale-load");
    }
    say(&format!("building {} (release)", packages.join(", ")));
    // One after the other: together, the app would be built with what only the bench needs.
    for package in packages {
        shell::run(cargo("build").args(["--release", "--package", package]))?;
    }
    let folder = target_folder().join("release");
    let mut bench = command(folder.join("flashsale-bench"));
    bench
        .args(&options.arguments)
        .env("FLASHSALE_APP", folder.join("flashsale-app"))
        .env("FLASHSALE_LOAD", folder.join("flashsale-load"))
        // Files are where the person stands, not where the checkout is.
        .current_dir(std::env::current_dir()?);
    let status = bench.status().with_context(|| format!("cannot start {}", line(&bench)))?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// `cargo xtask bench operator`: the crate `tests/fleet`, with the operator built as it is released.
fn operator(arguments: &[OsString]) -> Result<ExitCode> {
    tools::ensure_packages(tools::FLEET)?;
    tools::ensure_kubernetes()?;
    tools::ensure_helm()?;
    let (manager, definitions) = tools::ensure_cloudnative_pg()?;
    say("building flashsale-operator (release) and flashsale-fleet");
    shell::run(cargo("build").args(["--release", "--package", "flashsale-operator"]))?;
    shell::run(cargo("build").args(["--package", "flashsale-fleet"]))?;
    let mut bench = command(target_folder().join("debug/flashsale-fleet"));
    bench
        .args(arguments)
        .env("FLASHSALE_OPERATOR", target_folder().join("release/flashsale-operator"))
        .env("FLASHSALE_CLUSTER_BIN", shell::binaries_folder())
        .env("CNPG_MANAGER", manager)
        .env("CNPG_CRDS", definitions);
    let status = bench.status().with_context(|| format!("cannot start {}", line(&bench)))?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
