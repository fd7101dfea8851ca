//! Runs the reconcile loop: waits for the CRD, watches, shuts down.

use std::collections::BTreeSet;
use std::fmt::{self, Debug};
use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use futures::{Stream, StreamExt, TryStreamExt};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Service};
use k8s_openapi::api::networking::v1::{Ingress, NetworkPolicy};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::ListParams;
use kube::core::DeserializeGuard;
use kube::runtime::controller::{self, Controller};
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{self, Store};
use kube::runtime::{PredicateConfig, WatchStreamExt, watcher};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::crd::{FlashSale, condition};
use crate::desired_state::{self, DesiredStates};
use crate::error_chain::error_chain;
use crate::flash_sale::context::Context;
use crate::flash_sale::names::MANAGED_BY;
use crate::flash_sale::outcome::Outcome;
use crate::flash_sale::{Error, leftovers, on_error, pause, poll, reconcile};
use crate::gateway_api::{HttpRoute, is_not_served};
use crate::sale_metrics::SaleMetrics;
use crate::watched::{self, Owned, Watched};
use crate::{secret_watch, watch_errors};

/// Interval between checks for a missing CRD.
const CRD_RETRY: Duration = Duration::from_secs(5);
/// Changes of one sale within this time trigger one reconcile: children change in bursts.
const DEBOUNCE: Duration = Duration::from_millis(500);
/// Sales reconciled concurrently.
const CONCURRENCY: u16 = 8;

/// The watched namespaces, or all of them.
#[derive(Clone, Debug)]
pub struct Scope(BTreeSet<String>);

impl Scope {
    /// All namespaces of the cluster.
    #[must_use]
    pub fn all() -> Self {
        Self(BTreeSet::new())
    }

    /// These namespaces; if there are none, all of the cluster.
    pub fn of<N: Into<String>>(namespaces: impl IntoIterator<Item = N>) -> Self {
        Self(namespaces.into_iter().map(Into::into).collect())
    }

    /// A watch covers one namespace, or all of them (`None`).
    fn watches(&self) -> Vec<Option<&str>> {
        if self.0.is_empty() {
            return vec![None];
        }
        self.0.iter().map(|namespace| Some(namespace.as_str())).collect()
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.watches().into_iter().map(|it| it.unwrap_or("(all)")).collect();
        f.write_str(&names.join(","))
    }
}

fn api<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

/// Waits until the API server serves `FlashSale` and permits listing it in a watched namespace, or until
/// `shutdown`. A namespace without permissions does not stop the others.
pub async fn wait_for_crd(client: &Client, scope: &Scope, shutdown: &CancellationToken) {
    loop {
        for namespace in scope.watches() {
            match shutdown.run_until_cancelled(list_one(client, namespace)).await {
                None | Some(Ok(())) => return,
                Some(Err(kube::Error::Api(status))) if is_not_served(&status) => {
                    warn!("the FlashSale CRD is not installed; waiting for it");
                }
                Some(Err(error)) => {
                    warn!(error = error_chain(&error), "cannot list FlashSale objects; retrying");
                }
            }
        }
        tokio::select! {
            () = tokio::time::sleep(CRD_RETRY) => {}
            () = shutdown.cancelled() => return,
        }
    }
}

/// Whether the API server serves `FlashSale`, and permits listing it in every watched namespace.
///
/// # Errors
/// When it does not.
pub async fn can_list(client: &Client, scope: &Scope) -> kube::Result<()> {
    for namespace in scope.watches() {
        list_one(client, namespace).await?;
    }
    Ok(())
}

async fn list_one(client: &Client, namespace: Option<&str>) -> kube::Result<()> {
    let sales: Api<Watched<FlashSale>> = api(client, namespace);
    sales.list(&ListParams::default().limit(1)).await.map(drop)
}

/// The sales of one watch.
type Sales = Store<DeserializeGuard<FlashSale>>;
type SalesWriter = Writer<DeserializeGuard<FlashSale>>;

/// Reconciles until `shutdown`; running reconciles complete first.
pub async fn run(context: Arc<Context>, scope: &Scope, shutdown: CancellationToken) {
    info!(namespaces = %scope, "reconciling sales");
    let watches = scope.watches();
    // A store is replaced as a whole when its watch starts again, so each watch has its own.
    let (readers, writers): (Vec<Sales>, Vec<SalesWriter>) =
        watches.iter().map(|_| reflector::store()).unzip();
    let turns = Arc::new(Semaphore::new(usize::from(CONCURRENCY)));
    let all: Arc<[Sales]> = readers.clone().into();
    context.metrics.start_series(&Outcome::LABELS, &Error::STEPS);
    context.metrics.add_sales(Box::new(SaleMetrics(all.clone())));
    let controllers =
        watches.into_iter().zip(readers).zip(writers).map(|((namespace, reader), writer)| {
            let watch = Watch { namespace, reader, writer, all: all.clone() };
            watch.run(context.clone(), turns.clone(), shutdown.clone())
        });
    join_all(controllers).await;
}

/// One watched namespace, or all of them.
struct Watch<'a> {
    namespace: Option<&'a str>,
    reader: Sales,
    writer: SalesWriter,
    /// The sales of all watches.
    all: Arc<[Sales]>,
}

