//! `report`: the report of the last load run, from its Job's log.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use futures::{AsyncBufReadExt, TryStreamExt};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, LogParams};
use kube::{Api, ResourceExt};
use load_report::ReportLog;
use serde_json::Value;

use crate::cluster::{Cluster, Explained};
use crate::jobs::build::{COMMAND, CONTAINER, LOAD};
use crate::jobs::{Ended, pod_of, verdict};
use crate::partial::to_file;
use crate::{sales, terminal};

/// Lines of a report that are kept in memory.
const MAX_LINES: usize = 10_000;

/// The flags of `report`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Exit status: 0 PASS, 1 FAIL, 2 no verdict (yet).

Examples:
  kubectl flashsale report -n shop black-friday
  kubectl flashsale report -n shop black-friday --html report.html
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
    /// Also write the report with its plots as one HTML file
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
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
    let Log { lines, report, page } = read(cluster, &pod.name_any()).await?;
    terminal::note(format_args!("the report of the Job {job}:"));
    for line in &lines {
        terminal::result(line)?;
    }
    let Some(report) = report else {
        bail!("the Job {job} has no verdict: it still runs, or it failed before its end");
    };
    if let Some(file) = &options.json {
        write(file, &format!("{report}\n")).await?;
    }
    if let Some(file) = &options.html {
        let report = page.report().with_context(|| format!("the log of the Job {job}"))?;
        write(file, &load_report::page(&report)?).await?;
    }
    Ok(if report["verdict"] == "PASS" { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn write(file: &Path, content: &str) -> Result<()> {
    let written = to_file(file, async |out| {
        out.write_all(content.as_bytes())?;
        Ok(())
    });
    written.await.with_context(|| format!("cannot write {}", file.display()))?;
    terminal::note(format_args!("wrote {}", file.display()));
    Ok(())
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

/// The log of a load run.
#[derive(Default)]
struct Log {
    /// All but the report for tools.
    lines: Vec<String>,
    /// The report for tools, as it was written.
    report: Option<Value>,
    /// The same, for the page.
    page: ReportLog,
}

async fn read(cluster: &Cluster, pod: &str) -> Result<Log> {
    let pods: Api<Pod> = cluster.api();
    let params = LogParams { container: Some(CONTAINER.to_owned()), ..LogParams::default() };
    let stream = pods.log_stream(pod, &params).await.explained(cluster)?;
    let mut lines = Box::pin(stream).lines();
    let mut log = Log::default();
    while let Some(line) = lines.try_next().await.context("the log is interrupted")? {
        match verdict(&line) {
            Some(found) => {
                log.page.line(line.as_bytes());
                log.report = Some(found);
            }
            None if log.lines.len() < MAX_LINES => log.lines.push(line),
            None => {}
        }
    }
    Ok(log)
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[tokio::test]
    async fn a_report_of_before_is_replaced_by_a_whole_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.json");
        std::fs::write(&path, "before").unwrap();
        let before = File::open(&path).unwrap();
        write(&path, "after").await.unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "after");
        assert_eq!(std::io::read_to_string(before).unwrap(), "before", "nobody wrote into it");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
