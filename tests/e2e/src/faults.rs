//! What a cluster does to a sale: pods and volumes that go, an operator that dies, an API server that is away.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Client, ResourceExt};
use serde_json::json;
use tokio::process::Command;

use crate::operator::{LABELS, NAMESPACE};
use crate::shop::{NOT_ENDED, READY, SALE, SOON, Shop};
use crate::wait::{condition, within};

const OPERATOR: &str = "flashsale-operator";
const LEASE: &str = "flashsale-operator-leader";

/// Answers of a sale that lost its quorum or its database for a while.
pub const TEMPORARY: &[&str] = &[
    "connection_lost",
    "database_unavailable",
    "lock_timeout",
    "no_answer",
    "overloaded",
    "quorum_unavailable",
];

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    let mut conditions = conditions.into_iter().flatten();
    pod.metadata.deletion_timestamp.is_none()
        && conditions.any(|it| it.type_ == "Ready" && it.status == "True")
}

impl Shop {
    /// Uid of each pod of a component that has not ended, by name.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub async fn uids(&self, component: &str) -> Result<BTreeMap<String, String>> {
        let labels =
            format!("app.kubernetes.io/instance={SALE},app.kubernetes.io/component={component}");
        let live = ListParams::default().labels(&labels).fields(NOT_ENDED);
        let pods = self.api::<Pod>().list(&live).await?;
        let uid = |pod: &Pod| Some((pod.name_any(), pod.uid()?));
        Ok(pods.iter().filter_map(uid).collect())
    }

    /// Uid and number of restarts of each pod of the sale that has not ended.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub async fn operands(&self) -> Result<BTreeMap<String, (String, i32)>> {
        let labels = format!("app.kubernetes.io/instance={SALE}");
        let live = ListParams::default().labels(&labels).fields(NOT_ENDED);
        let pods = self.api::<Pod>().list(&live).await?;
        let running = pods.iter().filter(|pod| {
            let component = pod.labels().get("app.kubernetes.io/component").map(String::as_str);
            matches!(component, Some("app" | "redis" | "database"))
        });
        let seen = running.map(|pod| {
            let statuses = pod.status.as_ref().and_then(|it| it.container_statuses.as_ref());
            let restarts = statuses.into_iter().flatten().map(|it| it.restart_count).sum();
            (pod.name_any(), (pod.uid().unwrap_or_default(), restarts))
        });
        Ok(seen.collect())
    }

    /// Deletes a pod of a `StatefulSet`, and waits until another one has its place. With notice: a database that is killed
    /// by force could still write while the next one starts.
    ///
    /// # Errors
    /// When there is no such pod, or no other one takes its place.
    pub async fn delete_and_await(&self, pod: &str) -> Result<()> {
        let before = self.api::<Pod>().get(pod).await?.uid();
        self.api::<Pod>().delete(pod, &DeleteParams::default()).await?;
        self.await_replaced(pod, before).await
    }

    /// Waits until a pod of this name has another uid and is ready.
    async fn await_replaced(&self, pod: &str, before: Option<String>) -> Result<()> {
        let replaced =
            |pod: Option<&Pod>| pod.is_some_and(|pod| pod.uid() != before && is_ready(pod));
        let what = format!("another {pod} to be ready");
        within(READY, &what, condition(self.api::<Pod>(), pod, replaced)).await
    }

    /// Deletes a pod of a `StatefulSet` together with its volume.
    ///
    /// # Errors
    /// When there is no such pod, or it does not come back with another volume.
    pub async fn lose_volume(&self, pod: &str) -> Result<()> {
        let claim = format!("data-{pod}");
        let claims = self.api::<PersistentVolumeClaim>();
        let before = claims.get(&claim).await?.uid();
        let uid = self.api::<Pod>().get(pod).await?.uid();
        // Held back until no pod uses it.
        claims.delete(&claim, &DeleteParams::default()).await?;
        self.kill(pod).await?;
        let another = |claim: Option<&PersistentVolumeClaim>| {
            claim.is_some_and(|claim| claim.uid() != before)
        };
        let what = format!("another claim {claim}");
        within(READY, &what, condition(claims.clone(), &claim, another)).await?;
        self.await_replaced(pod, uid).await
    }

    /// Waits until the sale's app has only other pods than before, all of them ready.
    ///
    /// # Errors
    /// When that takes longer than a roll-out.
    pub async fn await_other_replicas(
        &self,
        before: &BTreeMap<String, String>,
        replicas: usize,
    ) -> Result<()> {
        within(READY, "other replicas to be ready", async {
            loop {
                let labels =
                    format!("app.kubernetes.io/instance={SALE},app.kubernetes.io/component=app");
                let pods = self.api::<Pod>().list(&ListParams::default().labels(&labels)).await?;
                let new = pods.iter().filter(|pod| !before.contains_key(&pod.name_any()));
                if new.filter(|pod| is_ready(pod)).count() >= replicas {
                    return Ok(());
                }
            }
        })
        .await
    }
}

