//! The command line.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::cluster::{Cluster, Target};
use crate::terminal::note;
use crate::{bundle, export, hibernate, load, logs, report, retained, status, verify};

const EXAMPLES: &str = "\
Examples:
  kubectl flashsale status                         all sales of the namespace
  kubectl flashsale status black-friday --watch    one sale, live
  kubectl flashsale verify black-friday            nothing oversold? exit status 0, 1 or 2
  kubectl flashsale orders export black-friday --format csv -o orders.csv
  kubectl flashsale support-bundle black-friday    what a maintainer asks for, without secrets

The rights that each command needs are in docs/OPERATIONS.md of the project.";

#[derive(Parser)]
#[command(
    name = "kubectl-flashsale",
    bin_name = "kubectl flashsale",
    version,
    about = "Sales at the terminal: state, verdict, load, logs, orders",
    after_help = EXAMPLES
)]
struct Cli {
    #[command(flatten)]
    target: Target,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Show a sale on one screen, or list all sales
    Status(status::Options),
    /// Judge a running or ended sale by its nodes, database and orders
    Verify(verify::Options),
    /// Run a load scenario against a sale and show its report
    Load(load::Options),
    /// Show the report of the last load run
    Report(report::Options),
    /// Show the logs of all replicas of a part
    Logs(logs::Options),
    /// End all pods of a sale; its data stay
    Hibernate(hibernate::HibernateOptions),
    /// Start the pods of a hibernated sale
    Resume(hibernate::ResumeOptions),
    /// Export the orders
    #[command(subcommand)]
    Orders(Orders),
    /// List or remove what deleted sales left
    #[command(subcommand)]
    Retained(Retained),
    /// Collect manifests, states, events, logs and metrics of a sale, without secrets
    SupportBundle(bundle::Options),
}

#[derive(Subcommand)]
enum Orders {
    /// Write all orders: buyer, product, quantity, state, time
    Export(export::Options),
}

#[derive(Subcommand)]
enum Retained {
    /// List the volumes and Secrets that deleted sales left
    List(retained::ListOptions),
    /// Delete the orders of a deleted sale for good
    Remove(retained::RemoveOptions),
}

/// Parses the command line and runs the command. Exit status 2: the command did not do what it should.
pub async fn main() -> ExitCode {
    let cli = Cli::parse();
    match Box::pin(run(cli)).await {
        Ok(code) => code,
        Err(error) => {
            note(format_args!("error: {error:#}"));
            ExitCode::from(2)
        }
    }
}

async fn run(cli: Cli) -> Result<ExitCode> {
    let cluster = Cluster::of(&cli.target).await?;
    match cli.command {
        Command::Status(options) => status::run(&cluster, &options).await,
        Command::Verify(options) => Box::pin(verify::run(&cluster, &options)).await,
        Command::Load(options) => Box::pin(load::run(&cluster, &options)).await,
        Command::Report(options) => report::run(&cluster, &options).await,
        Command::Logs(options) => logs::run(&cluster, &options).await,
        Command::Hibernate(options) => Box::pin(hibernate::hibernate(&cluster, &options)).await,
        Command::Resume(options) => hibernate::resume(&cluster, &options).await,
        Command::Orders(Orders::Export(options)) => Box::pin(export::run(&cluster, &options)).await,
        Command::Retained(Retained::List(options)) => retained::list(&cluster, &options).await,
        Command::Retained(Retained::Remove(options)) => retained::remove(&cluster, &options).await,
        Command::SupportBundle(options) => bundle::run(&cluster, &options).await,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent_and_every_command_has_an_example() {
        let command = Cli::command();
        command.clone().debug_assert();
        let mut commands: Vec<_> = command.get_subcommands().cloned().collect();
        while let Some(command) = commands.pop() {
            commands.extend(command.get_subcommands().cloned());
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let is_group = command.get_subcommands().next().is_some();
            let name = command.get_name();
            assert!(is_group || help.contains("Example"), "{name} has no example");
        }
    }
}
