//! Step 1: reads the objects that the sale references and its existing parts. Makes no decisions.

use std::collections::BTreeMap;
use std::fmt::Debug;

use futures::future::try_join_all;
use futures::try_join;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Secret, Service};
use k8s_openapi::api::networking::v1::{Ingress, NetworkPolicy};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::{ByteString, NamespaceResourceScope};
use kube::api::ListParams;
use kube::core::PartialObjectMeta;
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use thiserror::Error;

use super::child::Child;
use super::names;
use super::nodes::ExistingNodes;
use super::operator_pods::OperatorPods;
use super::ownership::{ExistingPart, ExistingParts, Owner};
use super::retained::{RetainedData, adopted_name};
use super::secret_names::SecretNames;
use crate::crd::{FlashSale, StoresTlsMode};
use crate::gateway_api::{HttpRoute, is_not_served};

/// Keys and values of a Secret.
pub type SecretData = BTreeMap<String, ByteString>;

/// Secrets of events of orders, those that are declared and exist.
#[derive(Clone, Debug, Default)]
pub struct EventSecrets {
    /// Key of the webhooks.
    pub webhook_key: Option<SecretData>,
    /// Authorities of the receiver of webhooks.
    pub webhook_ca: Option<SecretData>,
    /// Log-in to NATS.
    pub nats: Option<SecretData>,
    /// Authorities of NATS.
    pub nats_ca: Option<SecretData>,
}

/// Objects found in the sale's namespace.
#[derive(Clone, Debug, Default)]
pub struct References {
    /// Secret with signing key and administrator.
    pub auth: Option<SecretData>,
    /// Secret with the password of the Redis nodes.
    pub redis: Option<SecretData>,
    /// Secret with the connection URI of the database.
    pub database: Option<SecretData>,
    /// Secret of the operator: its token for the app, and the key of the checksums.
    pub operator: Option<SecretData>,
    /// Secret with the certificate of the app.
    pub tls: Option<SecretData>,
    /// Secret with the signing secret of Stripe.
    pub stripe: Option<SecretData>,
    /// Secret with the certificates of the Redis nodes and of the sale's own database.
    pub stores_tls: Option<Secret>,
    /// Secrets of events of orders.
    pub events: EventSecrets,
    /// Resource version of each Secret that exists, by name.
    pub secret_versions: BTreeMap<String, String>,
    /// Whether the sale's own database or its volume exists. The database keeps its first password.
    pub database_exists: bool,
    /// Current replicas of the app. With an autoscaler, the operator does not change the number.
    pub app_replicas: Option<i32>,
    /// Whether a replica of the app is ready.
    pub app_is_ready: bool,
    /// Redis nodes that exist, and those with which the app starts.
    pub nodes: ExistingNodes,
    /// Uid of the sale's autoscaler if it exists, declared or not.
    pub autoscaler: Option<String>,
    /// Existing StatefulSets of this sale: Redis nodes and its own database.
    pub stateful_sets: Vec<StatefulSet>,
    /// Data under the names of this sale.
    pub retained: RetainedData,
    /// All seed Jobs of the sale, including those of earlier stock.
    pub seed_jobs: Vec<Job>,
    /// Existing objects with the names of the sale's parts.
    pub parts: ExistingParts,
    /// Parts of the sale that it no longer declares.
    pub undeclared: ExistingParts,
    /// The operator's own pods. They are no object of the sale's namespace; the driver adds them.
    pub operator_pods: Option<OperatorPods>,
}

/// An object could not be read.
#[derive(Debug, Error)]
#[error("cannot read {what}")]
pub struct Error {
    what: String,
    source: kube::Error,
}

