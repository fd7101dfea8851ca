//! Step 3: builds all objects of a validated sale. Takes no client and no clock.

mod app;
mod backup;
mod catalog;
mod checksum;
pub mod credentials;
mod database;
mod events;
mod exposure;
mod metadata;
mod network_policies;
mod payments;
mod pod_template;
mod pods;
mod probes;
mod redis;
mod requests;
mod seed;
mod services;
mod spread;
mod stores_tls;
mod tls;
mod tracing;

use std::marker::PhantomData;

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use thiserror::Error;

use super::backup::BackupParts;
use super::names::{self, Component};
use super::network::NetworkParts;
use super::validate::ValidatedSale;
use credentials::Passwords;

/// Built, not applied yet.
#[derive(Clone, Copy, Debug)]
pub struct Prepared;
/// As the API server returned them. Only these can become a status.
#[derive(Clone, Copy, Debug)]
pub struct Applied;

/// All objects of a sale.
#[derive(Clone, Debug)]
pub struct KubernetesResources<State> {
    /// Secrets to create. Existing Secrets are never changed.
    pub missing_secrets: Vec<Secret>,
    /// Certificates of the Redis nodes and of the sale's own database; absent: unchanged, or without TLS.
    pub certificates: Option<Secret>,
    /// Catalog of the products.
    pub catalog: ConfigMap,
    /// Services of all parts.
    pub services: Vec<Service>,
    /// Network policies, Ingress and route.
    pub network: NetworkParts,
    /// Redis nodes.
    pub redis: StatefulSet,
    /// The sale's own database; absent if it is external.
    pub database: Option<StatefulSet>,
    /// Backups of that database.
    pub backup: Box<BackupParts>,
    /// Job that seeds this stock.
    pub seed: Job,
    /// The purchase API.
    pub app: Deployment,
    /// Absent: a fixed number of replicas.
    pub autoscaler: Option<HorizontalPodAutoscaler>,
    /// Limits of voluntary disruptions.
    pub disruption_budgets: Vec<PodDisruptionBudget>,
    /// [`Prepared`] or [`Applied`].
    pub state: PhantomData<State>,
}

/// The catalog could not be serialized.
#[derive(Debug, Error)]
#[error("cannot serialize the product catalog")]
pub struct Error(#[from] serde_json::Error);

/// All objects of `sale`; `passwords` are used for Secrets that do not exist yet.
///
/// # Errors
/// When the products are not JSON, which their types rule out.
pub fn build(
    sale: &ValidatedSale,
    passwords: &Passwords,
) -> Result<KubernetesResources<Prepared>, Error> {
    let catalog = catalog::json(sale)?;
    let secrets = credentials::build(sale, passwords);
    let mut services = vec![services::redis(sale), services::app(sale), services::app_pods(sale)];
    if sale.images.postgres.is_some() {
        services.push(services::database(sale));
    }
    Ok(KubernetesResources {
        services,
        network: NetworkParts {
            policies: network_policies::policies(sale),
            ingress: exposure::ingress(sale),
            http_route: exposure::http_route(sale),
            gateway_api_missing: false,
        },
        redis: redis::stateful_set(sale, &secrets.accepted_checksum),
        database: sale.images.postgres.as_ref().map(|image| {
            let checksum = sale.database_checksum.as_ref().unwrap_or(&secrets.database_checksum);
            database::stateful_set(sale, image, checksum)
        }),
        backup: Box::new(backup::parts(sale)),
        seed: seed::job(sale, &catalog, &secrets),
        app: app::deployment(sale, &secrets),
        autoscaler: app::autoscaler(sale),
        disruption_budgets: vec![
            services::disruption_budget(sale, names::redis(&sale.name), Component::Redis),
            services::disruption_budget(sale, sale.name.clone(), Component::App),
        ],
        certificates: stores_tls::secret(sale),
        catalog: catalog::build(sale, &catalog),
        missing_secrets: secrets.missing,
        state: PhantomData,
    })
}
