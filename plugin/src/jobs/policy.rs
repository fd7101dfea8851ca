//! The network policy that lets a Job of the load tool reach the parts of its sale. Policies add up, so the sale's own
//! ones stay as they are. Takes no client.

use std::collections::BTreeMap;

use flashsale_operator::crd::{FlashSale, Peer};
use flashsale_operator::flash_sale::names::{
    DATABASE_PORT, HTTP_PORT, METRICS_PORT, REDIS_PORT, sale_selector,
};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort,
    NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;

use super::build::{JOB_NAME, owned_by};

/// What to do without the right to make a policy.
pub const REMEDY: &str = "the sale's network policies do not admit the load tool, and no policy could be made that does; \
     with spec.networkPolicy.storesFrom and metricsFrom as in manifests/samples, none is needed";

/// The policy that this Job needs; `None`: the sale admits it. A Job that buys needs the API and the metrics, too.
pub fn opening(sale: &FlashSale, job: &Job, buys: bool) -> Option<NetworkPolicy> {
    let declared = &sale.spec.network_policy;
    if !declared.enabled {
        return None;
    }
    let labels = job.labels();
    let admits = |peers: &[Peer]| peers.iter().any(|peer| admits(peer, labels));
    let metrics = declared.metrics_from.as_ref().is_some_and(|peers| admits(peers));
    let app = declared.app_from.as_ref().is_none_or(|peers| admits(peers));
    if admits(&declared.stores_from) && (!buys || metrics && app) {
        return None;
    }
    let stores = [REDIS_PORT, DATABASE_PORT];
    let ports =
        stores.into_iter().chain(buys.then_some([HTTP_PORT, METRICS_PORT]).into_iter().flatten());
    let port = |port: i32| NetworkPolicyPort {
        port: Some(IntOrString::Int(port)),
        protocol: Some("TCP".to_owned()),
        end_port: None,
    };
    let selector = |labels: BTreeMap<String, String>| LabelSelector {
        match_labels: Some(labels),
        ..LabelSelector::default()
    };
    let of_sale = sale_selector(&sale.name_any());
    let of_sale = of_sale.split(',').filter_map(|label| label.split_once('='));
    let of_sale = of_sale.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    let own_job = [(JOB_NAME.to_owned(), job.name_any())].into();
    let mut policy = NetworkPolicy {
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(selector(of_sale)),
            policy_types: Some(vec!["Ingress".to_owned()]),
            ingress: Some(vec![NetworkPolicyIngressRule {
                from: Some(vec![NetworkPolicyPeer {
                    pod_selector: Some(selector(own_job)),
                    ..NetworkPolicyPeer::default()
                }]),
                ports: Some(ports.map(port).collect()),
            }]),
            ..NetworkPolicySpec::default()
        }),
        ..NetworkPolicy::default()
    };
    policy.metadata.name = Some(job.name_any());
    policy.metadata.namespace = job.namespace();
    policy.metadata.labels = Some(labels.clone());
    policy.metadata.owner_references = Some(vec![owned_by(job)]);
    Some(policy)
}

/// Whether a declared peer is sure to admit a pod of the sale's namespace with these labels.
fn admits(peer: &Peer, labels: &BTreeMap<String, String>) -> bool {
    let all = |wanted: &BTreeMap<String, String>| {
        wanted.iter().all(|(key, value)| labels.get(key) == Some(value))
    };
    // Labels of the namespace are not known: only a selector that takes every namespace is sure.
    let namespace =
        peer.namespace_selector.as_ref().is_none_or(|selector| selector.match_labels.is_empty());
    let pods = match (&peer.pod_selector, &peer.namespace_selector) {
        (Some(selector), _) => all(&selector.match_labels),
        (None, namespaces) => namespaces.is_some(),
    };
    peer.ip_block.is_none() && namespace && pods
}
