//! Schema of the pod templates. Small objects have all their fields, so that `kubectl apply` refuses a misspelled one;
//! large ones are open, and the operator reads them strictly (`crd/strict.rs`).

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use super::reserved::{self, Reserved};
use super::schema::{OBJECT_NAME, rules};
use super::settings::Setting;

/// Names of volumes: DNS labels.
const LABEL: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";
const MAX_ENTRIES: usize = 32;
const MAX_CONTAINERS: usize = 8;

pub(super) fn redis_template<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    template::<T>(generator, &reserved::REDIS)
}

pub(super) fn database_template<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    template::<T>(generator, &reserved::DATABASE)
}

pub(super) fn app_template<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    template::<T>(generator, &reserved::APP)
}

pub(super) fn seed_template<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    template::<T>(generator, &reserved::SEED)
}

/// A topology spread constraint for zones would contradict `redis.spread.zones`, or repeat it.
pub(super) fn redis_rules() -> Value {
    rules(&[(
        "!has(self.spread) || self.spread.zones == 'Disabled' || !has(self.podTemplate) || \
         !has(self.podTemplate.topologySpreadConstraints) || \
         self.podTemplate.topologySpreadConstraints.all(c, c.topologyKey != 'topology.kubernetes.io/zone')",
        "podTemplate.topologySpreadConstraints can't have the topologyKey topology.kubernetes.io/zone unless \
         redis.spread.zones is Disabled",
        Some(".podTemplate"),
    )])
}

/// The schema of the pod template `T` with the rules of a part.
fn template<T: JsonSchema>(generator: &mut SchemaGenerator, reserved: &Reserved) -> Schema {
    let mut schema = T::json_schema(generator);
    schema.insert("x-kubernetes-validations".to_owned(), template_rules(reserved));
    if let Some(variable) = schema.pointer_mut("/properties/env/items") {
        variable["x-kubernetes-validations"] = env_rules(reserved);
    }
    for list in ["containers", "initContainers"] {
        if let Some(container) = schema.pointer_mut(&format!("/properties/{list}/items")) {
            container["x-kubernetes-validations"] = container_rules(reserved);
        }
    }
    schema
}

/// Rules of one environment variable.
fn env_rules(reserved: &Reserved) -> Value {
    let not_reserved = json!({
        "rule": format!("!(self.name in {})", json!(reserved.env())),
        "message": "the operator sets this variable",
        "messageExpression": "'the operator sets ' + self.name",
        "fieldPath": ".name",
    });
    let one_source = json!({
        "rule": "!(has(self.value) && has(self.valueFrom))",
        "message": "a variable has a value or a valueFrom, not both",
    });
    let settings = reserved.settings.iter().map(Setting::rule);
    [not_reserved, one_source].into_iter().chain(settings).collect()
}

/// Rules of one more container.
fn container_rules(reserved: &Reserved) -> Value {
    let own = reserved.container;
    let message = format!("the operator has a container named {own}");
    rules(&[(&format!("self.name != '{own}'"), &message, Some(".name"))])
}

fn template_rules(reserved: &Reserved) -> Value {
    let (volumes, paths) = (json!(reserved.volumes), json!(reserved.paths));
    let labels = json!(reserved::LABELS);
    let owned = reserved::PREFIX;
    // A mount at, below or above a path of the operator hides files, or is hidden.
    let overlaps = format!(
        "{paths}.exists(p, m.mountPath == p || m.mountPath.startsWith(p + '/') || p.startsWith(m.mountPath + '/'))"
    );
    let mut rules = json!([
        {
            "rule": format!("!has(self.labels) || self.labels.all(k, !(k in {labels}) && !k.startsWith('{owned}'))"),
            "message": format!("labels can't be {} or begin with {owned}: the operator sets them", reserved::LABELS.join(", ")),
            "fieldPath": ".labels",
        },
        {
            "rule": format!("!has(self.annotations) || self.annotations.all(k, !k.startsWith('{owned}'))"),
            "message": format!("annotations can't begin with {owned}: the operator sets them"),
            "fieldPath": ".annotations",
        },
        {
            "rule": format!("!has(self.volumes) || !self.volumes.exists(v, v.name in {volumes})"),
            "message": format!("volumes can't be named {}: the operator has a volume with that name", reserved.volumes.join(", ")),
            "fieldPath": ".volumes",
        },
        {
            "rule": "!has(self.volumeMounts) || self.volumeMounts.all(m, has(self.volumes) && self.volumes.exists(v, v.name == m.name))",
            "message": "each of volumeMounts must name one of volumes of this podTemplate",
            "fieldPath": ".volumeMounts",
        },
        {
            "rule": format!("!has(self.volumeMounts) || !self.volumeMounts.exists(m, {overlaps})"),
            "message": format!("a mountPath can't be, contain or be inside {}: the operator mounts a volume there", reserved.paths.join(", ")),
            "fieldPath": ".volumeMounts",
        },
        {
            "rule": "!has(self.containers) || !has(self.initContainers) || \
                     !self.containers.exists(c, self.initContainers.exists(i, i.name == c.name))",
            "message": "containers and initContainers can't have the same name",
            "fieldPath": ".initContainers",
        },
    ]);
    if let Some(rules) = rules.as_array_mut().filter(|_| reserved.ends) {
        rules.push(json!({
            "rule": "!has(self.containers)",
            "message": "a Job ends when all of its containers have ended: use initContainers, with restartPolicy: Always \
                        for a sidecar",
            "fieldPath": ".containers",
        }));
    }
    rules
}

