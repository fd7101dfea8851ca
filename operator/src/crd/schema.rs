//! The parts of the `FlashSale` schema that Rust types cannot say: CEL rules, patterns, bounds.
//!
//! Knows JSON schema only. Every message names the field and the rule, because it is what a person
//! reads after `kubectl apply`.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use super::FlashSale;

/// The longest name of a sale: the longest child, the label of a seed pod, must fit 63 characters.
pub const MAX_NAME_LENGTH: usize = 40;

/// The `CustomResourceDefinition` that is installed: what the derive makes, plus the rule on the
/// object's name, minus `nullable`. An explicit null is then dropped by the API server, so that
/// the rules see a field either with a value or not at all.
///
/// # Errors
/// When the derived definition is not JSON, which a test rules out.
pub fn custom_resource_definition() -> Result<CustomResourceDefinition, serde_json::Error> {
    let mut crd = serde_json::to_value(FlashSale::crd())?;
    remove_nullable(&mut crd);
    if let Some(schema) = crd.pointer_mut("/spec/versions/0/schema/openAPIV3Schema") {
        schema["x-kubernetes-validations"] = rules(&[(
            &format!(
                "self.metadata.name.size() <= {MAX_NAME_LENGTH} && \
                 self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')"
            ),
            &format!(
                "metadata.name must be at most {MAX_NAME_LENGTH} characters of a-z, 0-9 and '-', \
                 starting with a letter: Services and pods are named after it"
            ),
            None,
        )]);
    }
    serde_json::from_value(crd)
}

fn remove_nullable(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.remove("nullable");
            map.values_mut().for_each(remove_nullable);
        }
        Value::Array(items) => items.iter_mut().for_each(remove_nullable),
        _ => {}
    }
}

/// `x-kubernetes-validations` from (rule, message, field below this one).
fn rules(rules: &[(&str, &str, Option<&str>)]) -> Value {
    let rule = |&(rule, message, field): &(&str, &str, Option<&str>)| {
        let mut entry = json!({ "rule": rule, "message": message });
        if let Some(field) = field {
            entry["fieldPath"] = json!(field);
        }
        entry
    };
    rules.iter().map(rule).collect()
}

pub(super) fn sale_rules() -> Value {
    rules(&[
        (
            "!has(self.startsAt) || !has(self.endsAt) || self.endsAt > self.startsAt",
            "endsAt must be after startsAt",
            Some(".endsAt"),
        ),
        (
            "self.products.all(p, !has(p.lock) || !has(p.lock.leaseTime) || \
             duration(p.lock.leaseTime) > duration(self.lock.nodeTimeout))",
            "products[].lock.leaseTime must be longer than lock.nodeTimeout",
            Some(".products"),
        ),
        (
            "self.strategy != 'Atomic' || self.redis.nodes == 1",
            "strategy Atomic needs redis.nodes: 1, the one node that decides",
            Some(".strategy"),
        ),
        (
            "self.strategy == oldSelf.strategy",
            "strategy can't be changed: what one store decided, the other may not have yet",
            Some(".strategy"),
        ),
    ])
}

pub(super) fn product_list_rules() -> Value {
    rules(&[(
        "oldSelf.all(o, self.exists(p, p.id == o.id))",
        "products can't be removed from a sale: their orders refer to them",
        None,
    )])
}

pub(super) fn product_rules() -> Value {
    rules(&[(
        "self.stock >= oldSelf.stock",
        "stock can only be raised: units that were announced may be sold already",
        Some(".stock"),
    )])
}

pub(super) fn lock_rules() -> Value {
    rules(&[(
        "duration(self.nodeTimeout) < duration(self.leaseTime)",
        "lock.nodeTimeout must be shorter than lock.leaseTime",
        Some(".nodeTimeout"),
    )])
}

pub(super) fn nodes_rules() -> Value {
    rules(&[(
        "self == oldSelf",
        "redis.nodes can't be changed: two sizes have no common quorum",
        None,
    )])
}

pub(super) fn redis_rules() -> Value {
    rules(&[(
        "self.storage == oldSelf.storage",
        "redis.storage can't be changed: a StatefulSet's volumes are fixed when it is created",
        Some(".storage"),
    )])
}

pub(super) fn database_rules() -> Value {
    rules(&[
        (
            "!has(self.secretRef) || (!has(self.image) && !has(self.resources) && !has(self.storage))",
            "database.secretRef names an external database: image, resources and storage must be absent",
            None,
        ),
        (
            "has(self.secretRef) == has(oldSelf.secretRef)",
            "database.secretRef can't be added or removed: the orders stay in the first database",
            None,
        ),
        (
            "has(self.storage) == has(oldSelf.storage) && \
             (!has(self.storage) || self.storage == oldSelf.storage)",
            "database.storage can't be changed: a StatefulSet's volumes are fixed when it is created",
            None,
        ),
    ])
}

pub(super) fn app_rules() -> Value {
    rules(&[(
        "!has(self.autoscaling) || self.autoscaling.maxReplicas >= self.replicas",
        "app.autoscaling.maxReplicas must be at least app.replicas",
        Some(".autoscaling"),
    )])
}

/// A duration such as `2s` or `500ms`, no shorter than the app takes and at most `max`.
fn bounded_duration(field: &str, max: &str) -> Schema {
    json_schema!({
        "type": "string",
        "maxLength": 16,
        "pattern": r"^([0-9]+(\.[0-9]+)?(ms|s|m))+$",
        "x-kubernetes-validations": rules(&[(
            &format!("duration(self) >= duration('1ms') && duration(self) <= duration('{max}')"),
            &format!("{field} must be from 1ms to {max}, such as 2s or 500ms"),
            None,
        )]),
    })
}

pub(super) fn wait_timeout(_: &mut SchemaGenerator) -> Schema {
    bounded_duration("waitTimeout", "60s")
}

pub(super) fn lease_time(_: &mut SchemaGenerator) -> Schema {
    bounded_duration("leaseTime", "60s")
}

pub(super) fn node_timeout(_: &mut SchemaGenerator) -> Schema {
    bounded_duration("nodeTimeout", "5s")
}

pub(super) fn compare_every(_: &mut SchemaGenerator) -> Schema {
    bounded_duration("compareEvery", "60m")
}

pub(super) fn load_every(_: &mut SchemaGenerator) -> Schema {
    bounded_duration("loadEvery", "60m")
}

/// RFC 3339 with an offset. The `date-time` format alone lets the offset be left out.
pub(super) fn timestamp(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "format": "date-time",
        "pattern": r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+(Z|[+-][0-9]{2}:[0-9]{2})$",
    })
}

pub(super) fn quantity(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "x-kubernetes-int-or-string": true,
        "pattern": r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$",
    })
}

/// `metav1.Condition` without the pages of description that come with the Rust type.
pub(super) fn conditions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "required": ["type", "status", "reason", "message", "lastTransitionTime"],
            "properties": {
                "type": { "type": "string" },
                "status": { "type": "string", "enum": ["True", "False", "Unknown"] },
                "reason": { "type": "string" },
                "message": { "type": "string" },
                "lastTransitionTime": { "type": "string", "format": "date-time" },
                "observedGeneration": { "type": "integer", "format": "int64" },
            },
        },
    })
}