/// Reads all inputs of the later steps.
///
/// # Errors
/// When a request to the API server fails. An absent object is no error.
pub async fn dereference(client: &Client, sale: &FlashSale) -> Result<References, Error> {
    let (name, spec) = (sale.name_any(), &sale.spec);
    let from = Namespace { client, namespace: sale.namespace().unwrap_or_default() };
    let secrets = SecretNames::of(sale);
    let (auth, redis, database, operator, tls, stripe, stores_tls) = try_join!(
        from.get::<Secret>(&secrets.auth),
        from.get::<Secret>(&secrets.redis),
        from.get::<Secret>(&secrets.database),
        from.get::<Secret>(&secrets.operator),
        from.get_declared::<Secret>(secrets.tls.as_deref()),
        from.get_declared::<Secret>(secrets.stripe.as_deref()),
        from.get_declared::<Secret>(secrets.stores_tls.as_deref()),
    )?;
    let (events_key, events_ca, events_nats, events_nats_ca) = try_join!(
        from.get_declared::<Secret>(secrets.events_key.as_deref()),
        from.get_declared::<Secret>(secrets.events_ca.as_deref()),
        from.get_declared::<Secret>(secrets.events_nats.as_deref()),
        from.get_declared::<Secret>(secrets.events_nats_ca.as_deref()),
    )?;
    let (app, autoscaler, seed_jobs) = try_join!(
        from.get::<Deployment>(&name),
        from.get::<HorizontalPodAutoscaler>(&name),
        from.seed_jobs(&name),
    )?;

    let sets = from.stateful_sets(sale).await?;
    let (mut parts, claims) = Box::pin(from.parts(sale, &sets)).await?;
    let own_database = names::database(&adopted_name(sale));
    let volume = names::volume_claim(&own_database, 0);
    let database_exists = parts.uid::<StatefulSet>(&own_database).is_some()
        || parts.uid::<PersistentVolumeClaim>(&volume).is_some();
    let retained = RetainedData {
        secret: database
            .as_ref()
            .map(|secret| secret.metadata.clone())
            .filter(|_| spec.database.secret_ref.is_none()),
        claims,
        database_exists: parts.uid::<StatefulSet>(&own_database).is_some(),
    };
    parts.0.extend(app.iter().map(|app| ExistingPart::new(sale, app)));
    // An undeclared autoscaler of another owner does not matter.
    let wanted = autoscaler.iter().filter(|_| spec.app.autoscaling.is_some());
    parts.0.extend(wanted.map(|autoscaler| ExistingPart::of_child(sale, autoscaler)));
    let (optional, undeclared) = from.optional_parts(sale).await?;
    parts.0.extend(optional.0);
    // Secrets are only read, so any owner is fine, except an earlier sale. Seed Jobs of an earlier sale
    // must not count as seeded stock.
    let of_events = [&events_key, &events_ca, &events_nats, &events_nats_ca];
    let secrets = [&auth, &redis, &database, &operator, &tls, &stripe, &stores_tls];
    let secrets = secrets.into_iter().chain(of_events).flatten();
    let of_earlier = secrets
        .clone()
        .map(|secret| ExistingPart::new(sale, secret))
        .chain(seed_jobs.iter().map(|job| ExistingPart::new(sale, job)))
        .filter(|found| *found.owner() == Owner::EarlierSale);
    parts.0.extend(of_earlier);

    // Except this one, which the operator changes.
    let managed = spec.stores.tls_mode() == StoresTlsMode::Managed;
    let managed = stores_tls.iter().filter(|_| managed).map(|it| ExistingPart::new(sale, it));
    parts.0.extend(managed.filter(|found| *found.owner() != Owner::EarlierSale));
    let secret_versions = secrets
        .filter_map(|secret| Some((secret.name_any(), secret.resource_version()?)))
        .collect();
    let is_ours = |metadata: &ObjectMeta| Owner::of(sale, metadata) == Owner::ThisSale;
    let data = |secret: Option<Secret>| secret.map(|secret| secret.data.unwrap_or_default());
    let redis_set = sets.iter().find(|set| set.name == names::redis(&name));
    let redis_set = redis_set.and_then(|set| set.found.as_ref());
    let nodes = ExistingNodes::of(
        app.as_ref().filter(|app| is_ours(&app.metadata)),
        redis_set.filter(|set| is_ours(&set.metadata)),
    );
    Ok(References {
        nodes,
        auth: data(auth),
        redis: data(redis),
        database: data(database),
        operator: data(operator),
        tls: data(tls),
        stripe: data(stripe),
        stores_tls,
        events: EventSecrets {
            webhook_key: data(events_key),
            webhook_ca: data(events_ca),
            nats: data(events_nats),
            nats_ca: data(events_nats_ca),
        },
        secret_versions,
        database_exists,
        retained,
        stateful_sets: sets
            .into_iter()
            .filter_map(|set| set.found)
            .filter(|it| is_ours(&it.metadata))
            .collect(),
        app_is_ready: app.as_ref().is_some_and(is_ready),
        app_replicas: app.and_then(|app| app.spec?.replicas),
        autoscaler: autoscaler.filter(|it| is_ours(&it.metadata)).and_then(|it| it.uid()),
        seed_jobs: seed_jobs.into_iter().filter(|job| is_ours(&job.metadata)).collect(),
        parts,
        undeclared,
        operator_pods: None,
    })
}

