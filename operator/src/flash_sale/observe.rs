//! Between steps 4 and 5: observations in addition to the applied objects. The app's report is read in each
//! reconcile; events are listed only while the sale is not ready, so they need no watch.

use std::collections::BTreeMap;
use std::fmt::Debug;

use jiff::Timestamp;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::events::v1::Event;
use kube::api::ListParams;
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use thiserror::Error;

use super::app_client::{ReportScope, SaleReport};
use super::build::{Applied, KubernetesResources};
use super::cause::{self, Cause, Warning};
use super::context::Context;
use super::hibernation;
use super::names::{self, Component};
use super::nodes::NodeChange;
use crate::crd::FlashSale;

/// Observations in addition to the applied objects.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// The app's report; absent without a response.
    pub report: Option<SaleReport>,
    /// All pods of the sale; empty while the sale is ready.
    pub pods: Vec<Pod>,
    /// Warning events about parts without pods and about pending pods.
    pub warnings: Vec<Warning>,
    /// Reasons why running replicas are not ready, in their own words.
    pub unready: Vec<String>,
    /// Resource versions of the Secrets that were read, by name.
    pub secret_versions: BTreeMap<String, String>,
    /// Warnings about the spec.
    pub configuration: Vec<String>,
    /// A change of the Redis nodes in progress.
    pub node_change: Option<NodeChange>,
    /// When the operator's certificates are to be renewed.
    pub renewal: Option<Timestamp>,
    /// What the pods run for although the sale should hibernate by the clock.
    pub unfinished: Option<String>,
    /// End of validity of the certificate that the Redis nodes and the sale's own database use.
    pub stores_not_after: Option<Timestamp>,
}

/// Pods or events could not be read.
#[derive(Debug, Error)]
#[error("cannot list {what}")]
pub struct Error {
    what: String,
    source: kube::Error,
}

impl Observed {
    /// The cause of a part's outage.
    #[must_use]
    pub fn cause(&self, component: Component, now: Timestamp) -> Option<Cause> {
        cause::find(component, &self.pods, &self.warnings, now)
    }
}

/// Before step 3: what the pods of a sale that should hibernate by the clock still run for.
pub async fn unfinished(context: &Context, sale: &FlashSale, now: Timestamp) -> Option<String> {
    let phase = sale.status.as_ref().map(|status| status.phase);
    if !hibernation::is_due_by_clock(&sale.spec, phase, now) {
        return None;
    }
    let (namespace, name) = (sale.namespace().unwrap_or_default(), sale.name_any());
    let token = context.report_tokens.get(&namespace, &name);
    let report =
        context.app.sale_report(&namespace, &name, token.as_deref(), ReportScope::Unfinished).await;
    hibernation::unfinished(&sale.spec, report.as_ref(), now)
}

/// All pods of a sale.
///
/// # Errors
/// When the request to the API server fails.
pub async fn pods(context: &Context, namespace: &str, name: &str) -> Result<Vec<Pod>, Error> {
    let of_sale = ListParams::default().labels(&names::sale_selector(name));
    list::<Pod>(context, namespace, &of_sale).await
}

/// Observes the causes beside the pods: events, and readiness reasons of replicas.
///
/// # Errors
/// When a request to the API server fails.
pub async fn observe_causes(
    context: &Context,
    namespace: &str,
    resources: &KubernetesResources<Applied>,
    observed: &mut Observed,
) -> Result<(), Error> {
    observed.warnings.clear();
    for (component, kind, object) in without_status(resources, &observed.pods) {
        let about = format!("regarding.kind={kind},regarding.name={object},type=Warning");
        let about = ListParams::default().fields(&about);
        let mut events = list::<Event>(context, namespace, &about).await?;
        events.sort_by_key(last_seen);
        observed.warnings.extend(events.into_iter().map(|event| Warning {
            component,
            reason: event.reason.unwrap_or_default(),
            message: event.note.unwrap_or_default(),
        }));
    }
    let unready = observed.pods.iter().find(|pod| {
        let running = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        Component::App.has(pod) && running == Some("Running") && !cause::is_ready(pod)
    });
    let ip = unready.and_then(|pod| pod.status.as_ref()?.pod_ip.clone());
    observed.unready = match ip {
        Some(ip) => context.app.unready_reasons(&ip).await,
        None => Vec::new(),
    };
    Ok(())
}

async fn list<K>(context: &Context, namespace: &str, which: &ListParams) -> Result<Vec<K>, Error>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + Debug
        + DeserializeOwned,
{
    let api: Api<K> = Api::namespaced(context.client.clone(), namespace);
    let failed = |source| Error { what: K::plural(&()).into_owned(), source };
    Ok(api.list(which).await.map_err(failed)?.items)
}

fn last_seen(event: &Event) -> Option<Timestamp> {
    let series = event.series.as_ref().map(|series| series.last_observed_time.0);
    let first = event.event_time.as_ref().map(|time| time.0);
    series.or_else(|| event.deprecated_last_timestamp.as_ref().map(|time| time.0)).or(first)
}

/// Objects whose status has no cause, so events must provide it.
fn without_status(
    resources: &KubernetesResources<Applied>,
    pods: &[Pod],
) -> Vec<(Component, &'static str, String)> {
    let mut without_status = Vec::new();
    let sets = [(Component::Redis, Some(&resources.redis))];
    let sets = sets.into_iter().chain([(Component::Database, resources.database.as_ref())]);
    for (component, set) in sets.filter_map(|(component, set)| Some((component, set?))) {
        let wanted = set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or_default();
        let there = pods.iter().filter(|pod| component.has(pod)).count();
        if there < usize::try_from(wanted).unwrap_or_default() {
            without_status.push((component, "StatefulSet", set.name_any()));
        }
    }
    let seeded = resources.seed.status.as_ref().is_some_and(|job| job.completion_time.is_some());
    if !seeded && !pods.iter().any(|pod| Component::Seed.has(pod)) {
        without_status.push((Component::Seed, "Job", resources.seed.name_any()));
    }
    for component in [Component::Redis, Component::Database, Component::Seed, Component::App] {
        let pending = |pod: &&Pod| {
            let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
            component.has(pod) && phase == Some("Pending")
        };
        let Some(pod) = pods.iter().find(pending) else { continue };
        without_status.push((component, "Pod", pod.name_any()));
        if matches!(component, Component::Redis | Component::Database) {
            without_status.push((
                component,
                "PersistentVolumeClaim",
                format!("data-{}", pod.name_any()),
            ));
        }
    }
    without_status
}
