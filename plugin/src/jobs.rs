//! Jobs of the load tool in the namespace of a sale: made, followed to their end, and removed.

pub mod build;
mod failure;
mod policy;

use std::time::Duration;

use anyhow::{Result, bail};
use flashsale_operator::crd::FlashSale;
use futures::{AsyncBufReadExt, TryStreamExt};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Event, Pod, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{DeleteParams, ListParams, LogParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use self::build::{CONTAINER, JOB_NAME, Tool};
use crate::cluster::{Cluster, Explained};
use crate::interrupts::Interrupts;
use crate::terminal::note;

/// Label of a pod, by Kubernetes: its number in a Job of several pods.
const INDEX: &str = "batch.kubernetes.io/job-completion-index";
const POLL: Duration = Duration::from_millis(500);
/// How long a Job may take to have a running pod.
const START: Duration = Duration::from_mins(2);
/// How long a Job without a pod may be silent, before its events are read.
const NO_POD: Duration = Duration::from_secs(10);

/// A Job that was created.
pub struct Started<'a> {
    cluster: &'a Cluster,
    /// Its name.
    pub job: String,
    /// Whether its pods find each other by a Service of its name.
    has_service: bool,
    /// Since before the Job was created.
    interrupts: Interrupts,
}

/// How the tool ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Ended {
    /// The exit status of the tool; absent: it was ended by something else.
    pub code: Option<i32>,
    /// What ended it, if it has no exit status of its own.
    pub reason: String,
    /// The report: the last line that is an object with a verdict.
    pub report: Option<Value>,
}

impl<'a> Started<'a> {
    /// Creates the Job, lets its pods reach the stores if the sale's policies do not, and each other if there are several.
    /// A signal ends it before the Job is created, or is kept for later.
    pub async fn create(
        cluster: &'a Cluster,
        sale: &FlashSale,
        tool: &Tool<'_>,
        interrupts: Interrupts,
    ) -> Result<Self> {
        let name = sale.name_any();
        let deployments: Api<Deployment> = cluster.api();
        let found = async { deployments.get_opt(&name).await.explained(cluster) };
        let Some(deployment) = interrupts.or(Box::pin(found)).await? else {
            bail!(
                "the sale {name} has no Deployment yet, so its settings are not known: kubectl flashsale status {name} \
                 says what it waits for"
            );
        };
        let job = build::job(sale, &deployment, tool)?;
        let jobs: Api<Job> = cluster.api();
        let made = jobs.create(&PostParams::default(), &job).await.explained(cluster)?;
        let service = build::service(&made);
        let (job, has_service) = (made.name_any(), service.is_some());
        let started = Self { cluster, job, has_service, interrupts };
        if let Some(service) = service {
            let services: Api<Service> = cluster.api();
            if let Err(error) = services.create(&PostParams::default(), &service).await {
                let error = cluster.explain(error).context("several pods need a Service");
                return Err(started.remove_after(error).await);
            }
        }
        if let Some(policy) = policy::opening(sale, &made, tool.signs_tokens) {
            let policies: Api<NetworkPolicy> = cluster.api();
            if let Err(error) = policies.create(&PostParams::default(), &policy).await {
                let error = cluster.explain(error).context(policy::REMEDY);
                return Err(started.remove_after(error).await);
            }
        }
        Ok(started)
    }

    /// Waits until the pod runs, or has run; of several, the one with the verdict.
    pub async fn pod(&self) -> Result<String> {
        let started = Instant::now();
        let mut said = String::new();
        loop {
            let pod = pod_of(self.cluster, &self.job).await?;
            let waiting = match &pod {
                Some(pod) => match failure::waiting(pod) {
                    None => return Ok(pod.name_any()),
                    Some(waiting) => waiting,
                },
                None => failure::Waiting::new(self.without_pod(started).await?),
            };
            if waiting.is_final || started.elapsed() >= START {
                bail!("the Job {} does not start: {}", self.job, waiting.message);
            }
            if waiting.message != said && started.elapsed() > NO_POD {
                note(format_args!("waiting: {}", waiting.message));
                said = waiting.message;
            }
            sleep(POLL).await;
        }
    }

    /// What keeps the Job from having a pod.
    async fn without_pod(&self, started: Instant) -> Result<String> {
        let nothing = || "it has no pod yet".to_owned();
        if started.elapsed() < NO_POD {
            return Ok(nothing());
        }
        let events: Api<Event> = self.cluster.api();
        let of_job = format!("involvedObject.kind=Job,involvedObject.name={}", self.job);
        let found = events.list(&ListParams::default().fields(&of_job)).await;
        // A user without the right to read events waits until the time is over.
        let messages = found.map(|found| found.items).unwrap_or_default();
        let warning = messages.into_iter().rfind(|it| it.type_.as_deref() == Some("Warning"));
        Ok(warning.and_then(|event| event.message).unwrap_or_else(nothing))
    }

