//! Step 3: from a validated sale to all objects it consists of. Takes no client and no clock.

mod app;
mod catalog;
mod checksum;
pub mod credentials;
mod database;
mod metadata;
mod pods;
mod redis;
mod seed;
mod services;

use std::marker::PhantomData;

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use thiserror::Error;

use super::names::{self, Component};
use super::validate::ValidatedSale;
use credentials::Passwords;

/// Built, not yet sent.
#[derive(Clone, Copy, Debug)]
pub struct Prepared;
/// As the API server answered. Only these may become a status.
#[derive(Clone, Copy, Debug)]
pub struct Applied;

/// All objects of a sale.
#[derive(Clone, Debug)]
pub struct KubernetesResources<State> {
    /// Secrets to create. One that exists is not among them: it is never changed.
    pub missing_secrets: Vec<Secret>,
    /// The products.
    pub catalog: ConfigMap,
    /// Addresses of all parts.
    pub services: Vec<Service>,
    /// Lock nodes.
    pub redis: StatefulSet,
    /// The sale's own database; absent if it is external.
    pub database: Option<StatefulSet>,
    /// The Job that puts this stock in place.
    pub seed: Job,
    /// The purchase API.
    pub app: Deployment,
    /// Absent: a fixed number of replicas.
    pub autoscaler: Option<HorizontalPodAutoscaler>,
    /// How many pods may be away at once on purpose.
    pub disruption_budgets: Vec<PodDisruptionBudget>,
    /// Which of the two it is.
    pub state: PhantomData<State>,
}

/// A sale could not be written down.
#[derive(Debug, Error)]
#[error("cannot write the catalog of products as json")]
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
        redis: redis::stateful_set(sale, &secrets.redis_checksum),
        database: sale
            .images
            .postgres
            .as_ref()
            .map(|image| database::stateful_set(sale, image, &secrets.database_checksum)),
        seed: seed::job(sale, &catalog, &secrets),
        app: app::deployment(sale, &secrets),
        autoscaler: app::autoscaler(sale),
        disruption_budgets: vec![
            services::disruption_budget(sale, names::redis(&sale.name), Component::Redis),
            services::disruption_budget(sale, sale.name.clone(), Component::App),
        ],
        catalog: catalog::build(sale, &catalog),
        missing_secrets: secrets.missing,
        state: PhantomData,
    })
}