impl Watch<'_> {
    /// Reconciles until `shutdown`; each reconcile waits for its turn among those of all watches.
    async fn run(self, context: Arc<Context>, turns: Arc<Semaphore>, shutdown: CancellationToken) {
        let Self { namespace, reader, writer, all } = self;
        let client = context.client.clone();
        let metrics = context.metrics.clone();
        let deletions = Arc::new(Notify::new());
        let (deleted, counted) = (deletions.clone(), all.clone());
        let config = watcher::Config::default().page_size(watched::PAGE);
        let sales = watcher(api::<Watched<FlashSale>>(&client, namespace), config)
            .map_ok(watched::read)
            .reflect(writer)
            .inspect(move |event| {
                // At the start, sales may have been deleted before.
                if matches!(event, Ok(watcher::Event::Delete(_) | watcher::Event::InitDone)) {
                    deleted.notify_one();
                }
                metrics.set_unreadable(count(&counted, |sale| sale.0.is_err()));
                metrics.set_stalled(count(&counted, is_stalled));
            })
            .applied_objects()
            .backoff(watch_errors::delays())
            .predicate_filter(pause::trigger, PredicateConfig::default());
        let counts = poll::changes(reader.clone(), all.clone(), &context);
        let claims = api::<PersistentVolumeClaim>(&client, namespace);
        let (labelling, stopped, known) = (client.clone(), shutdown.clone(), reader.clone());
        tokio::spawn(async move {
            let labels = leftovers::label_after(&deletions, &labelling, &claims, &known);
            stopped.run_until_cancelled(labels).await
        });
        let watches = context.secret_watches.clone();
        let secrets =
            secret_watch::changes(api(&client, namespace), reader.clone(), watches, namespace);
        let controller = Controller::for_stream(watch_errors::logged(sales), reader)
            .reconcile_on(counts)
            .reconcile_on(secrets)
            .with_config(controller::Config::default().debounce(DEBOUNCE).concurrency(CONCURRENCY));
        let controller = owns::<ConfigMap>(controller, namespace, &client);
        let controller = owns::<Service>(controller, namespace, &client);
        let controller = owns::<StatefulSet>(controller, namespace, &client);
        let controller = owns::<Job>(controller, namespace, &client);
        let controller = owns::<CronJob>(controller, namespace, &client);
        let controller = owns::<Deployment>(controller, namespace, &client);
        let controller = owns::<HorizontalPodAutoscaler>(controller, namespace, &client);
        let controller = owns::<PodDisruptionBudget>(controller, namespace, &client);
        let controller = owns::<NetworkPolicy>(controller, namespace, &client);
        let controller = owns::<Ingress>(controller, namespace, &client);
        let controller = owns::<HttpRoute>(controller, namespace, &client);
        let in_turn = move |sale, context| {
            let turns = turns.clone();
            async move {
                let _turn = turns.acquire().await;
                reconcile(sale, context).await
            }
        };
        controller
            .graceful_shutdown_on(shutdown.cancelled_owned())
            .run(in_turn, on_error, context)
            .for_each(|result| async move {
                match result {
                    Ok((sale, _)) => debug!(%sale, "reconciled"),
                    // `on_error` has logged it, with its causes.
                    Err(controller::Error::ReconcilerFailed(..)) => {}
                    // A child whose sale was deleted.
                    Err(controller::Error::ObjectNotFound(sale)) => debug!(%sale, "deleted"),
                    Err(error) => warn!(error = error_chain(&error), "the reconcile loop failed"),
                }
            })
            .await;
    }
}

fn count(all: &[Sales], counts: fn(&DeserializeGuard<FlashSale>) -> bool) -> usize {
    all.iter().flat_map(Sales::state).filter(|sale| counts(sale)).count()
}

fn is_stalled(sale: &DeserializeGuard<FlashSale>) -> bool {
    let status = sale.0.as_ref().ok().and_then(|sale| sale.status.as_ref());
    status.is_some_and(|status| status.is_true(condition::STALLED))
}

type SaleController = Controller<DeserializeGuard<FlashSale>>;

/// Watches children of one kind. The label selector keeps other objects out of memory. Users can set that label on any
/// object, so a child that cannot be read must not end the watch either. Where the operator does not read the status, a
/// change of it is no event.
fn owns<K>(controller: SaleController, namespace: Option<&str>, client: &Client) -> SaleController
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + 'static,
{
    let ours = format!("app.kubernetes.io/managed-by={MANAGED_BY}");
    let children = watcher::Config::default().labels(&ours).page_size(watched::PAGE);
    if desired_state::is_status_unread::<K>() {
        let mut known = DesiredStates::default();
        let events = watcher(api::<Watched<K>>(client, namespace), children)
            .try_filter(move |event| ready(known.are_changed_by(event)));
        return owns_stream(controller, events);
    }
    owns_stream(controller, watcher(api::<Owned<K>>(client, namespace), children))
}

fn owns_stream<C>(
    controller: SaleController,
    events: impl Stream<Item = watcher::Result<watcher::Event<C>>> + Send + 'static,
) -> SaleController
where
    C: Resource<DynamicType = ()> + Send + 'static,
{
    // The backoff comes after the decoding: a list begins with an event, which would reset it before the list fails.
    let children = events
        .touched_objects()
        .backoff(watch_errors::delays())
        .filter(|child| ready(!child.as_ref().is_err_and(kind_is_missing)));
    controller.owns_stream(watch_errors::logged(children))
}

/// Whether the cluster does not serve the kind, such as `HTTPRoute` without the Gateway API. The watch is retried with a
/// backoff, so it begins when the definition appears.
fn kind_is_missing(error: &watcher::Error) -> bool {
    let (watcher::Error::InitialListFailed(source) | watcher::Error::WatchStartFailed(source)) =
        error
    else {
        return false;
    };
    matches!(source, kube::Error::Api(status) if is_not_served(status))
}
