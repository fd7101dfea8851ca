//! `retained`: what deleted sales left.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::{Result, bail};
use flashsale_operator::crd::FlashSale;
use flashsale_operator::flash_sale::names::RETAINED;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Secret};
use kube::api::{DeleteParams, ListParams, ObjectList, PartialObjectMeta};
use kube::{Api, ResourceExt};

use crate::cluster::{Cluster, Explained};
use crate::table::{age, table};
use crate::terminal;

/// The flags of `retained list`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
A new sale continues the orders of a deleted one with spec.database.adopt: NAME.

Examples:
  kubectl flashsale retained list -A
  kubectl flashsale retained list -n shop")]
pub struct ListOptions {
    /// List what is retained in all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
}

/// The flags of `retained remove`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
The orders are lost. Without --yes, it prints what would be deleted.

Examples:
  kubectl flashsale retained remove -n shop black-friday
  kubectl flashsale retained remove -n shop black-friday --yes")]
pub struct RemoveOptions {
    /// The deleted sale
    name: String,
    /// Delete the volumes and Secrets, and with them the orders
    #[arg(long)]
    yes: bool,
}

/// The labelled objects. Only metadata is read, no value of a Secret.
struct Found {
    claims: ObjectList<PartialObjectMeta<PersistentVolumeClaim>>,
    secrets: ObjectList<PartialObjectMeta<Secret>>,
}

impl Found {
    async fn read(cluster: &Cluster, everywhere: bool, selector: &str) -> Result<Self> {
        let labelled = ListParams::default().labels(selector);
        let (claims, secrets): (Api<PersistentVolumeClaim>, Api<Secret>) = if everywhere {
            (cluster.all(), cluster.all())
        } else {
            (cluster.api(), cluster.api())
        };
        Ok(Self {
            claims: claims.list_metadata(&labelled).await.explained(cluster)?,
            secrets: secrets.list_metadata(&labelled).await.explained(cluster)?,
        })
    }

    fn objects(&self) -> Vec<String> {
        let claims = self.claims.iter().map(|it| format!("pvc/{}", it.name_any()));
        claims.chain(self.secrets.iter().map(|it| format!("secret/{}", it.name_any()))).collect()
    }
}

/// Runs `retained list`.
pub async fn list(cluster: &Cluster, options: &ListOptions) -> Result<ExitCode> {
    let found = Found::read(cluster, options.all_namespaces, RETAINED).await?;
    let now = Timestamp::now();
    let mut sales: BTreeMap<(String, String), (Vec<String>, String)> = BTreeMap::new();
    let claims = found.claims.iter().map(|it| ("pvc", &it.metadata));
    for (kind, metadata) in claims.chain(found.secrets.iter().map(|it| ("secret", &it.metadata))) {
        let label = metadata.labels.as_ref().and_then(|labels| labels.get(RETAINED));
        let key =
            (metadata.namespace.clone().unwrap_or_default(), label.cloned().unwrap_or_default());
        let created = metadata.creation_timestamp.as_ref().map(|at| age(at.0, now));
        let name = metadata.name.as_deref().unwrap_or_default();
        let entry = sales.entry(key).or_default();
        entry.0.push(format!("{kind}/{name}"));
        entry.1 = created.unwrap_or_default();
    }
    if sales.is_empty() {
        terminal::note("nothing is retained");
        return Ok(ExitCode::SUCCESS);
    }
    let headings = ["NAMESPACE", "SALE", "AGE", "OBJECTS"].map(str::to_owned).to_vec();
    let rows = sales
        .into_iter()
        .map(|((namespace, sale), (objects, age))| vec![namespace, sale, age, objects.join(" ")]);
    let retained = table(&[headings].into_iter().chain(rows).collect::<Vec<_>>());
    terminal::result(retained.trim_end())?;
    Ok(ExitCode::SUCCESS)
}

/// Runs `retained remove`.
pub async fn remove(cluster: &Cluster, options: &RemoveOptions) -> Result<ExitCode> {
    let selector = format!("{RETAINED}={}", options.name);
    let found = Found::read(cluster, false, &selector).await?;
    let objects = found.objects();
    if objects.is_empty() {
        let sales: Api<FlashSale> = cluster.api();
        let exists = sales.get_opt(&options.name).await.explained(cluster)?.is_some();
        let why = if exists { ": the sale exists" } else { "" };
        bail!(
            "nothing of a sale {} is retained in the namespace {}{why}; kubectl flashsale retained list -A lists all",
            options.name,
            cluster.namespace
        );
    }
    if !options.yes {
        terminal::result(format_args!("would delete: {}", objects.join(" ")))?;
        bail!("the orders would be lost: add --yes to delete them");
    }
    let (claims, secrets): (Api<PersistentVolumeClaim>, Api<Secret>) =
        (cluster.api(), cluster.api());
    // By uid: an object that a new sale took over meanwhile is another one's, or has another version.
    for claim in &found.claims {
        claims.delete(&claim.name_any(), &unchanged(claim)).await.explained(cluster)?;
    }
    for secret in &found.secrets {
        secrets.delete(&secret.name_any(), &unchanged(secret)).await.explained(cluster)?;
    }
    terminal::result(format_args!("deleted: {}", objects.join(" ")))?;
    Ok(ExitCode::SUCCESS)
}

/// Deletes the object only as it was read, with its label.
fn unchanged(object: &impl ResourceExt) -> DeleteParams {
    DeleteParams::default().preconditions(kube::api::Preconditions {
        uid: object.uid(),
        resource_version: object.resource_version(),
    })
}
