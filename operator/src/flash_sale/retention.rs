//! Step 4: gives the data of a sale the owner and the labels that its deletion policy requires, and takes over the data
//! that it adopts. The `StatefulSet` controller does the same for volume claims, by their retention policy.

use std::collections::BTreeMap;
use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use thiserror::Error;

use super::names::{
    self, Component, DATABASE_ID, DATABASE_IMAGE, DATABASE_VERSION, FIELD_MANAGER, RETAINED,
    SALE_UID,
};
use super::retained::{self, RetainedData};
use super::validate::ValidatedSale;

/// A Secret or a volume claim could not be changed.
#[derive(Debug, Error)]
#[error("cannot take over {object}")]
pub struct Error {
    object: String,
    source: kube::Error,
}

/// Changes what differs. An object that was changed in the meantime is left for the next reconcile.
///
/// # Errors
/// When a request to the API server fails.
pub async fn settle(
    client: &Client,
    sale: &ValidatedSale,
    found: &RetainedData,
) -> Result<(), Error> {
    // A Secret that a user made is never changed.
    if let Some(secret) = found.secret.as_ref().filter(|secret| retained::is_managed(secret))
        && let Some(change) = secret_change(sale, secret)
    {
        patch::<Secret>(client, sale, secret, change).await?;
    }
    for claim in &found.claims {
        // Changed even without the label: the version differs then from the one that `leftovers` read.
        let change =
            json!({ "labels": { RETAINED: null }, "annotations": { SALE_UID: sale.owner.uid } });
        patch::<PersistentVolumeClaim>(client, sale, claim, change).await?;
    }
    Ok(())
}

/// The change of the metadata of the database's Secret; `None`: it is as declared.
fn secret_change(sale: &ValidatedSale, secret: &ObjectMeta) -> Option<Value> {
    let found = secret.owner_references.as_deref().unwrap_or_default();
    let owners = retained::owners(found, &sale.owner, sale.spec.database.deletion_policy);
    let labels = names::labels(&sale.name, Component::Database);
    let annotations = secret.annotations.as_ref();
    let is_ours = annotations.and_then(|it| it.get(SALE_UID)) == Some(&sale.owner.uid);
    let id = sale.seeded.as_ref().map(|database| &database.id).or(sale.adopted_id.as_ref());
    let image = sale.pinned.database.as_ref();
    let version = sale.pinned.database_version.map(|version| version.to_string());
    let has = |key, value| annotations.and_then(|it| it.get(key)) == value;
    let is_known = has(DATABASE_ID, id)
        && has(DATABASE_IMAGE, image)
        && has(DATABASE_VERSION, version.as_ref());
    if found == owners && is_ours && is_known && are_in_use(secret.labels.as_ref(), &labels) {
        return None;
    }
    let mut labels = json!(labels);
    labels[RETAINED] = Value::Null;
    Some(json!({
        "ownerReferences": owners,
        "labels": labels,
        "annotations": {
            SALE_UID: sale.owner.uid,
            DATABASE_ID: id,
            DATABASE_IMAGE: image,
            DATABASE_VERSION: version,
        },
    }))
}

/// Whether `found` are labels of data in use: all of `wanted`, and not the one of retained data. Others belong to others.
fn are_in_use(found: Option<&BTreeMap<String, String>>, wanted: &BTreeMap<String, String>) -> bool {
    let has = |(key, value): (&String, &String)| found.and_then(|it| it.get(key)) == Some(value);
    wanted.iter().all(has) && !found.is_some_and(|it| it.contains_key(RETAINED))
}

async fn patch<K>(
    client: &Client,
    sale: &ValidatedSale,
    found: &ObjectMeta,
    mut change: Value,
) -> Result<(), Error>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + Debug
        + DeserializeOwned,
{
    let api: Api<K> = Api::namespaced(client.clone(), &sale.namespace);
    let name = found.name.as_deref().unwrap_or_default();
    change["uid"] = json!(found.uid);
    change["resourceVersion"] = json!(found.resource_version);
    let params =
        PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    let patch = Patch::Merge(json!({ "metadata": change }));
    let failed = |source| Error { object: format!("{} {name}", K::kind(&())), source };
    api.patch_metadata(name, &params, &patch).await.map(drop).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::super::dereference::References;
    use super::super::validate::validate;
    use super::*;
    use crate::config::DefaultImages;
    use crate::crd::FlashSale;

    fn sale() -> ValidatedSale {
        let sale: FlashSale = serde_json::from_value(json!({
            "apiVersion": "flashsale.dev/v1beta1",
            "kind": "FlashSale",
            "metadata": { "name": "black-friday", "namespace": "shop", "uid": "u" },
            "spec": { "products": [{ "id": "1", "stock": 100 }] },
        }))
        .unwrap();
        let images = DefaultImages {
            app: Some("app:1".to_owned()),
            redis: Some("redis:1".to_owned()),
            postgres: Some("postgres:1".to_owned()),
        };
        validate(&sale, References::default(), &images).unwrap()
    }

    #[test]
    fn a_label_of_somebody_else_is_no_reason_to_change_the_secret() {
        let sale = sale();
        let mut labels = names::labels(&sale.name, Component::Database);
        let secret = |labels: &BTreeMap<String, String>| ObjectMeta {
            labels: Some(labels.clone()),
            annotations: Some([(SALE_UID.to_owned(), "u".to_owned())].into()),
            ..ObjectMeta::default()
        };
        assert_eq!(secret_change(&sale, &secret(&labels)), None);
        labels.insert("backup.example/schedule".to_owned(), "daily".to_owned());
        assert_eq!(secret_change(&sale, &secret(&labels)), None);

        let mut retained = labels.clone();
        retained.insert(RETAINED.to_owned(), sale.name.clone());
        let change = secret_change(&sale, &secret(&retained)).unwrap();
        assert_eq!(change["labels"].get(RETAINED), Some(&Value::Null), "{change}");
        labels.remove(names::COMPONENT);
        let change = secret_change(&sale, &secret(&labels)).unwrap();
        assert_eq!(change["labels"][names::COMPONENT], "database", "{change}");
    }
}
