//! The rules of the definition, and the oldest Kubernetes that the chart supports. A new definition is compiled with the
//! functions of the minor version before the API server's own.

use flashsale_operator::crd::custom_resource_definition;
use serde_json::Value;

const CHART: &str = include_str!("../../../charts/flashsale-operator/Chart.yaml");

/// Functions that are newer than all else in the rules, with the minor version that introduced them
/// (`k8s.io/apiserver/pkg/cel/environment`).
const INTRODUCED: [(&str, u32); 7] = [
    ("isIP(", 30),
    ("ip(", 30),
    ("isCIDR(", 30),
    ("cidr(", 30),
    ("format.", 31),
    ("isSemver(", 33),
    ("semver(", 33),
];

#[test]
fn the_rules_compile_on_the_oldest_kubernetes_of_the_chart() {
    let chart: Value = serde_norway::from_str(CHART).unwrap();
    let oldest = chart["kubeVersion"].as_str().unwrap().strip_prefix(">=1.").unwrap();
    let oldest: u32 = oldest.split_once('.').unwrap().0.parse().unwrap();

    let definition = serde_json::to_value(custom_resource_definition().unwrap()).unwrap();
    let mut rules = Vec::new();
    collect(&definition, &mut rules);
    let used = INTRODUCED.iter().filter(|(name, _)| rules.iter().any(|rule| calls(rule, name)));
    let used: Vec<_> = used.collect();
    assert!(used.contains(&&("isCIDR(", 30)), "the rules are not found: {used:?}");
    let newer: Vec<_> = used.iter().filter(|(_, introduced)| introduced + 1 > oldest).collect();
    assert!(newer.is_empty(), "an API server 1.{oldest} refuses the definition: {newer:?}");
}

fn collect<'a>(schema: &'a Value, found: &mut Vec<&'a str>) {
    match schema {
        Value::Object(fields) => {
            let rules = fields.get("x-kubernetes-validations").and_then(Value::as_array);
            found.extend(rules.into_iter().flatten().filter_map(|rule| rule["rule"].as_str()));
            for field in fields.values() {
                collect(field, found);
            }
        }
        Value::Array(items) => {
            for item in items {
                collect(item, found);
            }
        }
        _ => {}
    }
}

fn calls(rule: &str, function: &str) -> bool {
    let continues = |before: char| before.is_alphanumeric() || before == '_';
    rule.match_indices(function).any(|(at, _)| !rule[..at].ends_with(continues))
}
