//! The memory of CloudNativePG's manager with some Clusters, on an API server of the same kind. Its webhooks are not
//! registered, so it needs certificates for its own start only. No instance runs: it waits for each primary.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use futures::stream::{self, StreamExt, TryStreamExt};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, ListParams};
use kube::runtime::wait::{await_condition, conditions};
use kube::{Api, Client, ResourceExt};
use serde_json::json;

use crate::cluster::{self, apply_all};
use crate::names::{self, Name};
use crate::process::memory;

const SYSTEM: &str = "cnpg-system";

/// In MiB, once the manager has made the parts of every Cluster and its memory no longer grows.
pub async fn memory_of(bin: &Path, program: &Path, crds: &Path, clusters: u32) -> Result<f64> {
    let server = cluster::started(bin, &[], None).await?;
    let client = cluster::client(&server)?;
    for entry in std::fs::read_dir(crds)? {
        apply_all(&client, &std::fs::read(entry?.path())?).await?;
    }
    established(&client).await?;
    apply_all(&client, cluster::namespace(SYSTEM).as_bytes()).await?;
    let folder = tempfile::tempdir()?;
    let config = folder.path().join("kubeconfig");
    std::fs::write(&config, cluster::admin_kubeconfig(&server))?;
    certificate(folder.path())?;
    instance_manager(folder.path(), program)?;
    let log = folder.path().join("log");
    let mut manager = Manager(
        Command::new(std::path::absolute(program)?)
            .current_dir(folder.path())
            .args(["controller", "--max-concurrent-reconciles=10"])
            .args(["--metrics-bind-address=127.0.0.1:0"])
            .arg(format!("--webhook-port={}", testkit::free_port()?))
            .env("KUBECONFIG", config)
            .env("OPERATOR_NAMESPACE", SYSTEM)
            .env("OPERATOR_IMAGE_NAME", "manager:bench")
            .env("WEBHOOK_CERT_DIR", folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log)?)
            .spawn()?,
    );
    let names = names::of(clusters);
    create(&client, &names).await?;
    let reached = settled(&client, &mut manager, clusters).await;
    reached.with_context(|| {
        let log = std::fs::read_to_string(&log).unwrap_or_default();
        let end = log.lines().rev().take(5).collect::<Vec<_>>().join("\n");
        format!("the last lines of its log:\n{end}")
    })
}

/// Waits until the API server serves all definitions: the manager ends if it does not know one of them.
async fn established(client: &Client) -> Result<()> {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    for definition in definitions.list_metadata(&ListParams::default()).await? {
        let established = conditions::is_crd_established();
        let name = definition.name_any();
        let served = await_condition(definitions.clone(), &name, established);
        let served = tokio::time::timeout(Duration::from_mins(2), served).await;
        served.with_context(|| format!("the API server does not serve {name}"))??;
    }
    Ok(())
}

struct Manager(Child);

impl Drop for Manager {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Names as its own certificates have.
fn certificate(folder: &Path) -> Result<()> {
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "1",
            "-subj",
            "/CN=webhook",
        ])
        .arg("-keyout")
        .arg(folder.join("apiserver.key"))
        .arg("-out")
        .arg(folder.join("apiserver.crt"))
        .output()?;
    ensure!(made.status.success(), "openssl made no certificate");
    Ok(())
}

/// The manager gives itself to the instances. It looks for that program in `operator` below its working folder, by the
/// architecture's name in Go, and makes nothing of a Cluster without it.
fn instance_manager(folder: &Path, program: &Path) -> Result<()> {
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    std::fs::create_dir(folder.join("operator"))?;
    let link = folder.join("operator").join(format!("manager_{architecture}"));
    std::os::unix::fs::symlink(std::path::absolute(program)?, link)?;
    Ok(())
}

async fn create(client: &Client, names: &[Name]) -> Result<()> {
    let mut namespaces: Vec<&str> = names.iter().map(|name| name.namespace.as_str()).collect();
    namespaces.dedup();
    for name in namespaces {
        apply_all(client, cluster::namespace(name).as_bytes()).await?;
    }
    let create = |Name { namespace, name }: &Name| {
        let object = json!({
            "apiVersion": "postgresql.cnpg.io/v1",
            "kind": "Cluster",
            "metadata": { "namespace": namespace, "name": name },
            "spec": {
                "instances": 3, "imageName": "postgres:16",
                "storage": { "size": "1Gi" },
                "bootstrap": { "initdb": { "database": "app", "owner": "app" } },
            },
        });
        async move { apply_all(client, object.to_string().as_bytes()).await }
    };
    let all: Vec<_> = names.iter().map(create).collect();
    stream::iter(all).buffer_unordered(16).try_collect().await
}

async fn settled(client: &Client, manager: &mut Manager, clusters: u32) -> Result<f64> {
    let kind = GroupVersionKind::gvk("", "v1", "PersistentVolumeClaim");
    let claims: Api<DynamicObject> = Api::all_with(client.clone(), &ApiResource::from_gvk(&kind));
    let (begin, pid) = (Instant::now(), manager.0.id());
    // The claim of the primary comes after the Secrets, the Services and the rights of the Cluster.
    loop {
        if let Some(status) = manager.0.try_wait()? {
            bail!("the manager ended with {status}");
        }
        let made = claims.list_metadata(&ListParams::default()).await?.items.len();
        if made >= usize::try_from(clusters)? {
            break;
        }
        ensure!(
            begin.elapsed() < Duration::from_mins(15),
            "{made} of {clusters} Clusters have the claim of a primary"
        );
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    let mut before = memory(pid, "VmRSS")?;
    loop {
        tokio::time::sleep(Duration::from_secs(30)).await;
        let now = memory(pid, "VmRSS")?;
        if now <= before * 1.01 {
            return Ok(now);
        }
        ensure!(
            begin.elapsed() < Duration::from_mins(20),
            "its memory still grows: {now:.1} MiB after {before:.1} MiB"
        );
        before = now;
    }
}
