//! The command line: `flashsale-operator run` reconciles sales, `check` tests a running operator, and `crd`
//! prints the resource definition.

use std::process::ExitCode;

use anyhow::Result;
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
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn print_crd() -> Result<()> {
    print!("{}", serde_norway::to_string(&custom_resource_definition()?)?);
    Ok(())
}
