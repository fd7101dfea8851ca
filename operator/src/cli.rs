//! The command line: `flashsale-operator run` reconciles sales, `check` tests a running operator, and `crd`
//! prints the resource definition.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};

use crate::check::{self, check};
use crate::config::Config;
use crate::crd::custom_resource_definition;
use crate::run::run;

#[derive(Parser)]
#[command(version, about = "Reconciles FlashSale resources")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Reconcile until SIGTERM or SIGINT.
    Run(Box<Config>),
    /// Test that a running operator is ready and that the API server serves its sales.
    Check(check::Options),
    /// Print the `CustomResourceDefinition` as YAML.
    Crd,
}

/// Parses the command line and runs the command; an error goes to stderr.
pub async fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(config) => run(*config).await,
        Command::Check(options) => check(options).await,
        Command::Crd => print_crd(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The exit status says it too, if nobody reads this.
            let _ = writeln!(std::io::stderr(), "{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn print_crd() -> Result<()> {
    let definition = serde_norway::to_string(&custom_resource_definition()?)?;
    // An error where `print!` would panic.
    std::io::stdout().write_all(definition.as_bytes()).context("cannot write to stdout")
}
