//! A real API server and the operator, a process that asks the first replica for the counts of the sale. No kubelet runs
//! pods: a task writes the statuses that Kubernetes would write.

use std::fs::File;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams};
use kube::{Api, Client, Config, ResourceExt};
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::{ApiServer, ApiUser, cluster_programs};
use tokio::task::JoinHandle;

use crate::programs::{built, repository};
use crate::shop::{NAMESPACE, OPERATOR_TOKEN, Replica, SALE};
use crate::wait::eventually;

/// The namespace of the operator.
pub const OPERATOR_NAMESPACE: &str = "flashsale-system";
/// The name of the chart's Service of metrics, which Prometheus has as `job`.
pub const OPERATOR_JOB: &str = "flashsale-operator-metrics";

const ADMIN: &str = "admin";
/// How long anything may take on a busy machine.
const SOON: Duration = Duration::from_mins(1);
/// The operator's names for replicas lead to a replica of the test: it has an `/etc/hosts` of its own.
const WITH_OWN_HOSTS: &str = r#"mount --bind "$HOSTS" /etc/hosts && exec "$OPERATOR" run"#;

/// Both; they end when dropped.
pub struct Cluster {
    client: Client,
    operator: Child,
    /// Address of the operator's metrics, `host:port`.
    pub metrics: String,
    controllers: JoinHandle<()>,
    folder: TempDir,
    _server: ApiServer,
}

impl Cluster {
    /// Starts both; the operator finds this replica under the names of the sale's replicas.
    ///
    /// # Errors
    /// When something does not start.
    pub async fn start(replica: &Replica) -> Result<Self> {
        let admin = ApiUser { name: ADMIN, group: "system:masters" };
        let server = ApiServer::start(&cluster_programs(), &[admin], None)?;
        let mut config = Config::new(server.url().parse()?);
        config.accept_invalid_certs = true;
        config.auth_info.token = Some(ADMIN.to_owned().into());
        let client = Client::try_from(config)?;
        eventually("the API server is ready", SOON, async || {
            Ok(client.apiserver_version().await?)
        })
        .await?;
        let definition = std::fs::read_to_string(repository().join("crds/flashsale.yaml"))?;
        apply(&client, &definition).await?;
        for name in [NAMESPACE, OPERATOR_NAMESPACE] {
            let namespace =
                json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } });
            apply(&client, &namespace.to_string()).await?;
        }
        // The operator keeps a Secret that exists, and this one has the token that the replicas know.
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": { "namespace": NAMESPACE, "name": format!("{SALE}-operator") },
            "stringData": { "token": OPERATOR_TOKEN, "checksum-key": "a key of the tests" },
        });
        apply(&client, &secret.to_string()).await?;
        let folder = tempfile::tempdir()?;
        std::fs::write(folder.path().join("kubeconfig"), server.kubeconfig(ADMIN))?;
        let hosts = format!("127.0.0.1 localhost\n{} {SALE}-pods.{NAMESPACE}.svc\n", replica.host);
        std::fs::write(folder.path().join("hosts"), hosts)?;
        let metrics = format!("127.0.0.1:{}", testkit::free_port()?);
        let operator = spawn_operator(&folder, &metrics, &[])?;
        let controllers = tokio::spawn(run_controllers(client.clone()));
        Ok(Self { client, operator, metrics, controllers, folder, _server: server })
    }

    /// Applies the sale and waits until it has this phase.
    ///
    /// # Errors
    /// When the API server refuses the sale, or it does not get there.
    pub async fn apply_sale(&self, name: &str, spec: &Value, phase: &str) -> Result<()> {
        let sale = json!({
            "apiVersion": "flashsale.dev/v1beta1", "kind": "FlashSale",
            "metadata": { "namespace": NAMESPACE, "name": name }, "spec": spec,
        });
        apply(&self.client, &sale.to_string()).await?;
        let kind = GroupVersionKind::gvk("flashsale.dev", "v1beta1", "FlashSale");
        let sales: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), NAMESPACE, &ApiResource::from_gvk(&kind));
        eventually(&format!("{name} is {phase}"), SOON, async || {
            let sale = sales.get(name).await?;
            let status = &sale.data["status"];
            let current = status["observedGeneration"].as_i64() == sale.metadata.generation;
            ensure!(current && status["phase"] == phase, "{status:#}\n{}", self.log());
            Ok(())
        })
        .await
    }

    /// Makes an object that belongs to nobody.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub async fn apply(&self, object: &Value) -> Result<()> {
        apply(&self.client, &object.to_string()).await
    }

    /// What the operator wrote.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Kills the operator.
    ///
    /// # Errors
    /// When the process cannot be waited for.
    pub fn kill_operator(&mut self) -> Result<()> {
        self.operator.kill()?;
        self.operator.wait()?;
        Ok(())
    }

    /// Starts a killed operator again.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_operator(&mut self) -> Result<()> {
        self.operator = spawn_operator(&self.folder, &self.metrics, &[])?;
        Ok(())
    }

    /// Starts a killed operator again, which waits for a Lease that somebody else holds.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn start_standby(&mut self) -> Result<()> {
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": { "namespace": OPERATOR_NAMESPACE, "name": "flashsale-operator" },
            "spec": {
                "holderIdentity": "somebody", "leaseDurationSeconds": 15,
                "renewTime": "2100-01-01T00:00:00.000000Z",
            },
        });
        self.apply(&lease).await?;
        let settings = [("LEADER_ELECTION", "true"), ("POD_NAMESPACE", OPERATOR_NAMESPACE)];
        self.operator = spawn_operator(&self.folder, &self.metrics, &settings)?;
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.controllers.abort();
        // Nothing can be done about a process that is gone already.
        let _ = self.kill_operator();
    }
}

