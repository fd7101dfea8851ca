//! Step 2: validates the spec and its references. The result is a sale that can be built, or the reason to wait.
//! Takes no client and no clock.
//!
//! Rules that the API server enforces (schema and CEL) are not checked again.

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Resource, ResourceExt};

use super::certificates::Certificates;
use super::credentials::Credentials;
use super::database::ACCEPT_LOSS;
use super::dereference::References;
use super::event_secrets;
use super::names::{self, CREDENTIALS_CHECKSUM, DATABASE_CONTAINER, REDIS_CONTAINER};
use super::nodes::NodePlan;
use super::not_ready::NotReady;
use super::operator_pods::OperatorPods;
use super::pinned_images::{PinnedImages, reports_its_end};
use super::retained::{self, adopted_name};
use super::secrets;
use super::validity;
use crate::config::DefaultImages;
use crate::crd::{DatabaseStatus, FlashSale, FlashSaleSpec, StoresTlsMode};

/// A sale that can be built.
#[derive(Clone, Debug)]
pub struct ValidatedSale {
    /// Name of the sale and of its app.
    pub name: String,
    /// Namespace of all parts.
    pub namespace: String,
    /// Owner reference of the parts: the garbage collector deletes them with the sale.
    pub owner: OwnerReference,
    /// The spec with defaults.
    pub spec: FlashSaleSpec,
    /// Images after defaulting.
    pub images: Images,
    /// Images and version that the sale keeps.
    pub pinned: PinnedImages,
    /// Changes of the spec that are not applied. Everything else is.
    pub refusals: Vec<String>,
    /// Signing key and administrator.
    pub auth: Credentials,
    /// Password of the Redis nodes.
    pub redis_auth: Credentials,
    /// Connection URI of the database.
    pub database: Credentials,
    /// The operator's own Secret: its token for the app, and the key of the checksums.
    pub operator_auth: Credentials,
    /// The operator's own pods; absent: it runs outside of the cluster.
    pub operator_pods: Option<OperatorPods>,
    /// Secret with the certificates of the Redis nodes and of the sale's own database; absent: plain text.
    pub stores_tls: Option<StoresTlsSecret>,
    /// The values of the Secrets of events that the app uses.
    pub events_values: Vec<ByteString>,
    /// Name of the Service, the Secret and the `StatefulSet` of the sale's own database.
    pub own_database: String,
    /// Checksum of the credentials in the pods of that database. It stays what it is: the server takes user and password
    /// from the Secret only when it creates its data, so a restart for another password would only interrupt the sale.
    pub database_checksum: Option<String>,
    /// Whether the sale has no pods. The clock decides it after the validation.
    pub hibernates: bool,
    /// Redis nodes to apply. The driver sets those of a change in progress.
    pub nodes: NodePlan,
    /// Current replicas of the app, if an autoscaler sets them.
    pub autoscaled_replicas: Option<i32>,
    /// The seeded database.
    pub seeded: Option<DatabaseStatus>,
    /// Id of the database that has the orders of the adopted sale.
    pub adopted_id: Option<String>,
    /// Id of the database whose loss is accepted.
    pub accepted_loss: Option<String>,
}

/// Images after defaulting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Images {
    /// The purchase API.
    pub app: String,
    /// A Redis node.
    pub redis: String,
    /// Image of the sale's own database; absent if the database is external.
    pub postgres: Option<String>,
    /// Whether the status of a failed Redis node has the end of its log.
    pub redis_reports_its_end: bool,
    /// Whether the status of a failed database has the end of its log.
    pub postgres_reports_its_end: bool,
}

/// The Secret with the certificates of the Redis nodes and of the sale's own database.
#[derive(Clone, Debug)]
pub struct StoresTlsSecret {
    /// The Secret.
    pub name: String,
    /// The certificates that the operator made, if it makes them.
    pub found: Option<Certificates>,
    /// Those that it writes now. The clock decides it after the validation.
    pub changed: Option<Certificates>,
    /// End of validity of the certificate, whoever made it; absent: it is not known.
    pub not_after: Option<Timestamp>,
}

