//! What makes the purchase API reachable from outside: the type of its Service, an Ingress, an `HTTPRoute`. None of them
//! leads to the metrics port.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Service, ServicePort};
use k8s_openapi::api::networking::v1::{
    HTTPIngressPath, HTTPIngressRuleValue, Ingress, IngressBackend, IngressRule,
    IngressServiceBackend, IngressSpec, IngressTLS, ServiceBackendPort,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

use super::metadata::metadata;
use crate::crd::{AppService, ParentRef, ServiceType};
use crate::flash_sale::names::{self, Component, METRICS_PORT};
use crate::flash_sale::validate::ValidatedSale;
use crate::gateway_api::HttpRoute;

/// Makes the declared Service of the app's `ClusterIP` Service.
pub(super) fn declare_service(service: &mut Service, declared: &AppService) {
    let Some(spec) = &mut service.spec else { return };
    spec.type_ = Some(declared.type_.as_str().to_owned());
    spec.load_balancer_class.clone_from(&declared.load_balancer_class);
    let ranges = &declared.load_balancer_source_ranges;
    spec.load_balancer_source_ranges = (!ranges.is_empty()).then(|| ranges.clone());
    spec.external_traffic_policy =
        declared.external_traffic_policy.map(|policy| policy.as_str().to_owned());
    let ports = spec.ports.get_or_insert_default();
    if declared.type_ != ServiceType::ClusterIP {
        ports.retain(|port| port.port != METRICS_PORT);
    }
    for port in ports.iter_mut().filter(|port| port.port != METRICS_PORT) {
        *port = ServicePort {
            port: declared.port.unwrap_or(port.port),
            node_port: declared.node_port,
            ..port.clone()
        };
    }
    annotate(&mut service.metadata, &declared.annotations);
}

pub(super) fn ingress(sale: &ValidatedSale) -> Option<Ingress> {
    let declared = sale.spec.app.ingress.as_ref()?;
    let backend = IngressBackend {
        service: Some(IngressServiceBackend {
            name: sale.name.clone(),
            port: Some(ServiceBackendPort {
                number: Some(names::service_port(&sale.spec.app)),
                name: None,
            }),
        }),
        resource: None,
    };
    let rule = |host: &String| IngressRule {
        host: Some(host.clone()),
        http: Some(HTTPIngressRuleValue {
            paths: vec![HTTPIngressPath {
                path: Some("/".to_owned()),
                path_type: "Prefix".to_owned(),
                backend: backend.clone(),
            }],
        }),
    };
    let mut metadata = metadata(sale, sale.name.clone(), Component::App);
    annotate(&mut metadata, &declared.annotations);
    Some(Ingress {
        metadata,
        spec: Some(IngressSpec {
            ingress_class_name: declared.class_name.clone(),
            rules: Some(declared.hosts.iter().map(rule).collect()),
            tls: declared.tls_secret_name.as_ref().map(|secret| {
                vec![IngressTLS {
                    hosts: Some(declared.hosts.clone()),
                    secret_name: Some(secret.clone()),
                }]
            }),
            default_backend: None,
        }),
        status: None,
    })
}

pub(super) fn http_route(sale: &ValidatedSale) -> Option<HttpRoute> {
    let declared = sale.spec.app.http_route.as_ref()?;
    let mut rule = json!({
        "matches": [{ "path": { "type": "PathPrefix", "value": "/" } }],
        "backendRefs": [{ "name": sale.name, "port": names::service_port(&sale.spec.app) }],
    });
    if let Some(timeout) = &declared.request_timeout {
        rule["timeouts"] = json!({ "request": timeout });
    }
    let parents: Vec<Value> = declared.parent_refs.iter().map(parent).collect();
    let mut spec = json!({ "parentRefs": parents, "rules": [rule] });
    if !declared.hostnames.is_empty() {
        spec["hostnames"] = json!(declared.hostnames);
    }
    let mut metadata = metadata(sale, sale.name.clone(), Component::App);
    annotate(&mut metadata, &declared.annotations);
    Some(HttpRoute::new(metadata, spec))
}

fn parent(declared: &ParentRef) -> Value {
    let fields = [
        ("name", Some(json!(declared.name))),
        ("namespace", declared.namespace.as_ref().map(|namespace| json!(namespace))),
        ("sectionName", declared.section_name.as_ref().map(|section| json!(section))),
        ("port", declared.port.map(|port| json!(port))),
    ];
    fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

fn annotate(metadata: &mut ObjectMeta, annotations: &BTreeMap<String, String>) {
    if !annotations.is_empty() {
        metadata.annotations = Some(annotations.clone());
    }
}
