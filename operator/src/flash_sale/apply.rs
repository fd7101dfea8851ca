//! Step 4: sends the objects to the API server. The only step that changes anything but status.

use std::fmt::Debug;
use std::marker::PhantomData;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::batch::v1::Job;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::Status;
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use super::build::{Applied, KubernetesResources, Prepared};
use super::ownership::{Found, FoundParts, Owner};
use crate::crd::FlashSale;

/// Owner of the fields that the operator sets.
pub const FIELD_MANAGER: &str = "flashsale-operator";
/// A resource version that no object has: an apply with it makes an object, and changes none that
/// appeared since it was looked for. A `create` would do the same, but would own its fields as an
/// update does: what a later apply leaves out would stay.
const ABSENT: &str = "1";

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
    /// The object's name is that of an object of somebody else.
    #[error("the name is taken")]
    Taken(Found),
    /// The API server could not be asked.
    #[error("cannot apply {object}")]
    Api {
        /// Kind and name.
        object: String,
        /// Why.
        source: kube::Error,
    },
}

/// What of a sale is there already.
#[derive(Clone, Debug)]
pub struct Existing<'a> {
    /// The sale.
    pub sale: &'a FlashSale,
    /// Objects that have the names of parts, all of them the sale's own.
    pub parts: FoundParts,
    /// The uid of the sale's autoscaler.
    pub autoscaler: Option<String>,
}

/// Puts all objects of a sale in place and takes away what is no longer declared.
///
/// # Errors
/// At the first object that is refused or can't be sent; the next pass starts over.
pub async fn apply(
    client: &Client,
    namespace: &str,
    resources: KubernetesResources<Prepared>,
    existing: &Existing<'_>,
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
    let to = Cluster { client, namespace, existing };
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
        autoscaler: match (autoscaler, &existing.autoscaler) {
            (Some(autoscaler), _) => Some(to.apply(autoscaler).await?),
            (None, Some(uid)) => {
                delete::<HorizontalPodAutoscaler>(client, namespace, &app_name, uid).await?;
                None
            }
            (None, None) => None,
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
        let uid = job.uid().unwrap_or_default();
        delete::<Job>(client, namespace, &job.name_any(), &uid).await?;
    }
    Ok(())
}

#[derive(Clone, Copy)]
struct Cluster<'a> {
    client: &'a Client,
    namespace: &'a str,
    existing: &'a Existing<'a>,
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

    /// Changes the object that was found, or makes one where there was none: never one that took its
    /// place since.
    async fn apply<K: Child>(self, mut object: K) -> Result<K, Error> {
        let name = object.name_any();
        match self.existing.parts.uid::<K>(&name) {
            Some(uid) => object.meta_mut().uid = Some(uid.to_owned()),
            None => object.meta_mut().resource_version = Some(ABSENT.to_owned()),
        }
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let patched = self.api().patch(&name, &params, &Patch::Apply(&object)).await;
        patched.map_err(|source| failed::<K>(&name, source))
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
            Some(found) => self.ours(found),
            None => self.create(object).await,
        }
    }

    fn ours<K: Child>(self, object: K) -> Result<K, Error> {
        let found = Found::new(self.existing.sale, &object);
        if *found.owner() == Owner::ThisSale { Ok(object) } else { Err(Error::Taken(found)) }
    }
}

/// Deletes the object with this uid, not one that took its place.
async fn delete<K: Child>(
    client: &Client,
    namespace: &str,
    name: &str,
    uid: &str,
) -> Result<(), Error> {
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    let that_one = Preconditions { uid: Some(uid.to_owned()), resource_version: None };
    match api.delete(name, &DeleteParams::background().preconditions(that_one)).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => Ok(()),
        Err(source) => Err(failed::<K>(name, source)),
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
        kube::Error::Api(status)
            if (status.is_invalid() && !is_another_object(&status)) || status.is_forbidden() =>
        {
            Error::Refused { object, message: status.message.clone() }
        }
        source => Error::Api { object, source },
    }
}

/// Whether the object is not the one that was found. The API server calls the uid an immutable field
/// then.
fn is_another_object(status: &Status) -> bool {
    let causes = status.details.as_ref().map(|details| details.causes.as_slice());
    causes.unwrap_or_default().iter().any(|cause| cause.field == "metadata.uid")
}
