//! Who may connect to the pods of a sale: the built policies, read as the API defines them.

use std::collections::BTreeMap;

use flashsale_operator::flash_sale::build::build;
use flashsale_operator::flash_sale::build::credentials::Passwords;
use flashsale_operator::flash_sale::dereference::References;
use flashsale_operator::flash_sale::operator_pods::OperatorPods;
use flashsale_operator::flash_sale::validate::validate;
use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicyPeer};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::{images, references, sale};

type Labels = BTreeMap<String, String>;

/// A pod with its namespace.
#[derive(Clone, Debug)]
struct Pod {
    namespace: &'static str,
    labels: Labels,
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// A pod of a sale, with the labels that its template has.
fn part(namespace: &'static str, sale: &str, component: &str) -> Pod {
    let labels = labels(&[
        ("app.kubernetes.io/name", "flashsale"),
        ("app.kubernetes.io/instance", sale),
        ("app.kubernetes.io/component", component),
        ("app.kubernetes.io/managed-by", "flashsale-operator"),
    ]);
    Pod { namespace, labels }
}

fn pod(namespace: &'static str, pairs: &[(&str, &str)]) -> Pod {
    Pod { namespace, labels: labels(pairs) }
}

fn operator_pods() -> OperatorPods {
    OperatorPods {
        namespace: "flashsale-system".to_owned(),
        labels: labels(&[("app.kubernetes.io/name", "flashsale-operator")]),
    }
}

fn operator() -> Pod {
    pod("flashsale-system", &[("app.kubernetes.io/name", "flashsale-operator"), ("more", "x")])
}

fn prometheus() -> Pod {
    pod("monitoring", &[("app.kubernetes.io/name", "prometheus")])
}

/// The policies of the fixture, changed by this YAML.
fn policies(changes: &str, operator: Option<OperatorPods>) -> Vec<NetworkPolicy> {
    let references = References { operator_pods: operator, ..references() };
    let valid = validate(&sale(changes), references, &images()).unwrap();
    build(&valid, &Passwords::fixed()).unwrap().network.policies
}

/// An absent selector and an empty one select everything in the API's sense of the two places that use it.
fn selects(selector: &LabelSelector, labels: &Labels) -> bool {
    assert!(selector.match_expressions.is_none(), "this evaluator does not read expressions");
    let wanted = selector.match_labels.iter().flatten();
    wanted.into_iter().all(|(key, value)| labels.get(key) == Some(value))
}

fn peer_admits(peer: &NetworkPolicyPeer, policy_namespace: &str, from: &Pod) -> bool {
    assert!(peer.ip_block.is_none(), "this evaluator reads pods only");
    let namespace_labels = labels(&[("kubernetes.io/metadata.name", from.namespace)]);
    let in_namespace = match &peer.namespace_selector {
        Some(selector) => selects(selector, &namespace_labels),
        None => from.namespace == policy_namespace,
    };
    in_namespace
        && peer.pod_selector.as_ref().is_none_or(|selector| selects(selector, &from.labels))
}

/// The API's rule: a pod that no policy selects admits all; else the union of the rules of the policies that do.
fn admits(policies: &[NetworkPolicy], from: &Pod, to: &Pod, port: i32) -> bool {
    let applies = |policy: &&NetworkPolicy| {
        let spec = policy.spec.as_ref().unwrap();
        assert_eq!(spec.policy_types.as_ref().unwrap(), &["Ingress"], "no egress is restricted");
        policy.metadata.namespace.as_deref() == Some(to.namespace)
            && selects(spec.pod_selector.as_ref().unwrap(), &to.labels)
    };
    let applying: Vec<_> = policies.iter().filter(applies).collect();
    applying.is_empty()
        || applying.iter().any(|policy| {
            let rules = policy.spec.as_ref().unwrap().ingress.iter().flatten();
            rules.into_iter().any(|rule| {
                let on_port = rule.ports.as_ref().is_none_or(|ports| {
                    ports.iter().any(|it| it.port == Some(IntOrString::Int(port)))
                });
                let from_peer = rule.from.as_ref().is_none_or(|peers| {
                    // To the API, an empty list is an absent one.
                    peers.is_empty() || peers.iter().any(|it| peer_admits(it, to.namespace, from))
                });
                on_port && from_peer
            })
        })
}

#[test]
fn only_the_own_parts_and_the_operator_reach_the_stores_and_prometheus_the_metrics() {
    let policies = policies("", Some(operator_pods()));
    let names: Vec<_> = policies.iter().map(|it| it.metadata.name.clone().unwrap()).collect();
    assert_eq!(names, ["black-friday", "black-friday-redis", "black-friday-db"]);
    let own = |component| part("shop", "black-friday", component);
    let stranger = || pod("shop", &[("app", "blog")]);
    let table = [
        // The stores: only the app, the seed and the operator.
        (own("app"), "redis", 6379, true),
        (own("app"), "database", 5432, true),
        (own("seed"), "redis", 6379, true),
        (own("seed"), "database", 5432, true),
        (operator(), "redis", 6379, true),
        (operator(), "database", 5432, true),
        (own("redis"), "redis", 6379, false),
        (own("database"), "redis", 6379, false),
        (own("load"), "redis", 6379, false),
        (prometheus(), "redis", 6379, false),
        (stranger(), "redis", 6379, false),
        (stranger(), "database", 5432, false),
        (pod("flashsale-system", &[("app", "other")]), "redis", 6379, false),
        // Another sale, in this namespace or elsewhere, by the same name too.
        (part("shop", "other", "app"), "redis", 6379, false),
        (part("shop", "other", "seed"), "database", 5432, false),
        (part("elsewhere", "black-friday", "app"), "redis", 6379, false),
        (part("elsewhere", "black-friday", "seed"), "database", 5432, false),
        // A label of the operator in another namespace.
        (pod("shop", &[("app.kubernetes.io/name", "flashsale-operator")]), "redis", 6379, false),
        // Only the one port.
        (own("app"), "redis", 22, false),
        (own("app"), "database", 6379, false),
        // The app: everyone buys, and only Prometheus and the operator read 9090.
        (stranger(), "app", 8080, true),
        (pod("elsewhere", &[]), "app", 8080, true),
        (prometheus(), "app", 9090, true),
        (pod("shop", &[("app.kubernetes.io/name", "prometheus")]), "app", 9090, true),
        (operator(), "app", 9090, true),
        (stranger(), "app", 9090, false),
        (own("app"), "app", 9090, false),
        (part("shop", "other", "app"), "app", 9090, false),
        (pod("monitoring", &[("app.kubernetes.io/name", "grafana")]), "app", 9090, false),
        (operator(), "app", 8081, false),
        // Another sale's parts are not of this one's policies.
        (stranger(), "redis of another sale", 6379, true),
    ];
    for (from, to, port, expected) in table {
        let target = match to {
            "redis of another sale" => part("shop", "other", "redis"),
            component => own(component),
        };
        assert_eq!(admits(&policies, &from, &target, port), expected, "{from:?} -> {to}:{port}");
    }
}

#[test]
fn declared_peers_replace_the_defaults_of_the_app_and_add_to_the_stores() {
    let declared = "networkPolicy: {
        appFrom: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: ingress}}}],
        metricsFrom: [{podSelector: {matchLabels: {app: agent}}}],
        storesFrom: [{podSelector: {matchLabels: {app: backup}}}]}";
    let policies = policies(declared, Some(operator_pods()));
    let (agent, backup) = (pod("shop", &[("app", "agent")]), pod("shop", &[("app", "backup")]));
    let proxy = pod("ingress", &[("app", "nginx")]);
    let own = |component| part("shop", "black-friday", component);
    for (from, to, port, expected) in [
        (&proxy, "app", 8080, true),
        (&agent, "app", 8080, false),
        (&agent, "app", 9090, true),
        (&prometheus(), "app", 9090, false),
        (&proxy, "app", 9090, false),
        (&operator(), "app", 9090, true),
        (&backup, "database", 5432, true),
        (&backup, "redis", 6379, true),
        (&agent, "redis", 6379, false),
        (&own("app"), "redis", 6379, true),
        (&operator(), "database", 5432, true),
    ] {
        assert_eq!(admits(&policies, from, &own(to), port), expected, "{from:?} -> {to}:{port}");
    }
    // The same labels in another namespace are other pods.
    let elsewhere = pod("elsewhere", &[("app", "backup")]);
    assert!(!admits(&policies, &elsewhere, &own("redis"), 6379));
}

