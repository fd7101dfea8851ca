//! `cargo xtask demo`: from nothing to a verdict on a sale that a real cluster ran. Any scenario of the load tool.

use std::io::{BufRead, BufReader};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::binaries::Build;
use crate::cleanup;
use crate::cluster::Cluster;
use crate::images::{self, Images};
use crate::install;
use crate::interrupt;
use crate::meanwhile::Meanwhile;
use crate::scenarios::{self, Scenario};
use crate::shell::{self, command, line, note, output, print, say, succeeds};

const NAMESPACE: &str = "shop";
/// The name of the sale in every manifest of `manifests/samples`.
const SALE: &str = "black-friday";
/// Marks the namespace as the demo's own, so that no other one called `shop` is ever deleted.
const LABEL: &str = "flashsale.dev/demo=true";
const READY_TIMEOUT: Duration = Duration::from_mins(5);
const START_TIMEOUT: Duration = Duration::from_mins(2);
const POLL: Duration = Duration::from_millis(300);
const JOB_END_TIMEOUT: Duration = Duration::from_mins(1);

/// Options of `cargo xtask demo`.
#[derive(clap::Args)]
pub struct Options {
    /// Scenario of the load tool: `flashsale-load scenarios` describes them, and a wrong name lists them.
    #[arg(long, conflicts_with = "nodes")]
    scenario: Option<String>,
    /// Redis nodes: 5 (scenario v3-redlock) or 1 (scenario v1-single).
    #[arg(long, default_value = "5", value_parser = ["1", "5"])]
    nodes: String,
    /// Seconds after which no more users start, instead of the scenario's.
    #[arg(long, value_parser = positive_seconds)]
    seconds: Option<f64>,
    /// Leaves the cluster up and says how to look at it.
    #[arg(long)]
    keep: bool,
}

/// Seconds as the load tool takes them.
fn positive_seconds(text: &str) -> Result<f64, String> {
    let is_time =
        |&value: &f64| Duration::try_from_secs_f64(value).is_ok_and(|time| !time.is_zero());
    text.parse().ok().filter(is_time).ok_or_else(|| "must be a number above 0".to_owned())
}

impl Options {
    fn scenario(&self) -> &str {
        match &self.scenario {
            Some(name) => name,
            None if self.nodes == "1" => "v1-single",
            None => "v3-redlock",
        }
    }
}

/// What a demo made on a cluster, and so removes.
#[derive(Debug, Default)]
struct Made {
    namespace: bool,
    operator: install::Made,
}

