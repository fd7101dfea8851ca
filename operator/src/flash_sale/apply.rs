//! Step 4: applies the objects. The only step that changes anything except the status.

use std::fmt::Debug;
use std::marker::PhantomData;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::networking::v1::{Ingress, NetworkPolicy};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::Status;
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use super::build::{Applied, KubernetesResources, Prepared};
use super::hibernation;
use super::names::FIELD_MANAGER;
use super::network::NetworkParts;
use super::ownership::{ExistingPart, ExistingParts, Owner};
use super::seed;
use crate::crd::FlashSale;
use crate::gateway_api::{HttpRoute, is_not_served};

/// A resource version that no object has. An apply with it can create an object, but cannot change one that
/// was created in the meantime. After a plain `create`, fields that a later apply omits would stay.
const NONEXISTENT_VERSION: &str = "1";

/// An object could not be applied.
#[derive(Debug, Error)]
pub enum Error {
    /// The API server refuses the object. An immediate retry is useless.
    #[error("{object} was refused: {message}")]
    Refused {
        /// Kind and name.
        object: String,
        /// Message of the API server.
        message: String,
    },
    /// Another owner's object has the name.
    #[error("the name is taken")]
    NameTaken(ExistingPart),
    /// A request to the API server failed.
    #[error("cannot apply {object}")]
    Api {
        /// Kind and name.
        object: String,
        /// The client error.
        source: kube::Error,
    },
}

/// Existing parts of a sale.
#[derive(Clone, Debug)]
pub struct Existing<'a> {
    /// The sale.
    pub sale: &'a FlashSale,
    /// Existing objects with the names of parts; the sale owns all of them.
    pub parts: ExistingParts,
    /// Uid of the sale's autoscaler.
    pub autoscaler: Option<String>,
    /// Network parts of the sale that are no longer declared.
    pub undeclared: ExistingParts,
}

/// Result of applying the objects.
#[derive(Clone, Debug)]
pub struct ApplyResult {
    /// Objects as the API server has them now. Absent if an object that the status needs was refused and does not
    /// exist from an earlier reconcile.
    pub resources: Option<KubernetesResources<Applied>>,
    /// One message per refused object.
    pub refusals: Vec<String>,
}

/// Applies all objects of a sale and deletes those that are no longer declared. A refused object does not
/// stop the others.
///
/// # Errors
/// When a request to the API server fails; the next reconcile starts over. Also when another object has the
/// name of the seed Job.
pub async fn apply(
    client: &Client,
    namespace: &str,
    resources: KubernetesResources<Prepared>,
    existing: &Existing<'_>,
) -> Result<ApplyResult, Error> {
    let hibernates = hibernation::is_applied(&resources);
    // No `..`: a forgotten child does not compile.
    let KubernetesResources {
        missing_secrets,
        certificates,
        catalog,
        services,
        network,
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
    // Secrets first, and only if absent: pod templates below contain their checksums.
    let missing_secrets = applier.create_all(missing_secrets).await?;
    let certificates = match certificates {
        Some(certificates) => applier.apply(certificates).await?,
        None => None,
    };
    let catalog = applier.apply(catalog).await?;
    // A Job that reads an old catalog would record stock that it did not seed.
    let catalog_applied = applier.all_accepted();
    let services = applier.apply_all(services).await?;
    let network = Box::pin(applier.apply_network(network)).await?;
    let redis = applier.apply(redis).await?;
    let database = match database {
        Some(database) => applier.apply(database).await?.map(Some),
        None => Some(None),
    };
    let seed = if hibernates {
        // Without pods nothing can be seeded. The Job is created when the sale wakes.
        applier.current(&seed).await?.or(Some(seed))
    } else if catalog_applied {
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
        certificates,
        catalog,
        services,
        network,
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

/// Deletes obsolete seed Jobs.
///
/// # Errors
/// When a request to the API server fails.
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

/// Applies objects in a namespace and collects refusals.
struct Applier<'a> {
    client: &'a Client,
    namespace: &'a str,
    existing: &'a Existing<'a>,
    refusals: Vec<String>,
    /// The first transient failure of an object.
    failure: Option<Error>,
}

impl Applier<'_> {
    fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), self.namespace)
    }

    /// Whether the API server accepted every object so far.
    fn all_accepted(&self) -> bool {
        self.refusals.is_empty() && self.failure.is_none()
    }

    /// The refusals; a transient failure of an object fails the whole reconcile.
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

    /// Applies the declared network parts and deletes the others.
    async fn apply_network(&mut self, parts: NetworkParts) -> Result<NetworkParts, Error> {
        let NetworkParts { policies, ingress, http_route, gateway_api_missing: _ } = parts;
        self.delete_undeclared::<NetworkPolicy>().await?;
        self.delete_undeclared::<Ingress>().await?;
        self.delete_undeclared::<HttpRoute>().await?;
        let policies = self.apply_all(policies).await?;
        let ingress = match ingress {
            Some(ingress) => self.apply(ingress).await?,
            None => None,
        };
        let (http_route, gateway_api_missing) = match http_route {
            Some(route) => self.apply_route(route).await?,
            None => (None, false),
        };
        Ok(NetworkParts { policies, ingress, http_route, gateway_api_missing })
    }

    /// Applies the route. The second value: the cluster has no such definition.
    async fn apply_route(&mut self, route: HttpRoute) -> Result<(Option<HttpRoute>, bool), Error> {
        let routes = self.api::<HttpRoute>();
        match routes.list_metadata(&ListParams::default().limit(1)).await {
            Err(kube::Error::Api(status)) if is_not_served(&status) => Ok((None, true)),
            // Other errors are those of the apply itself.
            _ => Ok((self.apply(route).await?, false)),
        }
    }

    async fn delete_undeclared<K: Child>(&self) -> Result<(), Error> {
        for part in self.existing.undeclared.of_kind::<K>() {
            delete::<K>(self.client, self.namespace, part.name(), part.uid()).await?;
        }
        Ok(())
    }

    /// Changes the existing object, or creates an absent one. Never changes an object that replaced it in
    /// the meantime.
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

    /// Creates the seed Job. A Job is immutable: an equivalent one is kept, and an unfinished one with another
    /// template is deleted and created again.
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

    /// The applied object, or the existing object after a refusal.
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
            // A failure of this object, such as an unavailable webhook: other objects can still be applied.
            Error::Api { source: kube::Error::Api(_), .. } => {
                self.failure.get_or_insert(error);
            }
            Error::Api { .. } | Error::NameTaken(_) => return Err(error),
        }
        self.current(object).await
    }

    /// The existing object, if the sale owns it.
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

/// Deletes the object with this uid, never one that replaced it.
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

/// Bounds that all children share.
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

/// Invalid, forbidden and bad requests (immutable field, quota, policy) are refusals; other failures are transient.
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

/// Whether the object was replaced in the meantime. The API server reports a change of the immutable uid then.
fn uid_differs(status: &Status) -> bool {
    let causes = status.details.as_ref().map(|details| details.causes.as_slice());
    causes.unwrap_or_default().iter().any(|cause| cause.field == "metadata.uid")
}
