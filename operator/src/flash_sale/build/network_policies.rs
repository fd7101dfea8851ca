//! Network policies: who may connect to the pods of a sale. They restrict incoming connections only; probes of the
//! kubelet are always allowed.

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort,
    NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::metadata::metadata;
use crate::crd::{Labels, Peer};
use crate::flash_sale::names::{
    self, Component, DATABASE_PORT, HTTP_PORT, METRICS_PORT, REDIS_PORT,
};
use crate::flash_sale::validate::ValidatedSale;

/// Label of a namespace with its name; the API server sets it.
const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";
/// Label of the pods of the Prometheus operator and of Prometheus' own chart.
const PROMETHEUS: (&str, &str) = ("app.kubernetes.io/name", "prometheus");

/// One policy for each part that accepts connections; none if they are disabled.
pub(super) fn policies(sale: &ValidatedSale) -> Vec<NetworkPolicy> {
    let declared = &sale.spec.network_policy;
    if !declared.enabled {
        return Vec::new();
    }
    let operator = operator(sale);
    let metrics = match &declared.metrics_from {
        Some(declared) => declared.iter().map(peer).collect(),
        None => vec![prometheus()],
    };
    let metrics = metrics.into_iter().chain(operator.clone()).collect();
    // Without `from`, a rule allows everyone.
    let app = declared.app_from.as_ref().map(|declared| declared.iter().map(peer).collect());
    let own = |component| NetworkPolicyPeer {
        pod_selector: Some(names::label_selector(&sale.name, component)),
        ..NetworkPolicyPeer::default()
    };
    let clients = [Component::App, Component::Seed].map(own).into_iter().chain(operator);
    let stores: Vec<NetworkPolicyPeer> =
        clients.chain(declared.stores_from.iter().map(peer)).collect();

    let app = [rule(HTTP_PORT, app), rule(METRICS_PORT, Some(metrics))];
    let redis = [rule(REDIS_PORT, Some(stores.clone()))];
    let mut policies = vec![
        policy(sale, names::app_policy(&sale.name), Component::App, &app),
        policy(sale, names::redis(&sale.name), Component::Redis, &redis),
    ];
    if sale.images.postgres.is_some() {
        let backup = sale.spec.database.backup.as_ref().map(|_| own(Component::Backup));
        let database = [rule(DATABASE_PORT, Some(stores.into_iter().chain(backup).collect()))];
        policies.push(policy(sale, names::database(&sale.name), Component::Database, &database));
    }
    policies
}

fn policy(
    sale: &ValidatedSale,
    name: String,
    component: Component,
    rules: &[Option<NetworkPolicyIngressRule>],
) -> NetworkPolicy {
    NetworkPolicy {
        metadata: metadata(sale, name, component),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(names::label_selector(&sale.name, component)),
            policy_types: Some(vec!["Ingress".to_owned()]),
            ingress: Some(rules.iter().flatten().cloned().collect()),
            ..NetworkPolicySpec::default()
        }),
    }
}

/// The rule of one port. `None` allows everyone, an empty list nobody.
fn rule(port: i32, from: Option<Vec<NetworkPolicyPeer>>) -> Option<NetworkPolicyIngressRule> {
    if from.as_ref().is_some_and(Vec::is_empty) {
        // An empty `from` would allow everyone.
        return None;
    }
    Some(NetworkPolicyIngressRule {
        from,
        ports: Some(vec![NetworkPolicyPort {
            port: Some(IntOrString::Int(port)),
            protocol: Some("TCP".to_owned()),
            end_port: None,
        }]),
    })
}

/// The operator's pods; `None`: it runs outside of the cluster, where no selector finds it.
fn operator(sale: &ValidatedSale) -> Option<NetworkPolicyPeer> {
    let pods = sale.operator_pods.as_ref()?;
    let namespace = BTreeMap::from([(NAMESPACE_NAME.to_owned(), pods.namespace.clone())]);
    Some(NetworkPolicyPeer {
        namespace_selector: Some(selector(namespace)),
        pod_selector: Some(selector(pods.labels.clone())),
        ip_block: None,
    })
}

fn prometheus() -> NetworkPolicyPeer {
    let (key, value) = PROMETHEUS;
    NetworkPolicyPeer {
        namespace_selector: Some(LabelSelector::default()),
        pod_selector: Some(selector(BTreeMap::from([(key.to_owned(), value.to_owned())]))),
        ip_block: None,
    }
}

fn peer(declared: &Peer) -> NetworkPolicyPeer {
    let labels = |labels: &Labels| selector(labels.match_labels.clone());
    NetworkPolicyPeer {
        namespace_selector: declared.namespace_selector.as_ref().map(labels),
        pod_selector: declared.pod_selector.as_ref().map(labels),
        ip_block: declared
            .ip_block
            .as_ref()
            .map(|block| IPBlock { cidr: block.cidr.clone(), except: None }),
    }
}

fn selector(labels: BTreeMap<String, String>) -> LabelSelector {
    LabelSelector {
        match_labels: (!labels.is_empty()).then_some(labels),
        ..LabelSelector::default()
    }
}
