//! The command line. Exit status 0 is PASS, 1 is FAIL, 2 is bad configuration, or no verdict.

mod files;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use load_report::Report;
use load_scenarios::positive_seconds;
use serde_json::json;

use self::files::Page;
use crate::config::{RunOptions, Settings};
use crate::error::ConfigError;
use crate::orders::{ExportOptions, write_orders};
use crate::run::{run, work};
use crate::scenario::manifest::manifest;
use crate::scenario::summary::summary;
use crate::scenario::{self, Scenario};
use crate::terminal;
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
    Run(Box<RunArguments>),
    /// Judge a sale by its nodes and its database, without load; the last line is one JSON object
    Verify(Box<VerifyOptions>),
    /// Write all orders to stdout, and their number to stderr as one JSON object
    Orders(Box<ExportOptions>),
    /// Show the report of a run again, from its log; the exit status is that of the run
    Report(ReportArguments),
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
        /// Seconds after which no more users start, instead of the scenario's; the Job may take as much longer
        #[arg(long, value_parser = positive_seconds)]
        seconds: Option<Duration>,
    },
    /// Print the JSON Schema of the last line of a run
    Schema,
}

#[derive(Debug, clap::Args)]
struct RunArguments {
    #[command(flatten)]
    options: RunOptions,
    /// Also write the report as one HTML file; of several pods, pod 0 does it
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct ReportArguments {
    /// The log of the run, `-` for the standard input: `kubectl logs job/load-x | flashsale-load report --from -`
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    /// Write the report as one HTML file; without it, the text is printed
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// Parses the command line and runs the command.
pub async fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Run(arguments) => load(*arguments).await,
        Command::Verify(options) => judge(&options).await,
        Command::Orders(options) => export(&options).await,
        Command::Report(arguments) => show(&arguments),
        Command::Scenarios { json } => list(json),
        Command::Manifest { scenario, seconds } => print_manifest(&scenario, seconds),
        Command::Schema => print_schema(),
    };
    outcome.unwrap_or_else(|error| {
        terminal::note(format_args!("error: {error}"));
        ExitCode::from(2)
    })
}

async fn load(arguments: RunArguments) -> Result<ExitCode, ConfigError> {
    let settings = Settings::read(arguments.options)?;
    if settings.pods.index > 0 {
        if let Some(path) = &arguments.html {
            terminal::note(format_args!(
                "--html: only pod 0 has the users of all pods; this is pod {}, and {} is not written",
                settings.pods.index,
                path.display()
            ));
        }
        let verdict = work(&settings).await?;
        terminal::result(format_args!("{verdict}; the log of pod 0 is the report"))?;
        return Ok(ExitCode::SUCCESS);
    }
    // A run is not repeated for a file that cannot be written.
    let page = arguments.html.as_deref().map(Page::create).transpose()?;
    let report = run(&settings).await?;
    let shown = terminal::result(&report).and_then(|()| terminal::result(report.json()));
    // The page has its own reader.
    if let Some(page) = page {
        page.write(&report)?;
    }
    shown?;
    Ok(verdict(&report))
}

fn show(arguments: &ReportArguments) -> Result<ExitCode, ConfigError> {
    let report = files::read(&arguments.from)?;
    match &arguments.html {
        Some(path) => {
            Page::create(path)?.write(&report)?;
            terminal::result(format_args!(
                "{}: wrote {}",
                report.verdict().word(),
                path.display()
            ))?;
        }
        None => terminal::result(&report)?,
    }
    Ok(verdict(&report))
}

fn verdict(report: &Report) -> ExitCode {
    if report.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn judge(options: &VerifyOptions) -> Result<ExitCode, ConfigError> {
    let findings = verify(options).await?;
    terminal::result(&findings)?;
    terminal::result(findings.json())?;
    Ok(match findings.verdict() {
        Verdict::Pass => ExitCode::SUCCESS,
        Verdict::Fail => ExitCode::FAILURE,
        Verdict::Unknown => ExitCode::from(2),
    })
}

async fn export(options: &ExportOptions) -> Result<ExitCode, ConfigError> {
    let written = write_orders(options).await?;
    terminal::note(written.json());
    Ok(ExitCode::SUCCESS)
}

fn list(json: bool) -> Result<ExitCode, ConfigError> {
    for scenario in scenario::built_in()? {
        if json {
            let Scenario { name, description, job, .. } = scenario;
            terminal::result(json!({"name": name, "description": description, "job": job}))?;
        } else {
            terminal::result(summary(&scenario).trim_end())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn print_manifest(scenario: &str, seconds: Option<Duration>) -> Result<ExitCode, ConfigError> {
    let mut scenario = Scenario::named(scenario)?;
    if let Some(time) = seconds {
        scenario = scenario.lasting(time)?;
    }
    terminal::result(manifest(&scenario, seconds).trim_end())?;
    Ok(ExitCode::SUCCESS)
}

fn print_schema() -> Result<ExitCode, ConfigError> {
    terminal::result(format_args!("{:#}", Report::schema()))?;
    Ok(ExitCode::SUCCESS)
}
