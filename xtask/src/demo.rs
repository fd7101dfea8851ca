//! `cargo xtask demo`: from nothing to a verdict on a sale that a real cluster ran.

use std::io::{BufRead, BufReader};
use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::binaries::Build;
use crate::cluster::{Cluster, Kind};
use crate::images::{self, Images};
use crate::install;
use crate::shell::{self, line, output, repository, say, succeeds};

const NAMESPACE: &str = "shop";
/// Marks the namespace as the demo's own, so that no other one called `shop` is ever deleted.
const LABEL: &str = "flashsale.dev/demo=true";
const READY_TIMEOUT: Duration = Duration::from_mins(5);
const START_TIMEOUT: Duration = Duration::from_mins(2);
const POLL: Duration = Duration::from_millis(300);
const JOB_END_TIMEOUT: Duration = Duration::from_mins(1);

/// Options of `cargo xtask demo`.
#[derive(clap::Args)]
pub struct Options {
    /// Redis nodes: 5 (300 users on 100 items) or 1 (100 users on 100 items).
    #[arg(long, default_value = "5", value_parser = ["1", "5"])]
    nodes: String,
    /// Leaves the cluster up and says how to look at it.
    #[arg(long)]
    keep: bool,
}

struct Scenario {
    sale: &'static str,
    load: &'static str,
}

impl Scenario {
    fn of(nodes: &str) -> Self {
        if nodes == "1" {
            Self { sale: "manifests/samples/single.yaml", load: "manifests/load/v1-single.yaml" }
        } else {
            Self {
                sale: "manifests/samples/black-friday.yaml",
                load: "manifests/load/v3-redlock.yaml",
            }
        }
    }
}

/// `cargo xtask demo`.
pub fn run(options: &Options) -> Result<ExitCode> {
    let started = Instant::now();
    let cluster = Cluster::choose()?;
    let outcome = sell(&cluster, &Scenario::of(&options.nodes));
    if options.keep {
        explain(&cluster);
    } else {
        clean_up(&cluster)?;
    }
    let passed = outcome?;
    say(&format!("done in {} s", started.elapsed().as_secs()));
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs the sale; whether its verdict is PASS.
fn sell(cluster: &Cluster, scenario: &Scenario) -> Result<bool> {
    let images = images::build_and_load(cluster, Build::Release)?;
    install::operator(cluster, &images)?;
    fresh_namespace(cluster)?;
    say(&format!("kubectl apply -n {NAMESPACE} -f {}", scenario.sale));
    let sale = output(kubectl(cluster).args(["apply", "-o", "name", "-f", scenario.sale]))?;
    await_ready(cluster, sale.trim())?;
    let verdict = follow_load(cluster, scenario, &images)?;
    // The operator looks at the figures from time to time, not at every purchase.
    let sold_out = "--for=jsonpath={.status.phase}=SoldOut";
    succeeds(kubectl(cluster).args(["wait", sale.trim(), sold_out, "--timeout=30s"]));
    shell::run(kubectl(cluster).args(["get", "flashsales"]))?;
    Ok(verdict["verdict"] == "PASS")
}

fn kubectl(cluster: &Cluster) -> std::process::Command {
    let mut kubectl = cluster.kubectl();
    kubectl.args(["--namespace", NAMESPACE]);
    kubectl
}

/// An empty namespace: a sale of an earlier demo is sold out, and would stay so.
fn fresh_namespace(cluster: &Cluster) -> Result<()> {
    if succeeds(cluster.kubectl().args(["get", "namespace", NAMESPACE])) {
        delete_namespace(cluster)?;
    }
    output(cluster.kubectl().args(["create", "namespace", NAMESPACE]))?;
    output(cluster.kubectl().args(["label", "namespace", NAMESPACE, LABEL]))?;
    Ok(())
}

fn delete_namespace(cluster: &Cluster) -> Result<()> {
    let selected =
        output(cluster.kubectl().args(["get", "namespaces", "-o", "name", "-l", LABEL]))?;
    if !selected.lines().any(|name| name == format!("namespace/{NAMESPACE}")) {
        bail!(
            "the namespace {NAMESPACE} exists and is not the demo's (no label {LABEL}); remove it first"
        );
    }
    output(cluster.kubectl().args(["delete", "namespace", NAMESPACE, "--timeout=3m"]))?;
    Ok(())
}

/// Waits for the condition Ready, and tells each change on the way.
fn await_ready(cluster: &Cluster, sale: &str) -> Result<()> {
    let started = Instant::now();
    let mut told = String::new();
    while started.elapsed() < READY_TIMEOUT {
        let object = output(kubectl(cluster).args(["get", sale, "-o", "json"]))?;
        let status = serde_json::from_str::<Value>(&object)?["status"].take();
        let progress = progress(&status);
        if progress != told {
            eprintln!("    {:>3} s  {progress}", started.elapsed().as_secs());
            told = progress;
        }
        if condition(&status, "Ready") == Some("True") {
            return Ok(());
        }
        if condition(&status, "Stalled") == Some("True") {
            break;
        }
        std::thread::sleep(POLL);
    }
    for arguments in [["describe", sale], ["get", "pods"], ["get", "events"]] {
        shell::run(kubectl(cluster).args(arguments).stdout(std::io::stderr()))?;
    }
    bail!("{sale} is stalled, or not Ready after {READY_TIMEOUT:?}")
}

fn progress(status: &Value) -> String {
    let count = |part: &str, of: &str| {
        let number = |field: &str| status[part][field].as_u64().unwrap_or(0);
        format!("{}/{}", number("ready"), number(of))
    };
    let phase = status["phase"].as_str().unwrap_or("Pending");
    let conditions: Vec<&str> =
        ["RedisReady", "DatabaseReady", "StockSeeded", "AppAvailable", "Ready"]
            .into_iter()
            .filter(|name| condition(status, name) == Some("True"))
            .collect();
    format!(
        "{phase}: redis {}, app {}, true: [{}]",
        count("redis", "nodes"),
        count("app", "desired"),
        conditions.join(" ")
    )
}

fn condition<'a>(status: &'a Value, name: &str) -> Option<&'a str> {
    let conditions = status["conditions"].as_array()?;
    conditions.iter().find(|condition| condition["type"] == name)?["status"].as_str()
}

