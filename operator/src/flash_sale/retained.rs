//! Data that outlive their sale: the volume and the Secret of its own database and, with strategy `Atomic`, the Redis
//! volume. Takes no client and no clock.
//!
//! Retained data keep the name of the sale that made them. A new sale uses them only if it names them; its database's
//! objects are then named after that sale, because a volume claim cannot be renamed.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::ResourceExt;

use super::names::{self, Component, DATABASE_ID, MANAGED_BY, SALE_UID};
use super::not_ready::NotReady;
use crate::crd::{DeletionPolicy, FlashSale, FlashSaleSpec, Strategy};

/// Neither volume claims nor Secrets are watched, so they are polled.
const RETRY: Duration = Duration::from_secs(10);

/// Existing objects that hold data under the names of a sale.
#[derive(Clone, Debug, Default)]
pub struct RetainedData {
    /// Metadata of the Secret of the sale's own database.
    pub secret: Option<ObjectMeta>,
    /// Volume claims that a `StatefulSet` of the sale would use, where that `StatefulSet` does not exist.
    pub claims: Vec<ObjectMeta>,
    /// Whether the `StatefulSet` of the sale's own database exists.
    pub database_exists: bool,
}

/// The sale after which the database's objects are named.
#[must_use]
pub fn adopted_name(sale: &FlashSale) -> String {
    sale.spec.database.adopt.clone().unwrap_or_else(|| sale.name_any())
}

/// Whether the claims of the Redis nodes are kept: with `Atomic` they can hold orders that the database lacks.
#[must_use]
pub fn retains_redis(spec: &FlashSaleSpec) -> bool {
    spec.strategy == Strategy::Atomic && spec.database.deletion_policy == DeletionPolicy::Retain
}

/// Whether the operator made the object.
#[must_use]
pub fn is_managed(metadata: &ObjectMeta) -> bool {
    label(metadata, "app.kubernetes.io/managed-by") == Some(MANAGED_BY)
}

fn label<'a>(metadata: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    metadata.labels.as_ref()?.get(key).map(String::as_str)
}

fn is_claim_of(component: Component, metadata: &ObjectMeta) -> bool {
    label(metadata, names::COMPONENT) == Some(component.as_str())
}

/// Id of the database that has the retained orders, so that another one is not filled.
#[must_use]
pub fn database_id(found: &RetainedData) -> Option<String> {
    let secret = found.secret.as_ref().filter(|secret| is_managed(secret))?;
    secret.annotations.as_ref()?.get(DATABASE_ID).cloned()
}

/// The owner references that the Secret of the sale's own database should have: a retained one does not belong to the
/// sale. References to other owners stay.
#[must_use]
pub fn owners(
    found: &[OwnerReference],
    sale: &OwnerReference,
    policy: DeletionPolicy,
) -> Vec<OwnerReference> {
    let others = found.iter().filter(|owner| owner.uid != sale.uid).cloned();
    let own = (policy == DeletionPolicy::Delete).then(|| sale.clone());
    others.chain(own).collect()
}

/// Checks that a new sale finds either no data, or the data that it names.
///
/// # Errors
/// [`NotReady`] when data of a deleted sale are in the way, or when those to adopt do not exist.
pub fn check(sale: &FlashSale, found: &RetainedData) -> Result<(), NotReady> {
    // From the first reconcile on, all data under these names are the sale's own.
    if sale.status.as_ref().is_some_and(|status| status.redis.is_some()) {
        return Ok(());
    }
    let adopted = adopted_name(sale);
    let named = sale.spec.database.adopt.is_some();
    let mut unnamed: Vec<String> = Vec::new();
    let mut orders_in_redis: Option<&ObjectMeta> = None;
    for claim in &found.claims {
        let redis = is_claim_of(Component::Redis, claim);
        // Redis nodes are always named after the sale itself.
        if !named || (redis && adopted != sale.name_any()) {
            unnamed.push(format!("pvc/{}", name_of(claim)));
        } else if redis && sale.spec.strategy == Strategy::Locked {
            orders_in_redis = Some(claim);
        }
    }
    let secret = found.secret.as_ref().filter(|secret| is_left(secret, sale));
    if !named {
        unnamed.extend(secret.map(|secret| format!("secret/{}", name_of(secret))));
    }
    if !unnamed.is_empty() {
        return Err(in_the_way(sale, &unnamed));
    }
    if let Some(claim) = orders_in_redis {
        return Err(retained(format!(
            "PersistentVolumeClaim {} of the adopted sale can hold orders that its database lacks: set strategy: \
             Atomic, or give these orders up with kubectl delete pvc -n {} {0}",
            name_of(claim),
            sale.namespace().unwrap_or_default(),
        )));
    }
    if named { find_adopted(sale, found, &adopted) } else { Ok(()) }
}

/// Checks that the data to adopt exist.
fn find_adopted(sale: &FlashSale, found: &RetainedData, adopted: &str) -> Result<(), NotReady> {
    let missing = |what: String| {
        Err(NotReady {
            reason: "RetainedDataMissing",
            message: format!(
                "spec.database.adopt names {adopted}, but {what} does not exist. Restore it, or remove \
                 spec.database.adopt to start without orders. What is retained: kubectl get pvc,secret -n {} -l {}",
                sale.namespace().unwrap_or_default(),
                names::RETAINED,
            ),
            requeue_after: Some(RETRY),
        })
    };
    let has = |component| found.claims.iter().any(|claim| is_claim_of(component, claim));
    if sale.spec.database.secret_ref.is_some() {
        return Ok(());
    }
    let database = names::database(adopted);
    if !found.database_exists && !has(Component::Database) {
        return missing(format!("PersistentVolumeClaim {}", names::volume_claim(&database, 0)));
    }
    match &found.secret {
        None => missing(format!("Secret {database} with the database's password")),
        Some(_) => Ok(()),
    }
}

/// Whether a Secret was made for another sale than this one, and stays.
fn is_left(secret: &ObjectMeta, sale: &FlashSale) -> bool {
    let uid = secret.annotations.as_ref().and_then(|annotations| annotations.get(SALE_UID));
    let has_owner = secret.owner_references.as_ref().is_some_and(|owners| !owners.is_empty());
    is_managed(secret) && !has_owner && uid != sale.metadata.uid.as_ref()
}

fn in_the_way(sale: &FlashSale, objects: &[String]) -> NotReady {
    let objects = objects.join(" ");
    retained(format!(
        "data of a deleted sale are retained: {objects}. To continue its orders, set spec.database.adopt: {}. To \
         start without them, delete them: kubectl delete -n {} {objects}",
        sale.name_any(),
        sale.namespace().unwrap_or_default(),
    ))
}

fn retained(message: String) -> NotReady {
    NotReady { reason: "DataRetained", message, requeue_after: Some(RETRY) }
}

fn name_of(metadata: &ObjectMeta) -> &str {
    metadata.name.as_deref().unwrap_or_default()
}
