//! Measures the operator with hundreds of sales on a real API server and etcd. No controller and no kubelet of
//! Kubernetes runs: `controllers` writes the statuses that they would write, and `app` answers as the replicas would.
//!
//! Run it by `cargo xtask bench operator`.

mod app;
mod audit;
mod changes;
mod cloudnative_pg;
mod cluster;
mod controllers;
mod figures;
mod idle;
mod process;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Parser;

use changes::Changes;
use cluster::Cluster;
use figures::Figures;
use process::Operator;

/// Measures the operator with a fleet of sales: requests of idle sales, latency of a change, memory.
#[derive(Parser)]
#[command(name = "cargo xtask bench operator", bin_name = "cargo xtask bench operator")]
struct Options {
    /// Number of sales.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=10000))]
    sales: u32,
    /// How long the idle fleet is observed, in seconds.
    #[arg(long, default_value_t = 300)]
    idle: u64,
    /// Number of changes of a sale.
    #[arg(long, default_value_t = 500)]
    changes: u32,
    /// CloudNativePG's manager, measured with as many Clusters; `cargo xtask` builds it.
    #[arg(long, env = "CNPG_MANAGER", hide = true)]
    cnpg: Option<PathBuf>,
    /// The folder of its resource definitions.
    #[arg(long, env = "CNPG_CRDS", hide = true, requires = "cnpg")]
    cnpg_crds: Option<PathBuf>,
    /// Writes the table into docs/PERFORMANCE.md.
    #[arg(long)]
    write_docs: bool,
    /// The operator's program.
    #[arg(
        long,
        env = "FLASHSALE_OPERATOR",
        default_value = "target/release/flashsale-operator",
        hide = true
    )]
    operator: PathBuf,
    /// The folder of kube-apiserver and helm.
    #[arg(
        long,
        env = "FLASHSALE_CLUSTER_BIN",
        default_value = "/var/tmp/flashsale-cluster/bin",
        hide = true
    )]
    bin: PathBuf,
}

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    match measure(&options).await {
        Ok(0) => ExitCode::SUCCESS,
        Ok(missed) => {
            println!("\n{missed} of the targets missed");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn measure(options: &Options) -> Result<usize> {
    let mut figures = Figures::new(options.sales);
    let ours = of_the_operator(options, &mut figures).await?;
    if let (Some(manager), Some(crds)) = (&options.cnpg, &options.cnpg_crds) {
        say("CloudNativePG's manager");
        let theirs = cloudnative_pg::memory_of(&options.bin, manager, crds, options.sales).await;
        let theirs = theirs.context("CloudNativePG's manager")?;
        figures.figure("cloudnativepg_memory", theirs, "MiB");
        figures.judged("memory_at_rest / cloudnativepg_memory", ours / theirs, "", 0.5);
    }
    let table = figures.table();
    print!("{table}");
    if options.write_docs {
        figures::write_docs(&table)?;
    }
    Ok(figures.missed())
}

/// Returns the memory at rest in MiB.
async fn of_the_operator(options: &Options, figures: &mut Figures) -> Result<f64> {
    say("starting an API server");
    let cluster = Cluster::start(&options.bin, &options.operator).await?;
    let names = cluster::names(options.sales);
    let changes = Arc::new(Changes::default());
    app::start().await?;
    let controllers = controllers::start(cluster.admin()?, changes.clone());
    let operator = Operator::start(&options.operator, &cluster, &names)?;

    say(&format!("{} sales", options.sales));
    let begin = Instant::now();
    cluster.create_sales(&names).await?;
    cluster.wait_until_ready(options.sales, &operator).await?;
    figures.figure("all_ready_after", begin.elapsed().as_secs_f64(), "s");
    let expected = f64::from(options.sales) * cluster::CHILDREN;
    let children = cluster.children().await?;
    figures.least("children / declared", f64::from(children) / expected, 1.0);

    say("waiting until the operator rests");
    let mut log = cluster.audit();
    log.wait_for_rest(Duration::from_secs(20), Duration::from_mins(10)).await?;
    say(&format!("idle for {} s", options.idle));
    idle::measure(options, &cluster, &mut log, &names, figures).await?;
    let at_rest = operator.memory("VmRSS")?;
    figures.judged("memory_at_rest", at_rest, "MiB", 60.0);

    say(&format!("{} changes of app.replicas", options.changes));
    let latencies = changes::measure(&cluster, &changes, &names, options.changes).await?;
    figures.figure("change_p50", latencies.percentile(50), "ms");
    figures.judged("change_p99", latencies.percentile(99), "ms", 1000.0);
    figures.figure("memory_after_changes", operator.memory("VmRSS")?, "MiB");
    figures.figure("memory_peak", operator.memory("VmHWM")?, "MiB");
    controllers.check()?;
    Ok(at_rest)
}

fn say(what: &str) {
    eprintln!("==> {what}");
}