fn is_ready(app: &Deployment) -> bool {
    let replicas = app.status.as_ref().and_then(|status| status.ready_replicas);
    replicas.is_some_and(|ready| ready > 0)
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

    /// The object, if the sale names one.
    async fn get_declared<K>(&self, name: Option<&str>) -> Result<Option<K>, Error>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + DeserializeOwned,
    {
        match name {
            Some(name) => self.get(name).await,
            None => Ok(None),
        }
    }

    async fn metadata<K>(&self, name: &str) -> Result<Option<PartialObjectMeta<K>>, Error>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + DeserializeOwned,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), &self.namespace);
        let failed = |source| Error { what: format!("{} {name}", K::kind(&())), source };
        match api.get_metadata_opt(name).await {
            Err(kube::Error::Api(status)) if is_not_served(&status) => Ok(None),
            found => found.map_err(failed),
        }
    }

    /// Metadata of the other parts with fixed names, and of the volume claims among them.
    async fn parts(
        &self,
        sale: &FlashSale,
        sets: &[DeclaredStatefulSet],
    ) -> Result<(ExistingParts, Vec<ObjectMeta>), Error> {
        let name = sale.name_any();
        let (redis, database) = (names::redis(&name), names::database(&adopted_name(sale)));
        let finder = PartFinder { from: self, sale };
        let mut services = vec![name.clone(), names::pods(&name), redis.clone()];
        if sale.spec.database.secret_ref.is_none() {
            services.push(database);
        }
        let sets = sets.iter().map(|set| finder.stateful_set(set));
        let (catalog, budgets) = ([names::catalog(&name)], [name, redis]);
        let (catalog, services, budgets, sets): (_, _, _, Vec<_>) = try_join!(
            finder.all::<ConfigMap>(&catalog),
            finder.all::<Service>(&services),
            finder.children::<PodDisruptionBudget>(&budgets),
            try_join_all(sets),
        )?;
        let (sets, claims): (Vec<_>, Vec<_>) = sets.into_iter().unzip();
        let mut parts = ExistingParts([catalog, services, budgets, sets.concat()].concat());
        if sale.spec.database.backup.is_some() {
            let claim = names::backup_claim(&adopted_name(sale));
            let claim = self.metadata::<PersistentVolumeClaim>(&claim).await?;
            parts.0.extend(claim.map(|it| ExistingPart::backups(sale, &it.metadata)));
        }
        Ok((parts, claims.concat()))
    }

    /// Existing parts that a sale can stop declaring: those with the name of a declared part, and the sale's own that are
    /// no longer declared. An undeclared part of another owner does not matter.
    async fn optional_parts(
        &self,
        sale: &FlashSale,
    ) -> Result<(ExistingParts, ExistingParts), Error> {
        let (name, spec) = (sale.name_any(), &sale.spec);
        let finder = PartFinder { from: self, sale };
        let policies = [names::app_policy(&name), names::redis(&name)];
        let database = [names::database(&name)];
        let backup = [names::backup_cron_job(&name)];
        let (policies, database, backup, ingress, route) = try_join!(
            finder.all::<NetworkPolicy>(&policies),
            finder.all::<NetworkPolicy>(&database),
            finder.children::<CronJob>(&backup),
            finder.all::<Ingress>(std::slice::from_ref(&name)),
            finder.all::<HttpRoute>(std::slice::from_ref(&name)),
        )?;
        let enabled = spec.network_policy.enabled;
        let (mut declared, mut undeclared) = (Vec::new(), Vec::new());
        for (found, is_declared) in [
            (policies, enabled),
            (database, enabled && spec.database.secret_ref.is_none()),
            (backup, spec.database.backup.is_some()),
            (ingress, spec.app.ingress.is_some()),
            (route, spec.app.http_route.is_some()),
        ] {
            let parts = if is_declared { &mut declared } else { &mut undeclared };
            let is_ours = |it: &ExistingPart| *it.owner() == Owner::ThisSale;
            parts.extend(found.into_iter().filter(|it| is_declared || is_ours(it)));
        }
        Ok((ExistingParts(declared), ExistingParts(undeclared)))
    }

    /// StatefulSets that the sale declares.
    async fn stateful_sets(&self, sale: &FlashSale) -> Result<Vec<DeclaredStatefulSet>, Error> {
        let name = sale.name_any();
        let mut wanted = vec![(names::redis(&name), sale.spec.redis.nodes)];
        if sale.spec.database.secret_ref.is_none() {
            wanted.push((names::database(&adopted_name(sale)), 1));
        }
        let find = async |(name, pods): (String, i32)| {
            Ok(DeclaredStatefulSet { found: self.get(&name).await?, name, pods })
        };
        try_join_all(wanted.into_iter().map(find)).await
    }

    async fn seed_jobs(&self, sale: &str) -> Result<Vec<Job>, Error> {
        let api: Api<Job> = Api::namespaced(self.client.clone(), &self.namespace);
        let seeds = ListParams::default().labels(&names::selector(sale, names::Component::Seed));
        let failed = |source| Error { what: format!("seed Jobs of {sale}"), source };
        Ok(api.list(&seeds).await.map_err(failed)?.items)
    }
}