pub(super) fn labels(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": MAX_ENTRIES,
        "additionalProperties": {
            "type": "string",
            "maxLength": 63,
            "pattern": "^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$",
        },
    })
}

pub(super) fn annotations(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": MAX_ENTRIES,
        "additionalProperties": { "type": "string", "maxLength": 8192 },
    })
}

pub(super) fn object_name(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "minLength": 1, "maxLength": 253, "pattern": OBJECT_NAME })
}

pub(super) fn open_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
}

pub(super) fn affinity(_: &mut SchemaGenerator) -> Schema {
    let open = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
    json_schema!({
        "type": "object",
        "properties": { "nodeAffinity": open, "podAffinity": open, "podAntiAffinity": open },
    })
}

pub(super) fn tolerations(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": MAX_ENTRIES,
        "items": {
            "type": "object",
            "properties": {
                "key": { "type": "string" },
                "operator": { "type": "string", "enum": ["Exists", "Equal"] },
                "value": { "type": "string" },
                "effect": { "type": "string", "enum": ["NoSchedule", "PreferNoSchedule", "NoExecute"] },
                "tolerationSeconds": { "type": "integer", "format": "int64" },
            },
        },
    })
}

pub(super) fn topology_spread_constraints(_: &mut SchemaGenerator) -> Schema {
    let policy = json!({ "type": "string", "enum": ["Honor", "Ignore"] });
    json_schema!({
        "type": "array",
        "maxItems": MAX_ENTRIES,
        "items": {
            "type": "object",
            "required": ["maxSkew", "topologyKey", "whenUnsatisfiable"],
            "properties": {
                "maxSkew": { "type": "integer", "format": "int32", "minimum": 1 },
                "minDomains": { "type": "integer", "format": "int32", "minimum": 1 },
                "topologyKey": { "type": "string", "minLength": 1, "maxLength": 317 },
                "whenUnsatisfiable": { "type": "string", "enum": ["DoNotSchedule", "ScheduleAnyway"] },
                "labelSelector": { "type": "object", "x-kubernetes-preserve-unknown-fields": true },
                "matchLabelKeys": { "type": "array", "maxItems": MAX_ENTRIES, "items": { "type": "string" } },
                "nodeAffinityPolicy": policy,
                "nodeTaintsPolicy": policy,
            },
        },
    })
}

pub(super) fn env(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": MAX_ENTRIES,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["name"],
        "items": {
            "type": "object",
            "required": ["name"],
            "properties": {
                "name": { "type": "string", "maxLength": 128, "pattern": "^[-._a-zA-Z][-._a-zA-Z0-9]*$" },
                // The API server estimates the cost of rules from this bound.
                "value": { "type": "string", "maxLength": 32_768 },
                "valueFrom": { "type": "object", "x-kubernetes-preserve-unknown-fields": true },
            },
        },
    })
}

/// Containers are large, so their fields are open.
pub(super) fn containers(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": MAX_CONTAINERS,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["name"],
        "items": {
            "type": "object",
            "required": ["name", "image"],
            "x-kubernetes-preserve-unknown-fields": true,
            "properties": {
                "name": { "type": "string", "maxLength": 63, "pattern": LABEL },
                "image": { "type": "string", "minLength": 1, "maxLength": 255, "pattern": r"^\S+$" },
            },
        },
    })
}

pub(super) fn volumes(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": MAX_ENTRIES,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["name"],
        "items": {
            "type": "object",
            "required": ["name"],
            "x-kubernetes-preserve-unknown-fields": true,
            "properties": { "name": { "type": "string", "maxLength": 63, "pattern": LABEL } },
        },
    })
}

pub(super) fn volume_mounts(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": MAX_ENTRIES,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["mountPath"],
        "items": {
            "type": "object",
            "required": ["name", "mountPath"],
            "properties": {
                "name": { "type": "string", "maxLength": 63, "pattern": LABEL },
                // Absolute, without empty segments and without `.` and `..`, so that rules can compare it.
                "mountPath": { "type": "string", "maxLength": 256, "pattern": "^(/[^/:]*[^/:.][^/:]*)+$" },
                "readOnly": { "type": "boolean" },
                "recursiveReadOnly": { "type": "string" },
                "mountPropagation": { "type": "string" },
                "subPath": { "type": "string" },
                "subPathExpr": { "type": "string" },
            },
        },
    })
}
