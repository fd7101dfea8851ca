//! The parts of the schema of Services and network policies that Rust types cannot express.

use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::Value;

use super::schema::rules;

/// A peer is a range of addresses, or pods.
pub(super) fn peer_rules() -> Value {
    rules(&[(
        "has(self.ipBlock) != (has(self.namespaceSelector) || has(self.podSelector))",
        "a peer needs namespaceSelector, podSelector or both, or else ipBlock alone",
        None,
    )])
}

pub(super) fn service_rules() -> Value {
    rules(&[
        (
            "!has(self.port) || self.port != 9090",
            "app.service.port must not be 9090: that is the metrics port",
            Some(".port"),
        ),
        (
            "self.type != 'ClusterIP' || !has(self.nodePort)",
            "app.service.nodePort needs app.service.type NodePort or LoadBalancer",
            Some(".nodePort"),
        ),
        (
            "self.type != 'ClusterIP' || !has(self.externalTrafficPolicy)",
            "app.service.externalTrafficPolicy needs app.service.type NodePort or LoadBalancer",
            Some(".externalTrafficPolicy"),
        ),
        (
            "self.type == 'LoadBalancer' || !has(self.loadBalancerClass)",
            "app.service.loadBalancerClass needs app.service.type LoadBalancer",
            Some(".loadBalancerClass"),
        ),
        (
            "self.type == 'LoadBalancer' || !has(self.loadBalancerSourceRanges)",
            "app.service.loadBalancerSourceRanges needs app.service.type LoadBalancer",
            Some(".loadBalancerSourceRanges"),
        ),
        (
            "self.type != 'LoadBalancer' || oldSelf.type != 'LoadBalancer' || \
             (has(self.loadBalancerClass) == has(oldSelf.loadBalancerClass) && \
              (!has(self.loadBalancerClass) || self.loadBalancerClass == oldSelf.loadBalancerClass))",
            "app.service.loadBalancerClass can't be changed while the type is LoadBalancer: change the type to \
             ClusterIP first",
            Some(".loadBalancerClass"),
        ),
    ])
}

/// A range of addresses.
pub(super) fn cidr(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "maxLength": 49,
        "x-kubernetes-validations": rules(&[(
            "isCIDR(self)",
            "must be a range of addresses such as 10.0.0.0/8 or 2001:db8::/32",
            None,
        )]),
    })
}

pub(super) fn source_ranges(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "array", "maxItems": 32, "items": cidr(generator) })
}

/// Labels of a selector.
pub(super) fn labels(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 16,
        "additionalProperties": {
            "type": "string",
            "maxLength": 63,
            "pattern": r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$",
        },
    })
}

pub(super) fn annotations(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 64,
        "additionalProperties": { "type": "string", "maxLength": 16384 },
    })
}