#[test]
fn a_declared_backup_reaches_the_database_and_nothing_else() {
    let own = |component| part("shop", "black-friday", component);
    let declared = policies("database: {backup: {schedule: '@daily'}}", None);
    assert!(admits(&declared, &own("backup"), &own("database"), 5432));
    assert!(!admits(&declared, &own("backup"), &own("redis"), 6379));
    assert!(!admits(&policies("", None), &own("backup"), &own("database"), 5432));
}

/// An empty `from` of the API admits everyone, so such a rule must not be built.
#[test]
fn nobody_is_admitted_to_the_metrics_if_nobody_is_named_and_the_operator_is_outside() {
    let app = part("shop", "black-friday", "app");
    let nobody = policies("networkPolicy: {metricsFrom: []}", None);
    for from in [prometheus(), operator(), app.clone(), pod("shop", &[])] {
        assert!(!admits(&nobody, &from, &app, 9090), "{from:?}");
        assert!(admits(&nobody, &from, &app, 8080), "{from:?}");
    }
    let outside = policies("", None);
    assert!(admits(&outside, &prometheus(), &app, 9090));
    assert!(!admits(&outside, &operator(), &app, 9090));
    assert!(admits(&outside, &app, &part("shop", "black-friday", "redis"), 6379));
}

#[test]
fn policies_can_be_disabled_and_an_external_database_has_none() {
    assert!(policies("networkPolicy: {enabled: false}", Some(operator_pods())).is_empty());
    let external = "database: {secretRef: {name: shop-db, key: uri}}";
    let names: Vec<_> = policies(external, Some(operator_pods()))
        .iter()
        .map(|it| it.metadata.name.clone().unwrap())
        .collect();
    assert_eq!(names, ["black-friday", "black-friday-redis"]);
}

#[test]
fn addresses_reach_the_policy_as_declared() {
    let declared = "networkPolicy: {appFrom: [{ipBlock: {cidr: 203.0.113.0/24}}]}";
    let policies = policies(declared, None);
    let rules = policies[0].spec.as_ref().unwrap().ingress.clone().unwrap();
    let peer = &rules[0].from.as_ref().unwrap()[0];
    assert_eq!(peer.ip_block.as_ref().unwrap().cidr, "203.0.113.0/24");
    assert_eq!((&peer.namespace_selector, &peer.pod_selector), (&None, &None));
}