fn spawn_operator(folder: &TempDir, metrics: &str, settings: &[(&str, &str)]) -> Result<Child> {
    let file = |name: &str| folder.path().join(name);
    Command::new("unshare")
        .args(["--mount", "sh", "-c", WITH_OWN_HOSTS])
        .env("HOSTS", file("hosts"))
        .env("OPERATOR", built("flashsale-operator")?)
        .env("KUBECONFIG", file("kubeconfig"))
        .env("LISTEN", metrics)
        .envs(["APP", "REDIS", "POSTGRES"].map(|part| (format!("DEFAULT_{part}_IMAGE"), "a:1")))
        .env("RUST_LOG", "warn")
        .envs(settings.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(file("log"))?)
        .spawn()
        .context("unshare: these tests need root and util-linux")
}

/// Applies all documents of a YAML file. A kind that the server does not serve yet is tried again.
async fn apply(client: &Client, yaml: &str) -> Result<()> {
    for document in serde_norway::Deserializer::from_str(yaml) {
        let value = Value::deserialize(document)?;
        if value.is_null() {
            continue;
        }
        let object: DynamicObject = serde_json::from_value(value)?;
        let types = object.types.as_ref().context("an object without a kind")?;
        let kind = ApiResource::from_gvk(&GroupVersionKind::try_from(types)?);
        let api: Api<DynamicObject> = match object.namespace() {
            Some(namespace) => Api::namespaced_with(client.clone(), &namespace, &kind),
            None => Api::all_with(client.clone(), &kind),
        };
        let name = object.name_any();
        let params = PatchParams::apply("test").force();
        eventually(&format!("{} {name} is applied", types.kind), SOON, async || {
            Ok(api.patch(&name, &params, &Patch::Apply(&object)).await?)
        })
        .await?;
    }
    Ok(())
}

/// Writes what the controllers of Kubernetes would write: all pods run at once.
async fn run_controllers(client: Client) {
    let mut tick = tokio::time::interval(Duration::from_millis(200));
    loop {
        tick.tick().await;
        for (group, kind) in [("apps", "StatefulSet"), ("apps", "Deployment"), ("batch", "Job")] {
            let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, "v1", kind));
            let api = Api::<DynamicObject>::namespaced_with(client.clone(), NAMESPACE, &resource);
            // What fails is tried again.
            let found = api.list(&ListParams::default()).await;
            for object in found.map(|list| list.items).unwrap_or_default() {
                if let Some(status) = next_status(kind, &object) {
                    let patch = Patch::Merge(json!({ "status": status }));
                    let _ =
                        api.patch_status(&object.name_any(), &PatchParams::default(), &patch).await;
                }
            }
        }
    }
}

fn next_status(kind: &str, object: &DynamicObject) -> Option<Value> {
    let status = &object.data["status"];
    if kind == "Job" {
        let done = |type_| json!({ "type": type_, "status": "True", "lastTransitionTime": "2026-11-21T00:00:00Z" });
        return status["completionTime"].is_null().then(|| {
            json!({
                "startTime": "2026-11-21T00:00:00Z", "completionTime": "2026-11-21T00:00:01Z", "succeeded": 1,
                "uncountedTerminatedPods": {}, "conditions": [done("SuccessCriteriaMet"), done("Complete")],
            })
        });
    }
    let generation = object.metadata.generation?;
    let replicas = object.data["spec"]["replicas"].as_i64().unwrap_or(1);
    let mut ready = json!({
        "observedGeneration": generation, "replicas": replicas, "updatedReplicas": replicas, "readyReplicas": replicas,
    });
    if kind == "Deployment" {
        ready["availableReplicas"] = json!(replicas);
    }
    (status["observedGeneration"].as_i64() != Some(generation)).then_some(ready)
}
