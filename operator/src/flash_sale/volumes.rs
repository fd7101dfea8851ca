//! Changed storage declarations. The volume claim templates of a `StatefulSet` are immutable, so the operator recreates
//! the `StatefulSet` as long as none of its volumes exists. A wrong storage class or size can thus be corrected.
//! Existing volumes are never deleted.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::api::{DeleteParams, Preconditions};
use kube::{Api, Client, ResourceExt};
use thiserror::Error;

use super::build::{KubernetesResources, Prepared};
use super::not_ready::NotReady;
use super::volume_size;

/// Maximum number of pods of a `StatefulSet`.
const MOST_PODS: i32 = 5;
/// The usual duration of a garbage collection.
const RETRY: std::time::Duration = std::time::Duration::from_secs(1);

/// A request for volume claims or for deletion of the `StatefulSet` failed.
#[derive(Debug, Error)]
#[error("cannot replace StatefulSet {name}")]
pub struct Error {
    name: String,
    source: kube::Error,
}

/// Deletes each `StatefulSet` of `existing` whose storage declaration changed and whose volumes do not exist yet. The
/// sale then waits for the deletion. If volumes exist, the API server refuses the change in `apply`.
///
/// # Errors
/// When a request to the API server fails.
pub async fn replace(
    client: &Client,
    namespace: &str,
    existing: &[StatefulSet],
    declared: &KubernetesResources<Prepared>,
) -> Result<Option<NotReady>, Error> {
    let mut replaced = None;
    for declared in [Some(&declared.redis), declared.database.as_ref()].into_iter().flatten() {
        let name = declared.name_any();
        let Some(found) = existing.iter().find(|found| found.name_any() == name) else { continue };
        let failed = |source| Error { name: name.clone(), source };
        let leaving = found.metadata.deletion_timestamp.is_some();
        if !leaving {
            if !is_changed(found, declared) {
                continue;
            }
            if any_exists(client, namespace, found).await.map_err(failed)? {
                continue;
            }
            let sets: Api<StatefulSet> = Api::namespaced(client.clone(), namespace);
            // Not a StatefulSet that was created in the meantime.
            let this = Preconditions { uid: found.uid(), resource_version: None };
            let params = DeleteParams::foreground().preconditions(this);
            let deleted = sets.delete(&name, &params).await;
            deleted.map(drop).or_else(gone).map_err(failed)?;
        }
        replaced = Some(NotReady {
            reason: "ReplacingVolumes",
            message: format!("StatefulSet {name} is being recreated with the declared storage"),
            requeue_after: Some(RETRY),
        });
    }
    Ok(replaced)
}

/// Whether a claim of the `StatefulSet` is bound to a volume.
async fn any_exists(
    client: &Client,
    namespace: &str,
    set: &StatefulSet,
) -> Result<bool, kube::Error> {
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), namespace);
    // A hibernating `StatefulSet` has volumes, but no replicas.
    for pod in 0..MOST_PODS {
        let claim = claims.get_opt(&format!("data-{}-{pod}", set.name_any())).await?;
        let volume = claim.and_then(|claim| claim.spec?.volume_name);
        if volume.is_some_and(|volume| !volume.is_empty()) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn gone(error: kube::Error) -> Result<(), kube::Error> {
    match error {
        kube::Error::Api(status) if status.is_not_found() => Ok(()),
        error => Err(error),
    }
}

/// Whether another storage is declared. A `StatefulSet` without volume claim templates has no storage to replace.
fn is_changed(found: &StatefulSet, declared: &StatefulSet) -> bool {
    let Some((found_class, found_size)) = storage(found) else { return false };
    let Some((class, size)) = storage(declared) else { return true };
    found_class != class || !volume_size::is_same(found_size, size)
}

/// Storage class and size that the `StatefulSet` requests.
fn storage(set: &StatefulSet) -> Option<(Option<&String>, Option<&Quantity>)> {
    let claim = set.spec.as_ref()?.volume_claim_templates.as_ref()?.first()?;
    let PersistentVolumeClaimSpec { storage_class_name, resources, .. } = claim.spec.as_ref()?;
    let size = resources.as_ref().and_then(|it| it.requests.as_ref()?.get("storage"));
    Some((storage_class_name.as_ref(), size))
}
