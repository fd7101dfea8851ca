//! Step 4: sends the objects to the API server. The only step that changes anything but status.

use std::fmt::Debug;
use std::marker::PhantomData;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::batch::v1::Job;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use super::build::{Applied, KubernetesResources, Prepared};

/// Owner of the fields that the operator sets.
pub const FIELD_MANAGER: &str = "flashsale-operator";

/// An object could not be put in place.
#[derive(Debug, Error)]
pub enum Error {
    /// The API server does not take the object as it is; trying again at once is of no use.
    #[error("{object} was refused: {message}")]
    Refused {
        /// Kind and name.
        object: String,
        /// The API server's words.
        message: String,
    },
    /// The API server could not be asked.
    #[error("cannot apply {object}")]
    Api {
        /// Kind and name.
        object: String,
        /// Why.
        source: kube::Error,
    },
}

/// Puts all objects of a sale in place and takes away what is no longer declared.
///
/// # Errors
/// At the first object that is refused or can't be sent; the next pass starts over.
pub async fn apply(
    client: &Client,
    namespace: &str,
    resources: KubernetesResources<Prepared>,
    autoscaler_exists: bool,
) -> Result<KubernetesResources<Applied>, Error> {
    // No `..`: a child that is forgotten here does not compile.
    let KubernetesResources {
        missing_secrets,
        catalog,
        services,
        redis,
        database,
        seed,
        app,
        autoscaler,
        disruption_budgets,
        state: PhantomData,
    } = resources;
    let to = Cluster { client, namespace };
    let app_name = app.name_any();
    Ok(KubernetesResources {
        // First, and only if absent: the checksums in the pods below are those of these Secrets.
        missing_secrets: to.create_all(missing_secrets).await?,
        catalog: to.apply(catalog).await?,
        services: to.apply_all(services).await?,
        redis: to.apply(redis).await?,
        database: match database {
            Some(database) => Some(to.apply(database).await?),
            None => None,
        },
        seed: Box::pin(to.create_if_absent(seed)).await?,
        app: to.apply(app).await?,
        autoscaler: match autoscaler {
            Some(autoscaler) => Some(to.apply(autoscaler).await?),
            None if autoscaler_exists => {
                to.delete::<HorizontalPodAutoscaler>(&app_name).await?;
                None
            }
            None => None,
        },
        disruption_budgets: to.apply_all(disruption_budgets).await?,
        state: PhantomData,
    })
}

/// Deletes seed Jobs other than `current`: their stock is part of it.
///
/// # Errors
/// When the API server can't be asked.
pub async fn delete_jobs<'a>(
    client: &Client,
    namespace: &str,
    jobs: impl Iterator<Item = &'a Job>,
) -> Result<(), Error> {
    for job in jobs {
        Cluster { client, namespace }.delete::<Job>(&job.name_any()).await?;
    }
    Ok(())
}

#[derive(Clone, Copy)]
struct Cluster<'a> {
    client: &'a Client,
    namespace: &'a str,
}

impl Cluster<'_> {
    fn api<K>(self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), self.namespace)
    }

    async fn apply_all<K: Child>(self, objects: Vec<K>) -> Result<Vec<K>, Error> {
        let mut applied = Vec::with_capacity(objects.len());
        for object in objects {
            applied.push(self.apply(object).await?);
        }
        Ok(applied)
    }

    async fn create_all<K: Child>(self, objects: Vec<K>) -> Result<Vec<K>, Error> {
        let mut created = Vec::with_capacity(objects.len());
        for object in objects {
            created.push(self.create(object).await?);
        }
        Ok(created)
    }

    async fn apply<K: Child>(self, object: K) -> Result<K, Error> {
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let patched = self.api().patch(&object.name_any(), &params, &Patch::Apply(&object)).await;
        patched.map_err(|source| failed::<K>(&object.name_any(), source))
    }

    async fn create<K: Child>(self, object: K) -> Result<K, Error> {
        let params =
            PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        let created = self.api().create(&params, &object).await;
        created.map_err(|source| failed::<K>(&object.name_any(), source))
    }

    /// For objects that can't change: one that is there is the same.
    async fn create_if_absent<K: Child>(self, object: K) -> Result<K, Error> {
        let name = object.name_any();
        let found = self.api::<K>().get_opt(&name).await;
        match found.map_err(|source| failed::<K>(&name, source))? {
            Some(found) => Ok(found),
            None => self.create(object).await,
        }
    }

    async fn delete<K: Child>(self, name: &str) -> Result<(), Error> {
        match self.api::<K>().delete(name, &DeleteParams::background()).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            Err(source) => Err(failed::<K>(name, source)),
        }
    }
}

/// What all children have in common.
trait Child:
    Resource<Scope = NamespaceResourceScope, DynamicType = ()>
    + Clone
    + Debug
    + Serialize
    + DeserializeOwned
{
}

impl<K> Child for K where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + Debug
        + Serialize
        + DeserializeOwned
{
}

/// Invalid and forbidden (immutable field, quota, policy) do not go away by trying harder.
fn failed<K: Child>(name: &str, source: kube::Error) -> Error {
    let object = format!("{} {name}", K::kind(&()));
    match source {
        kube::Error::Api(status) if status.is_invalid() || status.is_forbidden() => {
            Error::Refused { object, message: status.message.clone() }
        }
        source => Error::Api { object, source },
    }
}
