//! Follows the logs of pods, also of those that appear later, and of containers that restart.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::Result;
use futures::{AsyncBufReadExt, TryStreamExt};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::api::LogParams;
use kube::{Api, ResourceExt};
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::merge::Line;
use super::select::{Options, Selection, parameters, pods_beside};
use crate::cluster::{Cluster, Explained as _, is_refused};
use crate::ticks::ticks;

/// How soon a new pod is found, and a log that ended is continued.
const POLL: Duration = Duration::from_secs(1);
/// Lines on their way to the terminal; a slow one slows the streams down.
const QUEUE: usize = 256;

/// Follows.
pub struct Follower<'a> {
    cluster: &'a Cluster,
    selection: Selection,
    params: LogParams,
    known: HashSet<String>,
}

impl<'a> Follower<'a> {
    /// The pods of a selection.
    pub fn new(cluster: &'a Cluster, selection: Selection, options: &Options) -> Self {
        let params = LogParams { follow: true, ..parameters(selection.container, options) };
        Self { cluster, selection, params, known: HashSet::new() }
    }

    /// Gives each line to `line`, until that fails, the pods cannot be listed, or a log may not be read.
    pub async fn run(mut self, line: impl Fn(Line) -> Result<()>) -> Result<()> {
        let (sender, mut lines) = mpsc::channel::<kube::Result<Line>>(QUEUE);
        let mut ticks = ticks(POLL);
        loop {
            tokio::select! {
                next = lines.recv() => match next {
                    Some(next) => line(next.explained(self.cluster)?)?,
                    None => return Ok(()),
                },
                _ = ticks.tick() => self.find(&sender).await?,
            }
        }
    }

    /// Starts to follow new pods.
    async fn find(&mut self, sender: &mpsc::Sender<kube::Result<Line>>) -> Result<()> {
        for pod in self.selection.list(self.cluster).await? {
            if self.known.insert(pod.uid().unwrap_or_default()) {
                let pods = pods_beside(self.cluster, &pod);
                tokio::spawn(follow(pods, pod.name_any(), self.params.clone(), sender.clone()));
            }
        }
        Ok(())
    }
}

/// Follows one pod until it is gone or has ended.
async fn follow(
    pods: Api<Pod>,
    name: String,
    mut params: LogParams,
    sender: mpsc::Sender<kube::Result<Line>>,
) {
    let mut last: Option<Timestamp> = None;
    loop {
        match pods.log_stream(&name, &params).await {
            Ok(stream) => {
                let mut lines = Box::pin(stream).lines();
                while let Ok(Some(text)) = lines.try_next().await {
                    let line = Line::read(&name, &text);
                    // After a break, the kubelet begins with whole seconds.
                    if line.at.is_some() && line.at <= last {
                        continue;
                    }
                    last = line.at.or(last);
                    if sender.send(Ok(line)).await.is_err() {
                        return;
                    }
                }
            }
            Err(error) if is_refused(&error) => {
                // Without a receiver, the command has ended.
                let _ = sender.send(Err(error)).await;
                return;
            }
            // The container has not started, or the API server is away for a moment.
            Err(_) => {}
        }
        if let Some(last) = last {
            params = LogParams {
                // The client would round to the nearest second, and skip lines.
                since_time: Timestamp::from_second(last.as_second()).ok(),
                since_seconds: None,
                tail_lines: None,
                ..params
            };
        }
        match pods.get_opt(&name).await {
            Ok(None) => return,
            Ok(Some(pod)) if has_ended(&pod) => return,
            // An error: the API server may be away for a moment.
            Ok(Some(_)) | Err(_) => sleep(POLL).await,
        }
    }
}

fn has_ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}
