//! Writes the statuses that the controllers and kubelets of Kubernetes would write: everything runs at once.

use std::fmt::Debug;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use futures::TryStreamExt;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use kube::api::{Patch, PatchParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::changes::Changes;

/// Statuses that are written at the same time.
const AT_ONCE: usize = 8;

/// The running controllers.
pub struct Controllers(Vec<JoinHandle<Result<()>>>);

impl Controllers {
    /// Whether all of them still run.
    pub fn check(&self) -> Result<()> {
        if self.0.iter().any(JoinHandle::is_finished) {
            bail!("a controller of the bench has ended");
        }
        Ok(())
    }
}

/// Starts them.
pub fn start(client: Client, changes: Arc<Changes>) -> Controllers {
    let of_app = move |app: &Deployment| {
        let replicas = app.spec.as_ref()?.replicas.unwrap_or(1);
        changes.saw(&app.namespace().unwrap_or_default(), &app.name_any(), replicas);
        let generation = app.metadata.generation;
        let seen = app.status.as_ref().and_then(|status| status.observed_generation);
        (seen < generation).then(|| {
            json!({
                "observedGeneration": generation, "replicas": replicas, "updatedReplicas": replicas,
                "readyReplicas": replicas, "availableReplicas": replicas,
            })
        })
    };
    let of_set = |set: &StatefulSet| {
        let replicas = set.spec.as_ref()?.replicas.unwrap_or(1);
        let generation = set.metadata.generation;
        let seen = set.status.as_ref().and_then(|status| status.observed_generation);
        (seen < generation).then(|| {
            json!({
                "observedGeneration": generation, "replicas": replicas, "updatedReplicas": replicas,
                "readyReplicas": replicas,
            })
        })
    };
    let of_job = |job: &Job| {
        let done = job.status.as_ref().is_some_and(|status| status.completion_time.is_some());
        (!done).then(completed)
    };
    Controllers(vec![
        tokio::spawn(run(client.clone(), of_app)),
        tokio::spawn(run(client.clone(), of_set)),
        tokio::spawn(run(client, of_job)),
    ])
}

fn completed() -> Value {
    let condition = |type_| json!({ "type": type_, "status": "True", "lastTransitionTime": "2026-11-21T00:00:00Z" });
    json!({
        "startTime": "2026-11-21T00:00:00Z", "completionTime": "2026-11-21T00:00:01Z", "succeeded": 1,
        "uncountedTerminatedPods": {},
        "conditions": [condition("SuccessCriteriaMet"), condition("Complete")],
    })
}

/// Writes the status of each object for which there is a new one.
async fn run<K>(client: Client, status: impl Fn(&K) -> Option<Value>) -> Result<()>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + Debug
        + Send
        + DeserializeOwned
        + 'static,
{
    let objects: Api<K> = Api::all(client.clone());
    let config =
        watcher::Config::default().labels("app.kubernetes.io/managed-by=flashsale-operator");
    let touched = watcher(objects, config).default_backoff().applied_objects();
    touched
        .map_err(anyhow::Error::from)
        .try_for_each_concurrent(AT_ONCE, |object| {
            let (client, status) = (client.clone(), status(&object));
            async move {
                let Some(status) = status else { return Ok(()) };
                let api: Api<K> = Api::namespaced(client, &object.namespace().unwrap_or_default());
                let name = object.name_any();
                let patch = Patch::Merge(json!({ "status": status }));
                let written = api.patch_status(&name, &PatchParams::default(), &patch).await;
                written.map(drop).with_context(|| format!("status of {} {name}", K::kind(&())))
            }
        })
        .await
}
