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
mod names;
mod options;
mod process;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Parser;

use changes::Changes;
use cluster::Cluster;
use figures::Figures;
use options::Options;
use process::Operator;

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    // `cargo xtask bench` has built nothing but this program so far; the status asks for the rest.
    if std::env::var_os("FLASHSALE_BENCH_UNPREPARED").is_some() {
        return ExitCode::from(75);
    }
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
    let mut theirs = Ok(());
    if let (Some(manager), Some(crds)) = (&options.cnpg, &options.cnpg_crds) {
        say("CloudNativePG's manager");
        let memory = cloudnative_pg::memory_of(&options.bin, manager, crds, options.clusters).await;
        theirs = memory.context("CloudNativePG's manager").map(|memory| {
            figures.figure("cloudnativepg_clusters", f64::from(options.clusters), "");
            figures.figure("cloudnativepg_memory", memory, "MiB");
            figures.judged("memory_at_rest / cloudnativepg_memory", ours / memory, "", 0.5);
        });
    }
    // Before the error of the second part: the first one took a quarter of an hour.
    let table = figures.table();
    print!("{table}");
    if options.write_docs {
        figures::write_docs(&table)?;
    }
    theirs?;
    Ok(figures.missed())
}

/// Returns the memory at rest in MiB.
async fn of_the_operator(options: &Options, figures: &mut Figures) -> Result<f64> {
    say("starting an API server");
    let cluster = Cluster::start(&options.bin, &options.operator).await?;
    let names = names::of(options.sales);
    let changes = Arc::new(Changes::default());
    app::start().await?;
    let controllers = controllers::start(cluster.admin()?, changes.clone());
    let operator = Operator::start(&options.operator, &cluster.kubeconfig(), &names)?;

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
