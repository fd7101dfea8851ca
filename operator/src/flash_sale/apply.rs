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
use super::names::FIELD_MANAGER;
use super::ownership::{ExistingPart, ExistingParts, Owner};
use super::seed;
use crate::crd::FlashSale;

/// A resource version that no object has: an apply with it makes an object, and changes none that
/// appeared since it was looked for. A `create` would do the same, but would own its fields as an
/// update does: what a later apply leaves out would stay.
const NONEXISTENT_VERSION: &str = "1";

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
    NameTaken(ExistingPart),
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
    pub parts: ExistingParts,
    /// The uid of the sale's autoscaler.
    pub autoscaler: Option<String>,
}

/// What came of sending the objects.
#[derive(Clone, Debug)]
pub struct ApplyResult {
    /// As the API server has them now. Absent when an object that the status is made from was
    /// refused and is not there from before.
    pub resources: Option<KubernetesResources<Applied>>,
    /// One message for each object that the API server did not take as it is.
    pub refusals: Vec<String>,
}

/// Puts all objects of a sale in place and takes away what is no longer declared. An object that is
/// refused does not stop the others.
///
/// # Errors
/// When the API server could not be asked, or failed for one object; the next pass starts over. Or
/// when the name of the seed Job is taken.
pub async fn apply(
    client: &Client,
    namespace: &str,
    resources: KubernetesResources<Prepared>,
    existing: &Existing<'_>,
) -> Result<ApplyResult, Error> {
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
    let mut applier = Applier { client, namespace, existing, refusals: Vec::new(), failure: None };
    let app_name = app.name_any();
    // First, and only if absent: the checksums in the pods below are those of these Secrets.
    let missing_secrets = applier.create_all(missing_secrets).await?;
    let catalog = applier.apply(catalog).await?;
    // A Job that finds an earlier catalog would be the record of stock that it did not put in place.
    let catalog_applied = applier.all_accepted();
    let services = applier.apply_all(services).await?;
    let redis = applier.apply(redis).await?;
    let database = match database {
        Some(database) => applier.apply(database).await?.map(Some),
        None => Some(None),
    };
    let seed = if catalog_applied {
        Box::pin(applier.ensure_job(seed)).await?
    } else {
        applier.current(&seed).await?
    };
    let app = applier.apply(app).await?;
    let autoscaler = match (autoscaler, &existing.autoscaler) {
        (Some(autoscaler), _) => applier.apply(autoscaler).await?,
        (None, Some(uid)) => {
            delete::<HorizontalPodAutoscaler>(client, namespace, &app_name, uid).await?;
            None
        }
        (None, None) => None,
    };
    let disruption_budgets = applier.apply_all(disruption_budgets).await?;
    let refusals = applier.refusals()?;
    let (Some(catalog), Some(redis), Some(database), Some(seed), Some(app)) =
        (catalog, redis, database, seed, app)
    else {
        return Ok(ApplyResult { resources: None, refusals });
    };
    let resources = KubernetesResources {
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
    };
    Ok(ApplyResult { resources: Some(resources), refusals })
}

/// Deletes seed Jobs that are no longer needed.
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

/// Where the objects go, and what the API server did not take.
struct Applier<'a> {
    client: &'a Client,
    namespace: &'a str,
    existing: &'a Existing<'a>,
    refusals: Vec<String>,
    /// The first object for which the API server failed in a way that may pass.
    failure: Option<Error>,
}