/// A declared `StatefulSet` and the existing one.
struct DeclaredStatefulSet {
    name: String,
    pods: i32,
    found: Option<StatefulSet>,
}

/// Reads metadata of a sale's parts.
#[derive(Clone, Copy)]
struct PartFinder<'a> {
    from: &'a Namespace<'a>,
    sale: &'a FlashSale,
}

impl PartFinder<'_> {
    async fn all<K>(self, names: &[String]) -> Result<Vec<ExistingPart>, Error>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + DeserializeOwned,
    {
        let found = try_join_all(names.iter().map(|name| self.from.metadata::<K>(name))).await?;
        Ok(found.iter().flatten().map(|object| ExistingPart::new(self.sale, object)).collect())
    }

    /// The same of whole objects, because their version depends on the kind.
    async fn children<K: Child>(self, names: &[String]) -> Result<Vec<ExistingPart>, Error> {
        let found = try_join_all(names.iter().map(|name| self.from.get::<K>(name))).await?;
        Ok(found.iter().flatten().map(|object| ExistingPart::of_child(self.sale, object)).collect())
    }

    /// The `StatefulSet`; without one, the volume claims that a new one would adopt and delete with the sale.
    async fn stateful_set(
        self,
        set: &DeclaredStatefulSet,
    ) -> Result<(Vec<ExistingPart>, Vec<ObjectMeta>), Error> {
        if let Some(found) = &set.found {
            return Ok((vec![ExistingPart::new(self.sale, found)], Vec::new()));
        }
        let claims: Vec<String> =
            (0..set.pods).map(|pod| names::volume_claim(&set.name, pod)).collect();
        let claims = claims.iter().map(|name| self.from.metadata::<PersistentVolumeClaim>(name));
        let claims = try_join_all(claims).await?.into_iter().flatten();
        let claims: Vec<ObjectMeta> = claims.map(|claim| claim.metadata).collect();
        let parts = claims.iter().map(|claim| ExistingPart::volume(self.sale, claim)).collect();
        Ok((parts, claims))
    }
}
