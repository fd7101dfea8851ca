//! The API server with the resource definition, the chart's rights, and the sales.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use futures::stream::{self, StreamExt, TryStreamExt};
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams};
use kube::{Api, Client, Config, ResourceExt};
use serde::Deserialize;
use serde_json::{Value, json};
use testkit::{ApiServer, ApiUser};

use crate::audit::AuditLog;
use crate::names::Name;
use crate::process::Operator;

const ADMIN: &str = "admin";
/// The service account of the chart.
pub const OPERATOR: &str = "system:serviceaccount:flashsale-system:flashsale-operator";
const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../charts/flashsale-operator");
/// Objects of one sale by kind: what the operator makes for a sale with defaults.
const KINDS: [(&str, &str, &str, f64); 8] = [
    ("", "v1", "ConfigMap", 1.0),
    ("", "v1", "Secret", 4.0),
    ("", "v1", "Service", 4.0),
    ("apps", "v1", "Deployment", 1.0),
    ("apps", "v1", "StatefulSet", 2.0),
    ("batch", "v1", "Job", 1.0),
    ("networking.k8s.io", "v1", "NetworkPolicy", 3.0),
    ("policy", "v1", "PodDisruptionBudget", 2.0),
];
/// Objects of one sale.
pub const CHILDREN: f64 = 18.0;

/// The API server.
pub struct Cluster {
    server: ApiServer,
}

impl Cluster {
    /// Starts it with the operator's resource definition and the chart's rights.
    pub async fn start(bin: &Path, operator: &Path) -> Result<Self> {
        let cluster = Self { server: started(bin, &[OPERATOR], Some(OPERATOR)).await? };
        let client = cluster.admin()?;
        let crd = output(Command::new(operator).arg("crd"))?;
        apply_all(&client, &crd).await?;
        apply_all(&client, namespace("flashsale-system").as_bytes()).await?;
        let helm = bin.join("helm");
        let helm = if helm.exists() { helm } else { PathBuf::from("helm") };
        let mut template = Command::new(helm);
        template.args(["template", "flashsale-operator", CHART, "--namespace", "flashsale-system"]);
        apply_all(&client, &output(template.args(["--show-only", "templates/rbac.yaml"]))?).await?;
        Ok(cluster)
    }

    /// A client that may do everything.
    pub fn admin(&self) -> Result<Client> {
        client(&self.server)
    }

    /// The log of the operator's requests.
    pub fn audit(&self) -> AuditLog {
        AuditLog::new(self.server.audit_log())
    }

    /// The operator's kubeconfig.
    pub fn kubeconfig(&self) -> String {
        self.server.kubeconfig(OPERATOR)
    }

    /// Creates all sales.
    pub async fn create_sales(&self, names: &[Name]) -> Result<()> {
        let client = self.admin()?;
        let mut namespaces: Vec<&str> = names.iter().map(|name| name.namespace.as_str()).collect();
        namespaces.dedup();
        for name in namespaces {
            apply_all(&client, namespace(name).as_bytes()).await?;
        }
        let create = |name: &Name| {
            let (client, sale) = (client.clone(), sale(name));
            async move { apply_all(&client, sale.to_string().as_bytes()).await }
        };
        let creations: Vec<_> = names.iter().map(create).collect();
        stream::iter(creations).buffer_unordered(16).try_collect().await
    }