impl Applier<'_> {
    fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), self.namespace)
    }

    /// Whether every object until now was taken.
    fn all_accepted(&self) -> bool {
        self.refusals.is_empty() && self.failure.is_none()
    }

    /// What was refused; an object that failed otherwise makes the whole pass fail.
    fn refusals(self) -> Result<Vec<String>, Error> {
        self.failure.map_or(Ok(self.refusals), Err)
    }

    async fn apply_all<K: Child>(&mut self, objects: Vec<K>) -> Result<Vec<K>, Error> {
        let mut applied = Vec::with_capacity(objects.len());
        for object in objects {
            applied.extend(self.apply(object).await?);
        }
        Ok(applied)
    }

    async fn create_all<K: Child>(&mut self, objects: Vec<K>) -> Result<Vec<K>, Error> {
        let mut created = Vec::with_capacity(objects.len());
        for object in objects {
            created.extend(self.create(object).await?);
        }
        Ok(created)
    }

    /// Changes the object that was found, or makes one where there was none: never one that took its
    /// place since.
    async fn apply<K: Child>(&mut self, mut object: K) -> Result<Option<K>, Error> {
        let name = object.name_any();
        match self.existing.parts.uid::<K>(&name) {
            Some(uid) => object.meta_mut().uid = Some(uid.to_owned()),
            None => object.meta_mut().resource_version = Some(NONEXISTENT_VERSION.to_owned()),
        }
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let patched = self.api().patch(&name, &params, &Patch::Apply(&object)).await;
        self.handle_response(&object, patched).await
    }

    async fn create<K: Child>(&mut self, object: K) -> Result<Option<K>, Error> {
        let params =
            PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        let created = self.api().create(&params, &object).await;
        self.handle_response(&object, created).await
    }

    /// The seed Job, which can't be changed: one that does what `wanted` does is kept, and one that
    /// was to do it in another way, and has not, is made again.
    async fn ensure_job(&mut self, wanted: Job) -> Result<Option<Job>, Error> {
        let Some(found) = self.get::<Job>(&wanted.name_any()).await? else {
            return self.create(wanted).await;
        };
        let owner = ExistingPart::new(self.existing.sale, &found);
        if *owner.owner() != Owner::ThisSale {
            return Err(Error::NameTaken(owner));
        }
        if !seed::is_outdated(&found, &wanted) {
            return Ok(Some(found));
        }
        let uid = found.uid().unwrap_or_default();
        delete::<Job>(self.client, self.namespace, &found.name_any(), &uid).await?;
        self.create(wanted).await
    }

    /// What the API server answered for `object`; where it did not take it, the object as it is.
    async fn handle_response<K: Child>(
        &mut self,
        object: &K,
        response: kube::Result<K>,
    ) -> Result<Option<K>, Error> {
        let error = match response {
            Ok(accepted) => return Ok(Some(accepted)),
            Err(source) => api_error::<K>(&object.name_any(), source),
        };
        match error {
            Error::Refused { .. } => self.refusals.push(error.to_string()),
            // An answer about this object, such as a webhook's that is away: the others may do.
            Error::Api { source: kube::Error::Api(_), .. } => {
                self.failure.get_or_insert(error);
            }
            Error::Api { .. } | Error::NameTaken(_) => return Err(error),
        }
        self.current(object).await
    }

    /// The object as it is, if it is there and the sale's own.
    async fn current<K: Child>(&self, object: &K) -> Result<Option<K>, Error> {
        let found = self.get::<K>(&object.name_any()).await?;
        let is_own = |found: &K| Owner::of(self.existing.sale, found.meta()) == Owner::ThisSale;
        Ok(found.filter(is_own))
    }

    async fn get<K: Child>(&self, name: &str) -> Result<Option<K>, Error> {
        let found = self.api::<K>().get_opt(name).await;
        found.map_err(|source| api_error::<K>(name, source))
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
        Err(source) => Err(api_error::<K>(name, source)),
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

/// Invalid, forbidden and bad (immutable field, quota, policy) do not go away by trying harder.
fn api_error<K: Child>(name: &str, source: kube::Error) -> Error {
    let object = format!("{} {name}", K::kind(&()));
    match source {
        kube::Error::Api(status)
            if (status.is_invalid() && !uid_differs(&status))
                || status.is_forbidden()
                || status.code == 400 =>
        {
            Error::Refused { object, message: status.message.clone() }
        }
        source => Error::Api { object, source },
    }
}

/// Whether the object is not the one that was found. The API server calls the uid an immutable field
/// then.
fn uid_differs(status: &Status) -> bool {
    let causes = status.details.as_ref().map(|details| details.causes.as_slice());
    causes.unwrap_or_default().iter().any(|cause| cause.field == "metadata.uid")
}
