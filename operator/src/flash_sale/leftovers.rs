//! Labels the data that a deleted sale left, so that one command lists or removes them. There is no finalizer, so this
//! happens after the deletion, or when the operator starts again. Data of a sale that exists are never labelled.

use std::time::Duration;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{ListParams, Patch, PatchParams};
use kube::core::DeserializeGuard;
use kube::runtime::reflector::Store;
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use tokio::sync::Notify;
use tracing::{info, warn};

use super::names::{self, Component, FIELD_MANAGER, MANAGED_BY, RETAINED};
use super::retained::{adopted_name, is_managed};
use crate::crd::FlashSale;
use crate::error_chain::error_chain;

/// Delay of the retry after a failed request.
const RETRY: Duration = Duration::from_secs(5);

/// Labels leftovers after each notification; `claims` is the API of the watched scope.
pub async fn label_after(
    deletions: &Notify,
    client: &Client,
    claims: &Api<PersistentVolumeClaim>,
    sales: &Store<DeserializeGuard<FlashSale>>,
) {
    loop {
        deletions.notified().await;
        while let Err(error) = label_all(client, claims, sales).await {
            warn!(error = error_chain(&error), "cannot label the data of a deleted sale; retrying");
            tokio::time::sleep(RETRY).await;
        }
    }
}

/// Labels the data of all sales that no longer exist.
///
/// # Errors
/// When a request to the API server fails.
pub async fn label_all(
    client: &Client,
    claims: &Api<PersistentVolumeClaim>,
    sales: &Store<DeserializeGuard<FlashSale>>,
) -> kube::Result<()> {
    let selector = format!("app.kubernetes.io/managed-by={MANAGED_BY},!{RETAINED}");
    let found = claims.list_metadata(&ListParams::default().labels(&selector)).await?;
    for claim in found.items {
        let namespace = claim.namespace().unwrap_or_default();
        // An owned claim is deleted with its owner.
        let stays =
            claim.owner_references().is_empty() && claim.metadata.deletion_timestamp.is_none();
        let Some(sale) = sale_of(&claim.metadata).filter(|_| stays) else { continue };
        // After the list: a claim that a new sale takes over now has another version than the listed one.
        if sales.state().iter().any(|other| uses(other, &namespace, &sale)) {
            continue;
        }
        label(client, &namespace, &sale, &claim.metadata).await?;
        info!(namespace, sale, claim = claim.name_any(), "the data of a deleted sale are retained");
    }
    Ok(())
}

/// The sale after which a volume claim is named.
fn sale_of(claim: &ObjectMeta) -> Option<String> {
    let name = claim.name.as_deref()?.strip_prefix(names::VOLUME)?.strip_prefix('-')?;
    let (set, _pod) = name.rsplit_once('-')?;
    let component = claim.labels.as_ref()?.get(names::COMPONENT)?;
    let sale = if component == Component::Database.as_str() {
        set.strip_suffix("-db")
    } else if component == Component::Redis.as_str() {
        set.strip_suffix("-redis")
    } else {
        None
    };
    sale.map(str::to_owned)
}

/// Whether `other` uses the data that are named after `sale`. What an unreadable sale uses is unknown.
fn uses(other: &DeserializeGuard<FlashSale>, namespace: &str, sale: &str) -> bool {
    match &other.0 {
        Ok(other) => {
            other.namespace().as_deref() == Some(namespace)
                && (other.name_any() == sale || adopted_name(other) == sale)
        }
        Err(other) => other.metadata.namespace.as_deref() == Some(namespace),
    }
}

/// Labels the Secret first: a claim with the label is done.
async fn label(
    client: &Client,
    namespace: &str,
    sale: &str,
    claim: &ObjectMeta,
) -> kube::Result<()> {
    let params =
        PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    let patch = |found: &ObjectMeta| {
        Patch::Merge(json!({ "metadata": {
            "uid": found.uid,
            "resourceVersion": found.resource_version,
            "labels": { RETAINED: sale },
        } }))
    };
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let secret = secrets.get_metadata_opt(&names::database(sale)).await?;
    if let Some(secret) =
        secret.filter(|it| is_managed(&it.metadata) && it.owner_references().is_empty())
    {
        let labelled =
            secrets.patch_metadata(&secret.name_any(), &params, &patch(&secret.metadata)).await;
        unless_changed(labelled.map(drop))?;
    }
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), namespace);
    let name = claim.name.as_deref().unwrap_or_default();
    unless_changed(claims.patch_metadata(name, &params, &patch(claim)).await.map(drop))
}

/// An object that was changed or deleted in the meantime is no failure.
fn unless_changed(result: kube::Result<()>) -> kube::Result<()> {
    match result {
        Err(kube::Error::Api(status)) if status.is_conflict() || status.is_not_found() => Ok(()),
        result => result,
    }
}
