//! Runs the reconcile loop: waits for the CRD, watches, shuts down.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::ListParams;
use kube::core::DeserializeGuard;
use kube::runtime::controller::{self, Controller};
use kube::runtime::{PredicateConfig, WatchStreamExt, predicates, reflector, watcher};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::crd::{FlashSale, condition};
use crate::error_chain::error_chain;
use crate::flash_sale::context::Context;
use crate::flash_sale::names::MANAGED_BY;
use crate::flash_sale::{on_error, poll, reconcile};
use crate::watched::{self, Watched};

/// Interval between checks for a missing CRD.
const CRD_RETRY: Duration = Duration::from_secs(5);
/// Changes of one sale within this time trigger one reconcile: children change in bursts.
const DEBOUNCE: Duration = Duration::from_millis(500);
/// Sales reconciled concurrently.
const CONCURRENCY: u16 = 8;

/// The watched namespace, or all namespaces.
#[derive(Clone, Debug)]
pub struct Scope(pub Option<String>);

impl Scope {
    fn api<K>(&self, client: &Client) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        match &self.0 {
            Some(namespace) => Api::namespaced(client.clone(), namespace),
            None => Api::all(client.clone()),
        }
    }
}

/// Waits until the API server serves `FlashSale` and permits listing it, or until `shutdown`.
pub async fn wait_for_crd(client: &Client, scope: &Scope, shutdown: &CancellationToken) {
    let sales: Api<Watched<FlashSale>> = scope.api(client);
    let one = ListParams::default().limit(1);
    loop {
        let Some(listed) = shutdown.run_until_cancelled(sales.list(&one)).await else { return };
        match listed {
            Ok(_) => return,
            Err(kube::Error::Api(status)) if status.is_not_found() => {
                warn!("the FlashSale CRD is not installed; waiting for it");
            }
            Err(error) => {
                warn!(error = error_chain(&error), "cannot list FlashSale objects; retrying");
            }
        }
        tokio::select! {
            () = tokio::time::sleep(CRD_RETRY) => {}
            () = shutdown.cancelled() => return,
        }
    }
}

/// Reconciles until `shutdown`; running reconciles complete first.
pub async fn run(context: Arc<Context>, scope: &Scope, shutdown: CancellationToken) {
    let client = context.client.clone();
    let (reader, writer) = reflector::store();
    let (known, metrics) = (reader.clone(), context.metrics.clone());
    // A status update does not change the generation, so it triggers no reconcile.
    let sales = watcher(scope.api::<Watched<FlashSale>>(&client), watcher::Config::default())
        .default_backoff()
        .map_ok(watched::read)
        .reflect(writer)
        .inspect(move |_| {
            let sales = known.state();
            metrics.set_unreadable(sales.iter().filter(|sale| sale.0.is_err()).count());
            metrics.set_stalled(sales.iter().filter(|sale| is_stalled(sale)).count());
        })
        .applied_objects()
        .predicate_filter(predicates::generation, PredicateConfig::default());
    let counts = poll::changes(reader.clone(), context.app.clone());
    let controller = Controller::for_stream(sales, reader)
        .reconcile_on(counts)
        .with_config(controller::Config::default().debounce(DEBOUNCE).concurrency(CONCURRENCY));
    let controller = owns::<ConfigMap>(controller, scope, &client);
    let controller = owns::<Service>(controller, scope, &client);
    let controller = owns::<StatefulSet>(controller, scope, &client);
    let controller = owns::<Job>(controller, scope, &client);
    let controller = owns::<Deployment>(controller, scope, &client);
    let controller = owns::<HorizontalPodAutoscaler>(controller, scope, &client);
    let controller = owns::<PodDisruptionBudget>(controller, scope, &client);
    info!(namespace = scope.0.as_deref().unwrap_or("(all)"), "reconciling sales");
    controller
        .graceful_shutdown_on(shutdown.cancelled_owned())
        .run(reconcile, on_error, context)
        .for_each(|result| async move {
            match result {
                Ok((sale, _)) => debug!(%sale, "reconciled"),
                // `on_error` has logged it, with its causes.
                Err(controller::Error::ReconcilerFailed(..)) => {}
                // A child whose sale was deleted.
                Err(controller::Error::ObjectNotFound(sale)) => debug!(%sale, "deleted"),
                Err(error) => warn!(error = error_chain(&error), "watch failed"),
            }
        })
        .await;
}

fn is_stalled(sale: &DeserializeGuard<FlashSale>) -> bool {
    let status = sale.0.as_ref().ok().and_then(|sale| sale.status.as_ref());
    status.is_some_and(|status| status.is_true(condition::STALLED))
}

type SaleController = Controller<DeserializeGuard<FlashSale>>;

/// Watches children of one kind. The label selector keeps other objects out of memory. Users can set that label
/// on any object, so a child that cannot be read must not end the watch either.
fn owns<K>(controller: SaleController, scope: &Scope, client: &Client) -> SaleController
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + 'static,
{
    let ours = format!("app.kubernetes.io/managed-by={MANAGED_BY}");
    let config = watcher::Config::default().labels(&ours);
    let children = watcher(scope.api::<Watched<K>>(client), config).default_backoff();
    controller.owns_stream(children.touched_objects())
}