/// The operator's pods that are not about to end.
///
/// # Errors
/// When the API server does not answer.
pub async fn operator_pods() -> Result<Vec<Pod>> {
    let pods = kube::Api::<Pod>::namespaced(Client::try_default().await?, NAMESPACE);
    let found = pods.list(&ListParams::default().labels(LABELS)).await?;
    let live = found.into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
    Ok(live.collect())
}

/// The operator as the cluster runs it.
pub struct Operator {
    client: Client,
}

impl Operator {
    /// The one that is installed.
    ///
    /// # Errors
    /// When there is no cluster.
    pub async fn installed() -> Result<Self> {
        Ok(Self { client: Client::try_default().await? })
    }

    /// Kills every pod of the operator without notice, and waits until another one runs.
    ///
    /// # Errors
    /// When none takes its place.
    pub async fn kill(&self) -> Result<()> {
        let pods = kube::Api::<Pod>::namespaced(self.client.clone(), NAMESPACE);
        let before = operator_pods().await?;
        for pod in &before {
            pods.delete(&pod.name_any(), &DeleteParams::default().grace_period(0)).await?;
        }
        within(SOON, "another operator", async {
            loop {
                let now = operator_pods().await?;
                let is_new = |pod: &Pod| before.iter().all(|old| old.uid() != pod.uid());
                if now.iter().any(|pod| is_new(pod) && is_ready(pod)) {
                    return Ok(());
                }
            }
        })
        .await
    }

    /// Sets the number of replicas, and waits until they are ready.
    ///
    /// # Errors
    /// When they do not become ready.
    pub async fn scale(&self, replicas: i32) -> Result<()> {
        let deployments = kube::Api::<Deployment>::namespaced(self.client.clone(), NAMESPACE);
        let patch = Patch::Merge(json!({ "spec": { "replicas": replicas } }));
        deployments.patch(OPERATOR, &PatchParams::default(), &patch).await?;
        let met = |it: Option<&Deployment>| {
            let status = it.and_then(|it| it.status.as_ref());
            status.is_some_and(|status| {
                status.ready_replicas.unwrap_or(0) == replicas
                    && status.replicas.unwrap_or(0) == replicas
            })
        };
        let what = format!("{replicas} operators");
        within(SOON, &what, condition(deployments, OPERATOR, met)).await
    }

    /// Kills the replica that holds the Lease, and waits until another one holds it.
    ///
    /// # Errors
    /// When no other one takes it.
    pub async fn kill_leader(&self) -> Result<()> {
        let leases = kube::Api::<Lease>::namespaced(self.client.clone(), NAMESPACE);
        let holder = |lease: Option<&Lease>| {
            lease.and_then(|lease| lease.spec.as_ref()?.holder_identity.clone())
        };
        let leader = holder(Some(&leases.get(LEASE).await?)).context("nobody leads")?;
        let pods = kube::Api::<Pod>::namespaced(self.client.clone(), NAMESPACE);
        pods.delete(&leader, &DeleteParams::default().grace_period(0)).await?;
        let taken = |lease: Option<&Lease>| holder(lease).is_some_and(|it| it != leader);
        within(SOON, "another leader", condition(leases, LEASE, taken)).await
    }
}

/// The API server of a node of `tests/cluster`; other clusters' cannot be stopped from outside.
pub struct Api {
    script: String,
}

impl Api {
    /// The own node's; absent on another cluster.
    #[must_use]
    pub fn of_own_node() -> Option<Self> {
        let folder = std::env::var("FLASHSALE_NODE_SCRIPTS").ok()?;
        Some(Self { script: format!("{folder}/api") })
    }

    /// Stops it for a time.
    ///
    /// # Errors
    /// When it cannot be stopped or started.
    pub async fn away(&self, time: Duration) -> Result<()> {
        ensure!(Path::new(&self.script).exists(), "{} is missing", self.script);
        self.run("stop").await?;
        tokio::time::sleep(time).await;
        self.run("start").await
    }

    async fn run(&self, command: &str) -> Result<()> {
        let status = Command::new(&self.script).arg(command).status().await?;
        ensure!(status.success(), "{} {command}: {status}", self.script);
        Ok(())
    }
}