    /// Gives each line of the pod's log to `line`, except the report, until the tool has ended.
    /// An error of `line` ends it.
    pub async fn follow(
        &self,
        pod: &str,
        mut line: impl FnMut(&str) -> Result<()>,
    ) -> Result<Ended> {
        let pods: Api<Pod> = self.cluster.api();
        let mut read = 0_usize;
        let mut report = None;
        loop {
            let params = LogParams {
                follow: true,
                container: Some(CONTAINER.to_owned()),
                ..LogParams::default()
            };
            let stream = pods.log_stream(pod, &params).await.explained(self.cluster)?;
            let mut lines = Box::pin(stream).lines();
            let mut number = 0;
            // A stream that breaks is read again, without the lines that were there.
            while let Ok(Some(text)) = lines.try_next().await {
                number += 1;
                if number <= read {
                    continue;
                }
                read = number;
                match verdict(&text) {
                    Some(found) => report = Some(found),
                    None => line(&text)?,
                }
            }
            let found = pods.get_opt(pod).await.explained(self.cluster)?;
            let Some(found) = found else { bail!("the pod {pod} was deleted") };
            if let Some((code, reason)) = failure::ended(&found) {
                if report.is_none() {
                    // A stream may end in the middle of the last line.
                    report = last_report(self.cluster, pod).await?;
                }
                return Ok(Ended { code, reason, report });
            }
            sleep(POLL).await;
        }
    }

    /// Deletes the policy and the Service of a Job that has ended. They belong to the Job, so nothing is lost if this fails.
    pub async fn close(&self) {
        let policies: Api<NetworkPolicy> = self.cluster.api();
        let _ = policies.delete(&self.job, &DeleteParams::default()).await;
        if self.has_service {
            let services: Api<Service> = self.cluster.api();
            let _ = services.delete(&self.job, &DeleteParams::default()).await;
        }
    }

    /// Deletes the Job with its pods and its policy.
    pub async fn remove(&self) -> Result<()> {
        self.close().await;
        let jobs: Api<Job> = self.cluster.api();
        match jobs.delete(&self.job, &DeleteParams::background()).await {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            deleted => deleted.map(drop).explained(self.cluster),
        }
    }

    /// Removes the Job, and gives the error of before.
    pub async fn remove_after(&self, error: anyhow::Error) -> anyhow::Error {
        match self.remove().await {
            Ok(()) => error,
            Err(removal) => error.context(format!(
                "the Job {} could not be removed ({removal:#}): kubectl delete job -n {} {0}",
                self.job, self.cluster.namespace
            )),
        }
    }

    /// Ends with Ctrl-C or SIGTERM.
    pub async fn interrupted(&self) {
        self.interrupts.recv().await;
    }

    /// Does work with the Job, and removes it whatever comes of it, also after Ctrl-C.
    pub async fn finally_removed<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let result = tokio::select! {
            result = work => result,
            () = self.interrupted() => Err(anyhow::anyhow!("interrupted")),
        };
        match result {
            Ok(result) => self.remove().await.map(|()| result),
            Err(error) => Err(self.remove_after(error).await),
        }
    }
}

/// The newest pod of a Job; of several that share the work, the one with the verdict.
pub async fn pod_of(cluster: &Cluster, job: &str) -> Result<Option<Pod>> {
    let pods: Api<Pod> = cluster.api();
    let of_job = ListParams::default().labels(&format!("{JOB_NAME}={job}"));
    let found = pods.list(&of_job).await.explained(cluster)?.items;
    let first = |pod: &Pod| pod.labels().get(INDEX).is_none_or(|index| index == "0");
    let newest = found.into_iter().filter(first);
    Ok(newest.max_by_key(|pod| pod.creation_timestamp().map(|at| at.0)))
}

/// The report at the end of a pod's log.
async fn last_report(cluster: &Cluster, pod: &str) -> Result<Option<Value>> {
    let pods: Api<Pod> = cluster.api();
    let params = LogParams {
        container: Some(CONTAINER.to_owned()),
        tail_lines: Some(1),
        ..LogParams::default()
    };
    let text = pods.logs(pod, &params).await.explained(cluster)?;
    Ok(verdict(text.trim_end()))
}

/// The report of a load tool, if this line is one.
pub fn verdict(line: &str) -> Option<Value> {
    let value: Value = line.starts_with('{').then(|| serde_json::from_str(line).ok())??;
    value["verdict"].is_string().then_some(value)
}

#[cfg(test)]
#[path = "jobs/tests.rs"]
mod tests;
