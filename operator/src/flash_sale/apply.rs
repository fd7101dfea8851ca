//! Step 4: applies the objects. The only step that changes anything except the status.

mod backup;

use std::marker::PhantomData;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::networking::v1::{Ingress, NetworkPolicy};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client, Resource, ResourceExt};

use super::applied_versions::{AppliedVersions, Declared};
pub use super::apply_error::Error;
use super::apply_error::{api_error, part};
use super::build::{Applied, KubernetesResources, Prepared};
use super::child::{Child, version};
use super::hibernation;
use super::names::FIELD_MANAGER;
use super::network::NetworkParts;
use super::ownership::{ExistingPart, ExistingParts, Owner};
use super::report_tokens::SaleKey;
use super::seed;
use crate::crd::FlashSale;
use crate::gateway_api::{HttpRoute, is_not_served};

/// A resource version that no object has. An apply with it can create an object, but cannot change one that
/// was created in the meantime. After a plain `create`, fields that a later apply omits would stay.
const NONEXISTENT_VERSION: &str = "1";

/// Existing parts of a sale.
#[derive(Clone, Debug)]
pub struct Existing<'a> {
    /// The sale.
    pub sale: &'a FlashSale,
    /// Existing objects with the names of parts; the sale owns all of them.
    pub parts: ExistingParts,
    /// Uid of the sale's autoscaler.
    pub autoscaler: Option<String>,
    /// Parts of the sale that are no longer declared.
    pub undeclared: ExistingParts,
    /// What earlier reconciles applied.
    pub applied: AppliedVersions,
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
        backup,
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
    let secrets_exist = applier.all_accepted();
    let certificates = match certificates {
        Some(certificates) => applier.apply_declared(certificates).await?,
        None => None,
    };
    let catalog = applier.apply_declared(catalog).await?;
    // A Job that reads an old catalog would record stock that it did not seed.
    let catalog_applied = applier.all_accepted();
    let (exposed, internal) = services.into_iter().partition(|it| it.name_any() == app_name);
    let exposed = applier.apply_all(exposed).await?;
    let services = [exposed, applier.apply_all_declared(internal).await?].concat();
    let network = Box::pin(applier.apply_network(network)).await?;
    let redis = applier.apply_workload(redis, secrets_exist).await?;
    let database = match database {
        Some(database) => applier.apply_workload(database, secrets_exist).await?.map(Some),
        None => Some(None),
    };
    let backup = Box::pin(applier.apply_backup(backup)).await?;
    let seed = if hibernates {
        // Without pods nothing can be seeded. The Job is created when the sale wakes.
        applier.current(&seed).await?.or(Some(seed))
    } else if catalog_applied {
        Box::pin(applier.ensure_job(seed)).await?
    } else {
        applier.current(&seed).await?
    };
    let app = applier.apply_workload(app, secrets_exist).await?;
    let autoscaler = match (autoscaler, &existing.autoscaler) {
        (Some(autoscaler), _) => applier.apply_declared(autoscaler).await?,
        (None, Some(uid)) => {
            delete::<HorizontalPodAutoscaler>(client, namespace, &app_name, uid).await?;
            None
        }
        (None, None) => None,
    };
    let disruption_budgets = applier.apply_all_declared(disruption_budgets).await?;
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
        backup,
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

    /// The same for objects that have no status to read.
    async fn apply_all_declared<K: Child>(&mut self, objects: Vec<K>) -> Result<Vec<K>, Error> {
        let mut applied = Vec::with_capacity(objects.len());
        for object in objects {
            applied.extend(self.apply_declared(object).await?);
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
        let policies = self.apply_all_declared(policies).await?;
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

    /// The existing object if it is unchanged since the last apply of the same declaration; else applies it.
    async fn apply<K: Child>(&mut self, object: K) -> Result<Option<K>, Error> {
        if self.is_unchanged(&object)
            && let Some(found) = self.current(&object).await?
        {
            return Ok(Some(found));
        }
        Box::pin(self.patch(object)).await
    }

    /// Applies an object with pods if their Secrets exist. Otherwise the existing object stays as it is: new pods could
    /// not start, and the checksums in the declared template are those of values that are not stored.
    async fn apply_workload<K: Child>(
        &mut self,
        object: K,
        secrets_exist: bool,
    ) -> Result<Option<K>, Error> {
        if secrets_exist {
            Box::pin(self.apply(object)).await
        } else {
            Box::pin(self.current(&object)).await
        }
    }

    /// The same as `apply` for an object that has no status to read: it is not read again.
    async fn apply_declared<K: Child>(&mut self, object: K) -> Result<Option<K>, Error> {
        if self.is_unchanged(&object) {
            Ok(Some(object))
        } else {
            Box::pin(self.patch(object)).await
        }
    }

    fn is_unchanged<K: Child>(&self, object: &K) -> bool {
        let name = object.name_any();
        let (Some(found), Some(declared)) =
            (self.existing.parts.find::<K>(&name), Declared::of(object))
        else {
            return false;
        };
        let version = (found.uid(), found.version());
        self.existing.applied.is_current(&self.sale(), &part::<K>(&name), declared, version)
    }

    /// Changes the existing object, or creates an absent one. Never changes an object that replaced it in
    /// the meantime.
    async fn patch<K: Child>(&mut self, mut object: K) -> Result<Option<K>, Error> {
        let (name, declared) = (object.name_any(), Declared::of(&object));
        match self.existing.parts.uid::<K>(&name) {
            Some(uid) => object.meta_mut().uid = Some(uid.to_owned()),
            None => object.meta_mut().resource_version = Some(NONEXISTENT_VERSION.to_owned()),
        }
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let patched = self.api::<K>().patch(&name, &params, &Patch::Apply(&object)).await;
        if let (Ok(patched), Some(declared)) = (&patched, declared)
            && let (Some(uid), Some(version)) = (patched.uid(), version(patched))
        {
            let version = (uid.as_str(), version.as_str());
            self.existing.applied.set(&self.sale(), part::<K>(&name), declared, version);
        }
        self.handle_response(&object, patched).await
    }

    fn sale(&self) -> SaleKey {
        (self.namespace.to_owned(), self.existing.sale.name_any())
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