/// Validates the sale against its references.
///
/// # Errors
/// [`NotReady`] when something outside the sale's own parts is missing or invalid.
pub fn validate(
    sale: &FlashSale,
    references: References,
    defaults: &DefaultImages,
) -> Result<ValidatedSale, NotReady> {
    let name = sale.name_any();
    let spec = sale.spec.clone();
    let owner = sale.controller_owner_ref(&()).ok_or_else(|| NotReady {
        reason: "NoUid",
        message: "the sale has no uid: it was not read from an API server".to_owned(),
        requeue_after: None,
    })?;
    references.parts.check()?;
    retained::check(sale, &references.retained)?;
    let adopted = adopted_name(sale);
    let pinned =
        PinnedImages::of(sale, &references.stateful_sets, references.retained.secret.as_ref());
    let (images, refusals) = images(&spec, &references, &pinned, defaults)?;

    let auth = Credentials {
        secret: names::auth_secret(&name, spec.declared_auth_secret()),
        data: references.auth,
    };
    auth.check(spec.auth.is_some(), &["jwt-secret"])?;
    if let Some(data) = &auth.data {
        secrets::check_auth(&auth.secret, data)?;
    }
    secrets::check_invite_codes(&auth.secret, auth.data.as_ref(), spec.app.sign_up)?;
    let redis_auth = Credentials { secret: names::redis_secret(&name), data: references.redis };
    redis_auth.check(false, &["password"])?;
    let database = Credentials {
        secret: names::database_secret(&adopted, spec.declared_database_secret()),
        data: references.database,
    };
    match &spec.database.secret_ref {
        Some(external) => {
            database.check(true, &[&external.key])?;
            if let Some(data) = &database.data {
                secrets::check_uri(&database.secret, &external.key, data)?;
            }
        }
        // A database keeps its first password, so a regenerated Secret would lock the app out.
        None => database
            .check(references.database_exists, &["uri", "username", "password", "database"])?,
    }
    if let Some(declared) = &spec.app.tls {
        let tls = Credentials { secret: declared.secret_ref.name.clone(), data: references.tls };
        tls.check(true, &[names::TLS_CERTIFICATE, names::TLS_KEY])?;
        if let Some(data) = &tls.data {
            secrets::check_tls(&tls.secret, data)?;
        }
    }

    if let Some(declared) = spec.payments.as_ref().and_then(|payments| payments.stripe.as_ref()) {
        let secret = &declared.secret_ref;
        let stripe = Credentials { secret: secret.name.clone(), data: references.stripe };
        stripe.check(true, &[&secret.key])?;
    }

    let stores_tls = stores_tls(&name, &spec, references.stores_tls)?;
    let events_values = event_secrets::check(&spec, references.events)?;

    let operator_auth =
        Credentials { secret: names::operator_secret(&name), data: references.operator };
    operator_auth.check(false, &[secrets::OPERATOR_TOKEN, secrets::CHECKSUM_KEY])?;
    if let Some(data) = &operator_auth.data {
        secrets::check_operator(&operator_auth.secret, data)?;
    }

    let own_database_name = names::database(&adopted);
    let found = references.stateful_sets.iter().find(|set| set.name_any() == own_database_name);
    Ok(ValidatedSale {
        database_checksum: found.and_then(credentials_checksum),
        seeded: sale.status.as_ref().and_then(|status| status.database.clone()),
        own_database: own_database_name,
        stores_tls,
        events_values,
        hibernates: false,
        nodes: NodePlan::settled(spec.redis.nodes),
        adopted_id: retained::database_id(&references.retained),
        accepted_loss: sale.annotations().get(ACCEPT_LOSS).cloned(),
        autoscaled_replicas: spec.app.autoscaling.as_ref().and(references.app_replicas),
        namespace: sale.namespace().unwrap_or_default(),
        name,
        owner,
        spec,
        images,
        pinned,
        refusals,
        auth,
        redis_auth,
        database,
        operator_auth,
        operator_pods: references.operator_pods,
    })
}

fn stores_tls(
    name: &str,
    spec: &FlashSaleSpec,
    found: Option<Secret>,
) -> Result<Option<StoresTlsSecret>, NotReady> {
    let name = names::stores_tls_secret(name, spec.stores.declared_tls_secret());
    let not_after = found.as_ref().and_then(|secret| validity::not_after(secret.data.as_ref()?));
    let found = match spec.stores.tls_mode() {
        StoresTlsMode::Disabled => return Ok(None),
        StoresTlsMode::Managed => found.as_ref().map(Certificates::of),
        StoresTlsMode::Secret => {
            let data = found.map(|secret| secret.data.unwrap_or_default());
            let tls = Credentials { secret: name.clone(), data };
            tls.check(true, &[names::TLS_CERTIFICATE, names::TLS_KEY, names::CA_CERTIFICATE])?;
            if let Some(data) = &tls.data {
                secrets::check_tls(&tls.secret, data)?;
                secrets::check_ca(&tls.secret, data)?;
            }
            None
        }
    };
    Ok(Some(StoresTlsSecret { name, found, changed: None, not_after }))
}

/// The images, and a declared one that is refused.
fn images(
    spec: &FlashSaleSpec,
    references: &References,
    pinned: &PinnedImages,
    defaults: &DefaultImages,
) -> Result<(Images, Vec<String>), NotReady> {
    let redis = pinned.redis.as_ref().or(defaults.redis.as_ref());
    let redis = image("redis", spec.redis.image.as_ref(), redis)?;
    let (mut postgres, mut refusals) = (None, Vec::new());
    if spec.database.secret_ref.is_none() {
        let refusal = pinned.refusal_of(spec.database.image.as_deref());
        let declared = spec.database.image.as_ref().filter(|_| refusal.is_none());
        refusals.extend(refusal);
        let default = pinned.database.as_ref().or(defaults.postgres.as_ref());
        postgres = Some(image("database", declared, default)?);
    }
    let sets = &references.stateful_sets;
    let images = Images {
        app: image("app", spec.app.image.as_ref(), defaults.app.as_ref())?,
        redis_reports_its_end: reports_its_end(sets, REDIS_CONTAINER, &redis),
        postgres_reports_its_end: reports_its_end(
            sets,
            DATABASE_CONTAINER,
            postgres.as_deref().unwrap_or_default(),
        ),
        redis,
        postgres,
    };
    Ok((images, refusals))
}

fn credentials_checksum(database: &StatefulSet) -> Option<String> {
    let template = &database.spec.as_ref()?.template;
    template.metadata.as_ref()?.annotations.as_ref()?.get(CREDENTIALS_CHECKSUM).cloned()
}

fn image(
    part: &str,
    declared: Option<&String>,
    default: Option<&String>,
) -> Result<String, NotReady> {
    declared.or(default).cloned().ok_or_else(|| NotReady {
        reason: "NoImage",
        message: format!(
            "spec.{part}.image is absent and the operator has no default: set it in the sale or \
             in the chart's values under images"
        ),
        requeue_after: None,
    })
}
