//! The steps that run one after the other.

use std::path::Path;
use std::time::Instant;

use anyhow::Result;

use super::count::Count;
use super::{clients, load_tools, neighbours, openapi, plugin, unit};
use crate::binaries::Build;
use crate::shell::{self, cargo, command, output, say};
use crate::{bundle, deny, fuzz, generate, install, interrupt, layers, sbom, tools};

/// A part of `cargo xtask test`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Step {
    /// rustfmt
    Format,
    /// modules and crates form layers: no circles, no forbidden dependency between crates
    Layers,
    /// clippy, warnings denied
    Clippy,
    /// rustdoc, warnings denied; redlock can be packed for a registry
    Docs,
    /// licences, sources and known weaknesses of the dependencies; the bills of materials are valid
    Deny,
    /// generated files are up to date
    Generated,
    /// the API's document: the official schema, spectral and redocly
    Openapi,
    /// unit and integration tests: real Redis, PostgreSQL and browser processes
    Unit,
    /// replicas of the release before beside those of this one, on the same tables and nodes
    Previous,
    /// the API by requests made from its OpenAPI document
    Fuzz,
    /// clients generated from the API's document, in three languages, buy from a real sale
    Clients,
    /// `kubectl flashsale` as one static binary, on a machine with other name services
    Plugin,
    /// the chart: lint, template and its unit tests; the OLM bundle
    Chart,
    /// metrics, dashboards and alerts with Prometheus 2 and 3
    Monitoring,
    /// the operator on real API servers
    ApiServer,
    /// the network policies of a sale, enforced by kube-router
    Policies,
    /// end-to-end tests on a cluster
    E2e,
    /// the examples for other load tools, Locust, `JMeter` and k6, on a real sale; only if named, because it fetches them
    LoadTools,
    /// beside cert-manager, metrics-server and the Prometheus operator; only if named, because it builds them
    Neighbours,
    /// the pages' scores of Lighthouse; only if named, because the performance depends on the machine
    Lighthouse,
}

impl Step {
    /// Whether it runs when no step is named.
    pub fn is_default(self) -> bool {
        !matches!(self, Self::LoadTools | Self::Neighbours | Self::Lighthouse)
    }

    /// Runs the step to its end. Not [`Step::E2e`], which has two parts.
    pub fn run(self, count: &mut Count) {
        match self {
            Self::Format => {
                count.check(shell::run(command("cargo").args(["fmt", "--all", "--check"])));
            }
            Self::Layers => layers::check(&mut |result| count.check(result)),
            Self::Clippy => {
                let arguments = ["--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"];
                count.check(shell::run(cargo("clippy").args(arguments)));
            }
            Self::Docs => {
                let arguments = ["--workspace", "--no-deps", "--quiet"];
                count.check(shell::run(
                    cargo("doc").args(arguments).env("RUSTDOCFLAGS", "-D warnings"),
                ));
                // Only packed: its sources were compiled by the steps before.
                let pack = ["-qp", "redlock", "--dry-run", "--no-verify", "--allow-dirty"];
                count.check(shell::run(cargo("publish").args(pack)));
            }
            Self::Deny => {
                match deny::run() {
                    Ok(left_out) => {
                        count.check(Ok(()));
                        if let Some(reason) = left_out {
                            count.skip(reason);
                        }
                    }
                    Err(error) => count.check(Err(error)),
                }
                count.check(sbom::check());
            }
            Self::Generated => count.check(generate::check()),
            Self::Openapi => openapi::run(count),
            Self::Unit => unit::run(count),
            Self::Previous => unit::run_with_previous(count),
            Self::Monitoring => unit::run_with_prometheus(count),
            Self::ApiServer => unit::run_on_api_servers(count),
            Self::Fuzz => fuzz::run(&mut |result| count.check(result)),
            Self::Clients => clients::run(count),
            Self::Plugin => plugin::run(count),
            Self::Chart => {
                count.check(shell::run(command("helm").args(["lint", "--strict", install::CHART])));
                count.check(template(None).map(drop));
                count.check(template(Some("monitoring.enabled=true")).map(drop));
                count.check(unit_tests_of_the_chart());
                count.check(bundle::verify(Path::new(bundle::FOLDER)));
            }
            Self::Policies => count.check(policies()),
            Self::LoadTools => load_tools::run(count),
            Self::Neighbours => count.check(neighbours::judge()),
            Self::Lighthouse => unit::run_lighthouse(count),
            Self::E2e => {}
        }
    }
}

/// Runs steps one after the other.
pub fn run_all(steps: &[Step]) -> Count {
    let mut count = Count::default();
    for &step in steps {
        if let Err(error) = interrupt::ensure_may_go_on() {
            count.check(Err(error.context(format!("{step:?}"))));
            continue;
        }
        count.add(timed(step, |count| step.run(count)));
    }
    count
}

/// Says when a step begins, and how long it took.
pub fn timed(step: Step, run: impl FnOnce(&mut Count)) -> Count {
    let started = Instant::now();
    say(&format!("{step:?}"));
    let mut count = Count::default();
    run(&mut count);
    say(&format!("{step:?}: {} s", started.elapsed().as_secs()));
    count
}

fn unit_tests_of_the_chart() -> Result<()> {
    tools::ensure_helm_unittest()?;
    shell::run(command("helm-unittest").arg(install::CHART))
}

/// Connections between the pods of sales, with the policies and without them.
fn policies() -> Result<()> {
    tools::ensure_packages(tools::POLICIES)?;
    Build::Test.run()?;
    let operator = Build::Test.program("flashsale-operator");
    let check = |mode| shell::run(tools::node_script("policies").arg(&operator).arg(mode));
    check("on")?;
    // What the policies refuse is open without them, so it is they that refuse.
    check("off")
}

/// The chart's objects.
pub fn template(set: Option<&str>) -> Result<String> {
    let mut helm = command("helm");
    // The pod of `helm test` needs the release's service account: `e2e` runs it.
    helm.args(["template", install::RELEASE, install::CHART, "--skip-tests"]);
    output(helm.args(set.iter().flat_map(|value| ["--set", value])))
}