    /// Waits until the phase of every sale is `Open`.
    pub async fn wait_until_ready(&self, sales: u32, operator: &Operator) -> Result<()> {
        let deadline = Instant::now() + Duration::from_mins(20);
        let all = self.sales()?;
        loop {
            operator.check()?;
            let found = all.list(&ListParams::default()).await?.items;
            let open = found.iter().filter(|sale| sale.data["status"]["phase"] == "Open").count();
            if open == usize::try_from(sales)? {
                return Ok(());
            }
            if Instant::now() > deadline {
                let other = found.iter().find(|sale| sale.data["status"]["phase"] != "Open");
                bail!(
                    "{open} of {sales} sales are open; one that is not: {:#?}",
                    other.map(|it| &it.data)
                );
            }
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
    }

    /// All sales.
    pub fn sales(&self) -> Result<Api<DynamicObject>> {
        Ok(Api::all_with(self.admin()?, &sale_resource()))
    }

    /// The sales of a namespace.
    pub fn sales_in(client: &Client, namespace: &str) -> Api<DynamicObject> {
        Api::namespaced_with(client.clone(), namespace, &sale_resource())
    }

    /// The number of objects that belong to a sale.
    pub async fn children(&self) -> Result<u32> {
        let client = self.admin()?;
        let ours = ListParams::default().labels("app.kubernetes.io/managed-by=flashsale-operator");
        let mut all = 0;
        for (group, version, kind, _) in KINDS {
            let kind = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
            let api: Api<DynamicObject> = Api::all_with(client.clone(), &kind);
            all += api.list_metadata(&ours).await?.items.len();
        }
        Ok(u32::try_from(all)?)
    }
}

/// A server that is ready; users beside the administrator have the rights that they are given.
pub async fn started(bin: &Path, users: &[&str], audited: Option<&str>) -> Result<ApiServer> {
    let admin = ApiUser { name: ADMIN, group: "system:masters" };
    let others = users.iter().map(|name| ApiUser { name, group: "operators" });
    let users: Vec<ApiUser<'_>> = std::iter::once(admin).chain(others).collect();
    let server = ApiServer::start(bin, &users, audited)?;
    let client = client(&server)?;
    let deadline = Instant::now() + Duration::from_mins(2);
    while client.apiserver_version().await.is_err() {
        ensure!(Instant::now() < deadline, "the API server is not ready");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Ok(server)
}

/// A client that may do everything.
pub fn client(server: &ApiServer) -> Result<Client> {
    let mut config = Config::new(server.url().parse()?);
    config.accept_invalid_certs = true;
    config.auth_info.token = Some(ADMIN.to_owned().into());
    Ok(Client::try_from(config)?)
}

/// A kubeconfig that may do everything.
pub fn admin_kubeconfig(server: &ApiServer) -> String {
    server.kubeconfig(ADMIN)
}

/// Applies all documents of a YAML file. A kind that the server does not serve yet is retried.
pub async fn apply_all(client: &Client, yaml: &[u8]) -> Result<()> {
    for document in serde_norway::Deserializer::from_slice(yaml) {
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
        let deadline = Instant::now() + Duration::from_mins(1);
        loop {
            let params = PatchParams::apply("fleet").force();
            match api.patch(&name, &params, &Patch::Apply(&object)).await {
                Ok(_) => break,
                Err(kube::Error::Api(status))
                    if status.code == 404 && Instant::now() < deadline =>
                {
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
                Err(error) => return Err(error).with_context(|| format!("{} {name}", types.kind)),
            }
        }
    }
    Ok(())
}

/// A namespace as JSON.
pub fn namespace(name: &str) -> String {
    json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } }).to_string()
}

/// A sale with defaults, apart from its images.
fn sale(Name { namespace, name }: &Name) -> Value {
    json!({
        "apiVersion": "flashsale.dev/v1beta1",
        "kind": "FlashSale",
        "metadata": { "namespace": namespace, "name": name },
        "spec": { "products": [{ "id": "1", "stock": 100 }] },
    })
}

fn sale_resource() -> ApiResource {
    let kind = GroupVersionKind::gvk("flashsale.dev", "v1beta1", "FlashSale");
    ApiResource::from_gvk(&kind)
}

fn output(command: &mut Command) -> Result<Vec<u8>> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(output.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_objects_of_a_sale_are_counted_by_kind() {
        let sum: f64 = KINDS.iter().map(|kind| kind.3).sum();
        assert!((sum - CHILDREN).abs() < f64::EPSILON);
    }
}