/// `cargo xtask demo`.
pub fn run(options: &Options) -> Result<ExitCode> {
    let started = Instant::now();
    // Before minutes of building.
    scenarios::ensure_known(options.scenario())?;
    if options.seconds.is_some() {
        scenarios::ensure_lasts(options.scenario())?;
    }
    interrupt::handle()?;
    let cluster = Cluster::choose()?;
    let mut made = Made::default();
    let outcome = sell(&cluster, options, &mut made);
    let left = if options.keep {
        explain(&cluster);
        Ok(())
    } else {
        clean_up(&cluster, &mut made)
    };
    let passed = cleanup::after(outcome, left)?;
    say(&format!("done in {} s", started.elapsed().as_secs()));
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs the sale; whether its verdict is PASS.
fn sell(cluster: &Cluster, options: &Options, made: &mut Made) -> Result<bool> {
    // Before minutes of building.
    install::ensure_replaceable(cluster)?;
    has_earlier_namespace(cluster)?;
    let images = images::build_and_load(cluster, Build::Release)?;
    let scenarios = scenarios::all(&Build::Release.program("flashsale-load"))?;
    let scenario = scenarios
        .into_iter()
        .find(|scenario| scenario.name == options.scenario())
        .with_context(|| format!("flashsale-load has no scenario {:?}", options.scenario()))?;
    let load = load_job(&scenario, options.seconds, &images)?;
    install::operator(cluster, &images, &mut made.operator)?;
    fresh_namespace(cluster, made)?;
    let file = &scenario.job.sale;
    say(&format!("kubectl apply -n {NAMESPACE} -f {file}"));
    let sale = output(kubectl(cluster).args(["apply", "-o", "name", "-f", file]))?;
    await_ready(cluster, sale.trim())?;
    let verdict = follow_load(cluster, &scenario, &load)?;
    // The operator looks at the figures from time to time, not at every purchase.
    if verdict["database_stock"] == 0 {
        let sold_out = "--for=jsonpath={.status.phase}=SoldOut";
        succeeds(kubectl(cluster).args(["wait", sale.trim(), sold_out, "--timeout=30s"]));
    }
    shell::run(kubectl(cluster).args(["get", "flashsales"]))?;
    Ok(verdict["verdict"] == "PASS")
}

fn kubectl(cluster: &Cluster) -> Command {
    let mut kubectl = cluster.kubectl();
    kubectl.args(["--namespace", NAMESPACE]);
    kubectl
}

/// An empty namespace: a sale of an earlier demo is sold out, and would stay so.
fn fresh_namespace(cluster: &Cluster, made: &mut Made) -> Result<()> {
    if has_earlier_namespace(cluster)? {
        cluster.delete_namespace(NAMESPACE)?;
    }
    output(cluster.kubectl().args(["create", "namespace", NAMESPACE]))?;
    made.namespace = true;
    output(cluster.kubectl().args(["label", "namespace", NAMESPACE, LABEL]))?;
    Ok(())
}

/// Whether an earlier demo left its namespace. One of somebody else is an error.
fn has_earlier_namespace(cluster: &Cluster) -> Result<bool> {
    if !cluster.has_namespace(NAMESPACE)? {
        return Ok(false);
    }
    let selected =
        output(cluster.kubectl().args(["get", "namespaces", "-o", "name", "-l", LABEL]))?;
    if !selected.lines().any(|name| name == format!("namespace/{NAMESPACE}")) {
        bail!(
            "the namespace {NAMESPACE} exists and is not the demo's (no label {LABEL}); remove it first"
        );
    }
    Ok(true)
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
            note(format_args!("    {:>3} s  {progress}", started.elapsed().as_secs()));
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
        show(kubectl(cluster).args(arguments));
    }
    bail!("{sale} is stalled, or not Ready after {READY_TIMEOUT:?}")
}

