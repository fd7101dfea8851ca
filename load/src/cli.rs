//! The command line. Exit status 0 is PASS, 1 is FAIL, 2 is bad configuration, or no verdict.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::{RunOptions, Settings};
use crate::error::ConfigError;
use crate::orders::{ExportOptions, write_orders};
use crate::run::run;
use crate::scenario::{self, Scenario};
use crate::verify::{Verdict, VerifyOptions, verify};

/// Simulates many users who buy at once, and checks from outside that the sale sold what it should.
#[derive(Debug, Parser)]
#[command(version, after_help = "Exit status: 0 PASS, 1 FAIL, 2 bad configuration, or no verdict.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a scenario; the report goes to stdout, its last line is one JSON object
    Run(Box<RunOptions>),
    /// Judge a sale by its nodes and its database, without load; the last line is one JSON object
    Verify(Box<VerifyOptions>),
    /// Write all orders to stdout, and their number to stderr as one JSON object
    Orders(Box<ExportOptions>),
    /// List the built-in scenarios with their targets
    Scenarios,
}

/// Parses the command line and runs the command.
pub async fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Run(options) => load(*options).await,
        Command::Verify(options) => judge(&options).await,
        Command::Orders(options) => export(&options).await,
        Command::Scenarios => list(),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::from(2)
    })
}

async fn load(options: RunOptions) -> Result<ExitCode, ConfigError> {
    let report = run(&Settings::read(options)?).await?;
    println!("{report}");
    println!("{}", report.json());
    Ok(if report.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn judge(options: &VerifyOptions) -> Result<ExitCode, ConfigError> {
    let findings = verify(options).await?;
    println!("{findings}");
    println!("{}", findings.json());
    Ok(match findings.verdict() {
        Verdict::Pass => ExitCode::SUCCESS,
        Verdict::Fail => ExitCode::FAILURE,
        Verdict::Unknown => ExitCode::from(2),
    })
}

async fn export(options: &ExportOptions) -> Result<ExitCode, ConfigError> {
    let written = write_orders(options).await?;
    eprintln!("{}", written.json());
    Ok(ExitCode::SUCCESS)
}

fn list() -> Result<ExitCode, ConfigError> {
    for scenario in scenario::built_in()? {
        print!("{}", Scenario::summary(&scenario));
    }
    Ok(ExitCode::SUCCESS)
}
