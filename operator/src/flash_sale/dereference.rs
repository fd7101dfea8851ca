//! Step 1: reads what the sale refers to and what already exists. Decides nothing.

use std::collections::BTreeMap;
use std::fmt::Debug;

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::{ByteString, NamespaceResourceScope};
use kube::api::ListParams;
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use thiserror::Error;

use super::build::names;
use crate::crd::FlashSale;

/// Keys and values of a Secret.
pub type SecretData = BTreeMap<String, ByteString>;

/// What was found in the sale's namespace.
#[derive(Clone, Debug, Default)]
pub struct References {
    /// Signing key and administrator.
    pub auth: Option<SecretData>,
    /// Password of the Redis nodes.
    pub redis: Option<SecretData>,
    /// Connection URI of the database.
    pub database: Option<SecretData>,
    /// Whether the sale's own database was created before: it keeps its first password.
    pub database_exists: bool,
    /// Replicas the app has now: with an autoscaler, the number is not ours to change.
    pub app_replicas: Option<i32>,
    /// Whether an autoscaler of ours is there, wanted or not.
    pub autoscaler_exists: bool,
    /// All seed Jobs of the sale, of this and of earlier stock.
    pub seed_jobs: Vec<Job>,
    /// A part of an earlier sale of this name that the garbage collector has yet to remove.
    pub leftover: Option<String>,
}

/// A reference could not be read.
#[derive(Debug, Error)]
#[error("cannot read {what}")]
pub struct Error {
    what: String,
    source: kube::Error,
}

/// Reads everything the later steps need to know.
///
/// # Errors
/// When the API server cannot be asked; an absent object is not an error.
pub async fn dereference(client: &Client, sale: &FlashSale) -> Result<References, Error> {
    let (name, spec) = (sale.name_any(), &sale.spec);
    let from = Namespace { client, namespace: sale.namespace().unwrap_or_default() };
    let auth = from.get::<Secret>(&names::auth_secret(&name, spec)).await?;
    let redis = from.get::<Secret>(&names::redis_secret(&name)).await?;
    let database = from.get::<Secret>(&names::database_secret(&name, spec)).await?;
    let redis_nodes = from.get::<StatefulSet>(&names::redis(&name)).await?;
    let own_database = from.get::<StatefulSet>(&names::database(&name)).await?;
    let app = from.get::<Deployment>(&name).await?;
    let autoscaler = from.get::<HorizontalPodAutoscaler>(&name).await?;
    let seed_jobs = from.seed_jobs(&name).await?;

    let uid = sale.uid().unwrap_or_default();
    let leftover = [
        other_sales(&uid, auth.as_ref()),
        other_sales(&uid, redis.as_ref()),
        other_sales(&uid, database.as_ref()),
        other_sales(&uid, redis_nodes.as_ref()),
        other_sales(&uid, own_database.as_ref()),
        seed_jobs.iter().find_map(|job| other_sales(&uid, Some(job))),
    ];
    let data = |secret: Option<Secret>| secret.map(|secret| secret.data.unwrap_or_default());
    Ok(References {
        auth: data(auth),
        redis: data(redis),
        database: data(database),
        database_exists: own_database.is_some(),
        app_replicas: app.and_then(|app| app.spec?.replicas),
        autoscaler_exists: autoscaler.is_some_and(|it| controller_uid(&it) == Some(uid.as_str())),
        seed_jobs,
        leftover: leftover.into_iter().flatten().next(),
    })
}

struct Namespace<'a> {
    client: &'a Client,
    namespace: String,
}

impl Namespace<'_> {
    async fn get<K>(&self, name: &str) -> Result<Option<K>, Error>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + DeserializeOwned,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), &self.namespace);
        let failed = |source| Error { what: format!("{} {name}", K::kind(&())), source };
        api.get_opt(name).await.map_err(failed)
    }

    async fn seed_jobs(&self, sale: &str) -> Result<Vec<Job>, Error> {
        let api: Api<Job> = Api::namespaced(self.client.clone(), &self.namespace);
        let seeds = ListParams::default().labels(&names::selector(sale, names::Component::Seed));
        let failed = |source| Error { what: format!("seed Jobs of {sale}"), source };
        Ok(api.list(&seeds).await.map_err(failed)?.items)
    }
}

/// Names `object` if a sale with another uid controls it.
fn other_sales<K>(uid: &str, object: Option<&K>) -> Option<String>
where
    K: Resource<DynamicType = ()>,
{
    let object = object?;
    let owner = controller_uid(object)?;
    (owner != uid).then(|| format!("{} {}", K::kind(&()), object.name_any()))
}

fn controller_uid<K: Resource>(object: &K) -> Option<&str> {
    let owners = object.meta().owner_references.as_ref()?;
    owners.iter().find(|it| it.controller == Some(true)).map(|it| it.uid.as_str())
}
