//! Services and disruption budgets of the parts.

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::exposure::declare_service;
use super::metadata::metadata;
use crate::flash_sale::names::{
    self, Component, DATABASE_PORT, HTTP_PORT, METRICS_PORT, REDIS_PORT,
};
use crate::flash_sale::validate::ValidatedSale;

/// Publishes every node under its own name, ready or not: clients must reach each of them.
pub(super) fn redis(sale: &ValidatedSale) -> Service {
    let mut service =
        service(sale, names::redis(&sale.name), Component::Redis, &[("redis", REDIS_PORT)]);
    if let Some(spec) = &mut service.spec {
        spec.cluster_ip = Some("None".to_owned());
        spec.publish_not_ready_addresses = Some(true);
    }
    service
}

pub(super) fn database(sale: &ValidatedSale) -> Service {
    service(sale, sale.own_database.clone(), Component::Database, &[("postgres", DATABASE_PORT)])
}

pub(super) fn app(sale: &ValidatedSale) -> Service {
    let mut service = app_service(sale, sale.name.clone());
    if let Some(declared) = &sale.spec.app.service {
        declare_service(&mut service, declared);
    }
    service
}

/// Resolves to every replica, so that the metrics of each can be scraped.
pub(super) fn app_pods(sale: &ValidatedSale) -> Service {
    let mut service = app_service(sale, names::pods(&sale.name));
    if let Some(spec) = &mut service.spec {
        spec.cluster_ip = Some("None".to_owned());
    }
    // Without this label, a ServiceMonitor would scrape every replica twice.
    let labels = service.metadata.labels.get_or_insert_default();
    labels.insert("flashsale.dev/headless".to_owned(), "true".to_owned());
    service
}

/// With TLS, the name and the protocol of the port say so to Ingress controllers and gateways.
fn app_service(sale: &ValidatedSale, name: String) -> Service {
    let scheme = names::scheme(&sale.spec.app);
    let mut service =
        service(sale, name, Component::App, &[(scheme, HTTP_PORT), ("metrics", METRICS_PORT)]);
    let ports = service.spec.iter_mut().flat_map(|spec| &mut spec.ports).flatten();
    for port in ports.filter(|port| port.port == HTTP_PORT && scheme == names::HTTPS) {
        port.app_protocol = Some(scheme.to_owned());
    }
    service
}

fn service(
    sale: &ValidatedSale,
    name: String,
    component: Component,
    ports: &[(&str, i32)],
) -> Service {
    let port = |&(name, port): &(&str, i32)| ServicePort {
        name: Some(name.to_owned()),
        port,
        target_port: Some(IntOrString::Int(port)),
        protocol: Some("TCP".to_owned()),
        ..ServicePort::default()
    };
    Service {
        metadata: metadata(sale, name, component),
        spec: Some(ServiceSpec {
            selector: Some(names::labels(&sale.name, component)),
            ports: Some(ports.iter().map(port).collect()),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

/// One pod at a time: a drain keeps the quorum, and all replicas but one.
pub(super) fn disruption_budget(
    sale: &ValidatedSale,
    name: String,
    component: Component,
) -> PodDisruptionBudget {
    PodDisruptionBudget {
        metadata: metadata(sale, name, component),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(1)),
            selector: Some(names::label_selector(&sale.name, component)),
            unhealthy_pod_eviction_policy: Some(unhealthy_pods(component).to_owned()),
            ..PodDisruptionBudgetSpec::default()
        }),
        status: None,
    }
}

/// Whether pods that are not ready can be evicted. All pods of a machine whose state the control plane does not know are
/// taken for such, as after an outage of the API server, although they run.
const fn unhealthy_pods(component: Component) -> &'static str {
    match component {
        // Nodes that vote are the quorum, whatever the control plane knows of them. One that does not vote can go while the
        // others do.
        Component::Redis => "IfHealthyBudget",
        _ => "AlwaysAllow",
    }
}
