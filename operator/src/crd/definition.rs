//! The `CustomResourceDefinition` as it is installed: what the derive macro generates, plus the rules on
//! the object as a whole.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::{Value, json};

use super::condition;
use super::schema::rules;
use super::spec::FlashSale;
use super::stores_tls;

/// Maximum length of a sale's name. The longest derived name, the label of a seed pod, must fit 63 characters.
pub const MAX_NAME_LENGTH: usize = 40;

/// The sale that the database is named after.
const ADOPTED: &str =
    "(has(self.spec.database.adopt) ? self.spec.database.adopt : self.metadata.name)";
/// Whether the API server refused a change of the sale, in a rule on the object.
const CHANGE_REFUSED: &str = "(has(self.status.conditions) && \
     self.status.conditions.exists(it, it.type == 'Ready' && it.reason == 'ChangeRefused'))";
/// The version before the current one. It is still served.
const OLD_VERSION: &str = "v1alpha1";
/// `status.observedGeneration` of a sale that no operator has seen.
pub const UNOBSERVED: i64 = -1;

/// The `CustomResourceDefinition`: the derived one, plus the old version, the status of a new sale, defaults in descriptions and the rules
/// on the object's name and storage, minus `nullable`.
/// The API server then drops an explicit null, so the rules see a field either with a value or not at all.
///
/// # Errors
/// When the derived definition is not JSON, which a test rules out.
pub fn custom_resource_definition() -> Result<CustomResourceDefinition, serde_json::Error> {
    let mut crd = serde_json::to_value(FlashSale::crd())?;
    remove_nullable(&mut crd);
    if let Some(schema) = crd.pointer_mut("/spec/versions/0/schema/openAPIV3Schema") {
        schema["x-kubernetes-validations"] = object_rules();
        describe_defaults(&mut schema["properties"]["spec"]);
        schema["properties"]["status"]["default"] = unobserved();
    }
    serve_old_version(&mut crd);
    serde_json::from_value(crd)
}

/// Serves the old version with the schema of the current one, so the API server converts objects by their `apiVersion`
/// alone and loses nothing.
fn serve_old_version(crd: &mut Value) {
    let Some(versions) = crd.pointer_mut("/spec/versions").and_then(Value::as_array_mut) else {
        return;
    };
    let Some(mut old) = versions.first().cloned() else { return };
    old["name"] = json!(OLD_VERSION);
    old["storage"] = json!(false);
    old["deprecated"] = json!(true);
    old["deprecationWarning"] = json!(format!(
        "flashsale.dev/{OLD_VERSION} FlashSale is deprecated; write flashsale.dev/v1beta1, which has the same fields"
    ));
    versions.push(old);
}

/// The status of a sale that no operator has seen. Clients compare `observedGeneration` with the generation; without a
/// status, kstatus would take the sale for ready.
fn unobserved() -> Value {
    json!({
        "observedGeneration": UNOBSERVED,
        "phase": "Pending",
        "conditions": [{
            "type": condition::READY,
            "status": "Unknown",
            "reason": "Pending",
            "message": "waiting for the operator",
            "lastTransitionTime": "1970-01-01T00:00:00Z",
        }],
    })
}

/// Adds each simple default to the description, because `kubectl explain` shows no defaults.
fn describe_defaults(schema: &mut Value) {
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        for property in properties.values_mut() {
            if let (Some(default), Some(Value::String(description))) =
                (property.get("default").and_then(simple), property.get("description"))
            {
                property["description"] = json!(format!("{description} Default: {default}."));
            }
            describe_defaults(property);
        }
    }
    if let Some(items) = schema.get_mut("items") {
        describe_defaults(items);
    }
}

/// The value as it is written in a manifest, unless it is empty or has fields of its own.
fn simple(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        _ => None,
    }
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

/// Rules that need the object's name or status.
fn object_rules() -> Value {
    let (stores_tls, stores_tls_message) = stores_tls::mode_rule();
    rules(&[
        (
            &format!(
                "self.metadata.name.size() <= {MAX_NAME_LENGTH} && \
                 self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')"
            ),
            &format!(
                "metadata.name must be at most {MAX_NAME_LENGTH} characters of a-z, 0-9 and '-', \
                 starting with a letter: Services and pods are named after it"
            ),
            None,
        ),
        // Until a node is ready, the storage holds no data and can be corrected: `flash_sale/volumes.rs`. A change that
        // the StatefulSet refused can be taken back, because the volumes stay as they are.
        (
            &format!(
                "self.spec.redis.storage == oldSelf.spec.redis.storage || \
                 !has(self.status) || !has(self.status.redis) || \
                 (self.status.redis.ready == 0 && self.status.phase != 'Hibernated') || {CHANGE_REFUSED}"
            ),
            "redis.storage can no longer be changed: nodes use the volumes",
            Some(".spec.redis.storage"),
        ),
        (
            &format!(
                "(has(self.spec.database.storage) == has(oldSelf.spec.database.storage) && \
                  (!has(self.spec.database.storage) || \
                   self.spec.database.storage == oldSelf.spec.database.storage)) || \
                 !has(self.status) || !has(self.status.conditions) || \
                 (self.status.phase != 'Hibernated' && \
                  !self.status.conditions.exists(it, it.type == 'DatabaseReady' && it.status == 'True')) || \
                 {CHANGE_REFUSED}"
            ),
            "database.storage can no longer be changed: the database uses the volume",
            Some(".spec.database.storage"),
        ),
        // The database's objects are named after the adopted sale: `flash_sale/retained.rs`.
        (
            &format!(
                "{ADOPTED} == {} || !has(self.status) || !has(self.status.redis)",
                ADOPTED.replace("self", "oldSelf")
            ),
            "database.adopt can't be changed: this sale has a database already",
            Some(".spec.database"),
        ),
        (
            &format!("self.spec.strategy != 'Atomic' || {ADOPTED} == self.metadata.name"),
            "database.adopt must be the sale's own name with strategy Atomic: its Redis volume holds orders too",
            Some(".spec.database.adopt"),
        ),
        (&stores_tls, stores_tls_message, Some(".spec.stores.tls")),
    ])
}