/// Runs the load Job, shows what it prints, and gives the verdict on its last line.
fn follow_load(cluster: &Cluster, scenario: &Scenario, images: &Images) -> Result<Value> {
    say(&format!("kubectl apply -n {NAMESPACE} -f {}", scenario.load));
    let manifest = std::fs::read_to_string(repository().join(scenario.load))
        .with_context(|| format!("cannot read {}", scenario.load))?
        .replace("localhost/flashsale-load:dev", &images.name("load"));
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), manifest)?;
    let job = output(kubectl(cluster).args(["apply", "-o", "name", "-f"]).arg(file.path()))?;
    let job = job.trim();
    await_start(cluster, job)?;

    let mut follow = kubectl(cluster);
    follow.args(["logs", "--follow", job]).stdout(Stdio::piped());
    let mut child = follow.spawn().with_context(|| format!("cannot start {}", line(&follow)))?;
    let log = child.stdout.take().context("kubectl logs has no output")?;
    let mut verdict = None;
    for text in BufReader::new(log).lines() {
        let text = text?;
        match serde_json::from_str::<Value>(&text) {
            Ok(json) if json["verdict"].is_string() => verdict = Some(json),
            _ => println!("{text}"),
        }
    }
    child.wait()?;
    let Some(verdict) = verdict else {
        shell::run(kubectl(cluster).args(["describe", job]).stdout(std::io::stderr()))?;
        bail!("{job} ended without a verdict");
    };
    // The Job's own exit status counts as well.
    let ended = |condition| {
        let timeout = format!("--timeout={}s", JOB_END_TIMEOUT.as_secs());
        succeeds(kubectl(cluster).args([
            "wait",
            job,
            &format!("--for=condition={condition}"),
            &timeout,
        ]))
    };
    if verdict["verdict"] == "PASS" && !ended("Complete") {
        bail!("{job} says PASS but did not complete");
    }
    Ok(verdict)
}

/// Waits until the Job's pod has a log.
fn await_start(cluster: &Cluster, job: &str) -> Result<()> {
    let started = Instant::now();
    let name = job.rsplit('/').next().unwrap_or(job);
    while started.elapsed() < START_TIMEOUT {
        let phase = output(
            kubectl(cluster)
                .args(["get", "pods", "-l", &format!("job-name={name}")])
                .args(["-o", "jsonpath={.items[*].status.phase}"]),
        )?;
        if !phase.is_empty() && phase != "Pending" {
            return Ok(());
        }
        std::thread::sleep(POLL);
    }
    shell::run(kubectl(cluster).args(["describe", "pods", "-l", &format!("job-name={name}")]))?;
    bail!("{job} does not start")
}

fn clean_up(cluster: &Cluster) -> Result<()> {
    if cluster.was_running {
        say(&format!("removing the namespace {NAMESPACE} and the operator"));
        if succeeds(cluster.kubectl().args(["get", "namespace", NAMESPACE])) {
            delete_namespace(cluster)?;
        }
        if install::is_installed(cluster) {
            install::remove(cluster)?;
        }
    }
    cluster.stop()
}

fn explain(cluster: &Cluster) {
    let engine = if cluster.kind == Kind::Given { "" } else { "\n  cargo xtask cluster down" };
    let kubectl = "kubectl -n shop";
    eprintln!(
        "
The cluster stays up. To look at it:
  export KUBECONFIG={kubeconfig} PATH=$PATH:{bin}
  {kubectl} get fsale,pods
  {kubectl} exec black-friday-redis-0 -- redis-cli GET stock:1
Swagger UI, then http://127.0.0.1:8080/docs:
  {kubectl} port-forward svc/black-friday 8080
Metrics, then http://127.0.0.1:9090/metrics:
  {kubectl} port-forward svc/black-friday 9090
To remove it:{engine}
  or just the sale: kubectl delete namespace {NAMESPACE}",
        kubeconfig = cluster.kubeconfig.display(),
        bin = shell::binaries_folder().display(),
    );
}