/// Shows on stderr what may say why the demo fails. If it cannot be shown, that is not why.
fn show(command: &mut Command) {
    if let Err(error) = shell::run(command.stdout(std::io::stderr())) {
        say(&format!("{error:#}"));
    }
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

/// The manifest of the load Job, with the image of this demo. For another time, the tool also gives it another time limit.
fn load_job(scenario: &Scenario, seconds: Option<f64>, images: &Images) -> Result<String> {
    let mut manifest = command(Build::Release.program("flashsale-load"));
    manifest.args(["manifest", &scenario.name]);
    if let Some(seconds) = seconds {
        manifest.args(["--seconds", &seconds.to_string()]);
    }
    Ok(output(&mut manifest)?.replace("localhost/flashsale-load:dev", &images.name("load")))
}

/// Runs the load Job, shows what it prints, does what the scenario says meanwhile, and gives the verdict on its last line.
fn follow_load(cluster: &Cluster, scenario: &Scenario, load: &str) -> Result<Value> {
    say(&format!("kubectl apply -n {NAMESPACE} -f {}", scenario.manifest()));
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), load)?;
    let applied = output(kubectl(cluster).args(["apply", "-o", "name", "-f"]).arg(file.path()))?;
    let job = applied.lines().find(|name| name.starts_with("job")).context("no Job was applied")?;
    let pod = await_start(cluster, job)?;

    let mut follow = kubectl(cluster);
    follow.args(["logs", "--follow", &pod]).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let mut child = follow.spawn().with_context(|| format!("cannot start {}", line(&follow)))?;
    let log = child.stdout.take().context("kubectl logs has no output")?;
    let read = read_log(BufReader::new(log), || {
        Meanwhile::start(&scenario.job.meanwhile, |line| {
            let mut shell = command("sh");
            shell.args(["-c", line]).env("KUBECONFIG", &cluster.kubeconfig);
            shell.env("NAMESPACE", NAMESPACE).env("SALE", SALE);
            shell
        })
    });
    if read.is_err() {
        // Nobody reads what it prints.
        let _ = child.kill();
    }
    let waited = child.wait();
    let verdict = read?;
    waited?;
    let Some(verdict) = verdict else {
        show(kubectl(cluster).args(["describe", job]));
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

/// Shows a log, and gives the verdict in it. What `start` starts with the first user has ended when this returns.
fn read_log(log: impl BufRead, start: impl Fn() -> Meanwhile) -> Result<Option<Value>> {
    let mut verdict = None;
    let mut meanwhile = None;
    let read = log.lines().try_for_each(|text| {
        let text = text?;
        match serde_json::from_str::<Value>(&text) {
            Ok(json) if json["verdict"].is_string() => verdict = Some(json),
            _ => print(&text),
        }
        interrupt::ensure_may_go_on()?;
        // The first line of progress: the users have started.
        if meanwhile.is_none() && text.contains(" users done") {
            meanwhile = Some(start());
        }
        anyhow::Ok(())
    });
    if let Some(meanwhile) = meanwhile {
        meanwhile.end();
    }
    read.context("cannot show the log of the load").map(|()| verdict)
}

/// Waits until the Job's pod has a log, and gives its name; of several pods, the one with the verdict.
fn await_start(cluster: &Cluster, job: &str) -> Result<String> {
    let started = Instant::now();
    let name = job.rsplit('/').next().unwrap_or(job);
    let selector = format!("job-name={name}");
    while started.elapsed() < START_TIMEOUT {
        let pods = output(kubectl(cluster).args(["get", "pods", "-l", &selector, "-o", "json"]))?;
        let pods = serde_json::from_str::<Value>(&pods)?;
        let first = |pod: &&Value| {
            let index = &pod["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"];
            index.is_null() || index == "0"
        };
        let pod = pods["items"].as_array().and_then(|pods| pods.iter().find(first));
        let phase = pod.and_then(|pod| pod["status"]["phase"].as_str());
        if let (Some(pod), Some(phase)) = (pod, phase)
            && phase != "Pending"
        {
            let name = pod["metadata"]["name"].as_str().context("a pod without a name")?;
            return Ok(format!("pod/{name}"));
        }
        std::thread::sleep(POLL);
    }
    show(kubectl(cluster).args(["describe", "pods", "-l", &selector]));
    bail!("{job} does not start")
}

/// Removes what the demo made; what was there before stays.
fn clean_up(cluster: &Cluster, made: &mut Made) -> Result<()> {
    let delete = || cluster.delete_namespace(NAMESPACE);
    let is_to_go = cluster.was_running && made.namespace;
    let deleted = if is_to_go { interrupt::clean_up(delete) } else { Ok(()) };
    cleanup::all([deleted, install::end(cluster, &mut made.operator)])
}

fn explain(cluster: &Cluster) {
    let all = if cluster.is_ours() { "\n  cargo xtask cluster down" } else { "" };
    let kubectl = "kubectl -n shop";
    note(format_args!(
        "
The cluster stays up. To look at it:
  export KUBECONFIG={kubeconfig} PATH=$PATH:{bin}
  {kubectl} get fsale,pods
  {kubectl} exec black-friday-redis-0 -- redis-cli GET stock:1
Swagger UI, then http://127.0.0.1:8080/docs:
  {kubectl} port-forward svc/black-friday 8080
Metrics, then http://127.0.0.1:9090/metrics:
  {kubectl} port-forward svc/black-friday 9090
To remove it:{all}
  only the sale: kubectl delete namespace {NAMESPACE}
  only the operator, after all sales: helm uninstall {release} -n {operator}",
        release = install::RELEASE,
        operator = install::NAMESPACE,
        kubeconfig = cluster.kubeconfig.display(),
        bin = shell::binaries_folder().display(),
    ));
}

#[cfg(test)]
mod tests;
