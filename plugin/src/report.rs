//! `report`: the report of the last load run, from its Job's log.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use futures::{AsyncBufReadExt, TryStreamExt};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, LogParams};
use kube::{Api, ResourceExt};
use serde_json::Value;

use crate::cluster::{Cluster, Explained};
use crate::jobs::build::{COMMAND, CONTAINER, LOAD};
use crate::jobs::{Ended, pod_of, verdict};
use crate::sales;

/// Lines of a report that are kept in memory.
const MAX_LINES: usize = 10_000;

/// The flags of `report`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Exit status: 0 PASS, 1 FAIL, 2 no verdict (yet).

Examples:
  kubectl flashsale report -n shop black-friday
  kubectl flashsale report -n shop black-friday --job load-v3-redlock --json report.json")]
pub struct Options {
    /// The sale
    name: String,
    /// The Job (default: the newest load Job of the sale)
    #[arg(long)]
    job: Option<String>,
    /// Also write the report for tools, one JSON object, to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Runs the command.
pub async fn run(cluster: &Cluster, options: &Options) -> Result<ExitCode> {
    let job = match &options.job {
        Some(job) => job.clone(),
        None => newest(cluster, &options.name).await?,
    };
    let Some(pod) = pod_of(cluster, &job).await? else {
        bail!("the Job {job} has no pod any more, so its report is gone");
    };
    let (lines, report) = read(cluster, &pod.name_any()).await?;
    eprintln!("the report of the Job {job}:");
    for line in &lines {
        println!("{line}");
    }
    let Some(report) = report else {
        bail!("the Job {job} has no verdict: it still runs, or it failed before its end");
    };
    if let Some(file) = &options.json {
        std::fs::write(file, format!("{report}\n"))
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(if report["verdict"] == "PASS" { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The exit status of a load run: that of its tool, if there is a report.
pub fn exit_code(ended: &Ended) -> Result<ExitCode> {
    match (&ended.report, ended.code) {
        (Some(_), Some(0)) => Ok(ExitCode::SUCCESS),
        (Some(_), _) => Ok(ExitCode::FAILURE),
        (None, _) => bail!("the run ended without a verdict ({})", ended.reason),
    }
}

/// The newest load Job of a sale, made by this plugin or by a manifest.
async fn newest(cluster: &Cluster, sale: &str) -> Result<String> {
    let jobs: Api<Job> = cluster.api();
    let selector = format!(
        "app.kubernetes.io/instance={sale},app.kubernetes.io/component={LOAD},{COMMAND} notin (verify,orders)"
    );
    let found = jobs.list(&ListParams::default().labels(&selector)).await.explained(cluster)?.items;
    let newest = found.into_iter().max_by_key(|job| job.creation_timestamp().map(|at| at.0));
    if let Some(job) = newest {
        return Ok(job.name_any());
    }
    // Without the sale, its absence is what should be said.
    sales::find(cluster, sale).await?;
    bail!(
        "no load run of the sale {sale} is left: kubectl flashsale load {sale} --scenario v3-redlock makes one"
    )
}

/// The lines of the report, and the object at its end.
async fn read(cluster: &Cluster, pod: &str) -> Result<(Vec<String>, Option<Value>)> {
    let pods: Api<Pod> = cluster.api();
    let params = LogParams { container: Some(CONTAINER.to_owned()), ..LogParams::default() };
    let stream = pods.log_stream(pod, &params).await.explained(cluster)?;
    let mut lines = Box::pin(stream).lines();
    let (mut text, mut report) = (Vec::new(), None);
    while let Some(line) = lines.try_next().await.context("the log is interrupted")? {
        match verdict(&line) {
            Some(found) => report = Some(found),
            None if text.len() < MAX_LINES => text.push(line),
            None => {}
        }
    }
    Ok((text, report))
}
