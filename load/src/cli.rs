//! The command line. Exit status 0 is PASS, 1 is FAIL, 2 is bad configuration.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use serde_json::json;

use crate::config::{RunOptions, Settings};
use crate::error::ConfigError;
use crate::manifest::manifest;
use crate::run::{run, work};
use crate::scenario::{self, Scenario};
use crate::scenario_summary::summary;

/// Simulates many users who buy at once, and checks from outside that the sale sold what it should.
#[derive(Debug, Parser)]
#[command(version, after_help = "Exit status: 0 PASS, 1 FAIL, 2 bad configuration.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a scenario; the report goes to stdout, its last line is one JSON object
    Run(Box<RunOptions>),
    /// List the built-in scenarios with their targets
    Scenarios {
        /// One JSON object a line: name, description, and how it runs on a cluster
        #[arg(long)]
        json: bool,
    },
    /// Print the Kubernetes manifest of a built-in scenario
    Manifest {
        /// The scenario
        scenario: String,
    },
}

/// Parses the command line and runs the command.
pub async fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Run(options) => load(*options).await,
        Command::Scenarios { json } => list(json),
        Command::Manifest { scenario } => print_manifest(&scenario),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::from(2)
    })
}

async fn load(options: RunOptions) -> Result<ExitCode, ConfigError> {
    let settings = Settings::read(options)?;
    if settings.pods.index > 0 {
        let verdict = work(&settings).await?;
        println!("{verdict}; the log of pod 0 is the report");
        return Ok(ExitCode::SUCCESS);
    }
    let report = run(&settings).await?;
    println!("{report}");
    println!("{}", report.json());
    Ok(if report.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn list(json: bool) -> Result<ExitCode, ConfigError> {
    for scenario in scenario::built_in()? {
        if json {
            let Scenario { name, description, job, .. } = scenario;
            println!("{}", json!({"name": name, "description": description, "job": job}));
        } else {
            print!("{}", summary(&scenario));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn print_manifest(scenario: &str) -> Result<ExitCode, ConfigError> {
    print!("{}", manifest(&Scenario::named(scenario)?));
    Ok(ExitCode::SUCCESS)
}
