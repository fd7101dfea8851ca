//! `logs`: the logs of all replicas of a part, merged by time.

mod follow;
mod merge;
mod select;

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use futures::{AsyncBufReadExt, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt};

use self::follow::Follower;
use self::merge::{Line, Merged};
use self::select::{Component, Selection, parameters, pods_beside};
pub use self::select::{OPERATOR, Options};
use crate::cluster::Cluster;
use crate::{sales, terminal};

/// Runs the command.
pub async fn run(cluster: &Cluster, options: &Options) -> Result<ExitCode> {
    let component = options.component;
    let pods: Api<Pod> = match (component, &options.operator_namespace) {
        (Component::Operator, None) => cluster.all(),
        (Component::Operator, Some(namespace)) => {
            Api::namespaced(cluster.client.clone(), namespace)
        }
        _ => cluster.api(),
    };
    let labels = component.selector(&options.name);
    let selection = Selection { pods, labels, container: component.container() };
    let found = selection.list(cluster).await?;
    if found.is_empty() && !options.follow {
        // Without the sale, its absence is what should be said.
        sales::find(cluster, &options.name).await?;
        bail!("there is no pod with {}", selection.labels);
    }
    if options.follow {
        sales::find(cluster, &options.name).await?;
        let follower = Follower::new(cluster, selection, options);
        follower.run(|line| print(&line, options.timestamps)).await?;
        return Ok(ExitCode::SUCCESS);
    }
    merged(cluster, &selection, &found, options).await?;
    Ok(ExitCode::SUCCESS)
}

/// Prints the lines of all pods by time. One line of each pod is in memory.
async fn merged(
    cluster: &Cluster,
    selection: &Selection,
    pods: &[Pod],
    options: &Options,
) -> Result<()> {
    let mut streams = Vec::new();
    for pod in pods {
        let name = pod.name_any();
        let params = parameters(selection.container, options);
        let stream = match pods_beside(cluster, pod).log_stream(&name, &params).await {
            Ok(stream) => stream,
            // A pod that has not started, or never restarted, has no such log.
            Err(kube::Error::Api(status)) if [400, 404].contains(&status.code) => {
                terminal::note(format_args!("{name}: {}", status.message));
                continue;
            }
            Err(error) => return Err(cluster.explain(error)),
        };
        let lines = Box::pin(stream).lines();
        streams.push(lines.map_ok(move |text| Line::read(&name, &text)));
    }
    let mut merged = Merged::of(streams).await.context("a log is interrupted")?;
    while let Some(line) = merged.next().await.context("a log is interrupted")? {
        print(&line, options.timestamps)?;
    }
    Ok(())
}

fn print(line: &Line, timestamps: bool) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let time = line.at.filter(|_| timestamps).map(|at| format!("{at} ")).unwrap_or_default();
    writeln!(out, "[{}] {time}{}", line.pod, line.text).context("cannot write the log")
}
