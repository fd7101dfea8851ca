//! The project's own commands: `cargo xtask demo | test | local | bench | layers | cluster up/down | generate |
//! bundle | dashboards | plugin | sbom`.
//!
//! Each command is a module. They drive the same tools a person would (cargo, kubectl, helm, a container
//! engine or `tests/cluster`), say what they do on stderr, and know no more of the product than its
//! command lines and manifests.

#![deny(clippy::print_stdout, clippy::print_stderr, reason = "they panic when the reader is gone")]

mod background;
mod bench;
mod binaries;
mod built;
mod bundle;
mod cleanup;
mod cluster;
mod demo;
mod deny;
mod disk;
#[cfg(test)]
mod fakes;
mod fuzz;
mod generate;
mod images;
mod install;
mod interrupt;
mod layers;
mod local;
mod meanwhile;
mod packages;
mod pictures;
mod plugin;
mod sale;
mod sbom;
mod scenarios;
mod shell;
mod suites;
mod test;
mod tools;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Commands for working on the flash sale.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs a load scenario against a sale on a real cluster and prints the verdict.
    Demo(demo::Options),
    /// Runs all tests of the project and counts them.
    Test(test::Options),
    /// Runs the sale without a cluster, for work on the API.
    Local(local::Options),
    /// Measures the product against limits taken in the same run.
    Bench(bench::Options),
    /// Checks that neither modules nor crates depend on each other in a circle.
    Layers(layers::Options),
    /// Draws the pictures of the dashboards in docs/ from a sale under load.
    Dashboards,
    /// Packs `kubectl flashsale` for krew: one static binary for this machine's processor, and the licence.
    Plugin,
    /// Writes a bill of materials (an SBOM) for each program that users get.
    Sbom(sbom::Options),
    /// The cluster that demo and test use.
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// Writes the operator as a bundle for the Operator Lifecycle Manager, with values of the chart.
    Bundle(bundle::Options),
    /// Writes the generated files, such as the CRD, the API's description and the OLM bundle.
    Generate(generate::Options),
}

#[derive(Subcommand)]
enum ClusterCommand {
    /// Starts it, if none runs, and prints its KUBECONFIG.
    Up,
    /// Removes everything that was started.
    Down,
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Demo(options) => demo::run(&options),
        Command::Test(options) => test::run(&options),
        Command::Local(options) => local::run(&options),
        Command::Bench(options) => bench::run(&options),
        Command::Layers(options) => layers::run(&options),
        Command::Dashboards => pictures::draw(),
        Command::Plugin => plugin::release(),
        Command::Sbom(options) => sbom::run(&options),
        Command::Cluster(ClusterCommand::Up) => cluster::up(),
        Command::Cluster(ClusterCommand::Down) => cluster::down(),
        Command::Bundle(options) => bundle::run(&options),
        Command::Generate(options) => generate::run(&options),
    };
    let code = result.unwrap_or_else(|error| {
        shell::note(format_args!("error: {error:#}"));
        ExitCode::FAILURE
    });
    interrupt::lost_result().unwrap_or(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_options_agree() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }

    #[test]
    fn options_of_test_that_contradict_each_other_are_refused() {
        let parsed = |words: &[&str]| {
            Arguments::try_parse_from([&["cargo xtask", "test"], words].concat()).is_ok()
        };
        let instead = [
            "--changed",
            "--matrix",
            "--faults-for=1m",
            "--faults-seed=1",
            "--packet-faults-for=1m",
            "--packet-faults-seed=1",
        ];
        for one in instead {
            assert!(parsed(&[one]), "{one}");
            for other in ["unit", "--all-failures", "--only=test(nodes)", "--upgrade-from=main"] {
                assert!(!parsed(&[one, other]) && !parsed(&[other, one]), "{one} {other}");
            }
            for other in instead.into_iter().filter(|other| *other != one) {
                let both_packets = one.starts_with("--packet") && other.starts_with("--packet");
                assert_eq!(parsed(&[one, other]), both_packets, "{one} {other}");
            }
        }
        assert!(parsed(&["e2e", "--all-failures", "--upgrade-from=main"]));
    }
}
