//! The `CustomResourceDefinition` as it is installed: what the derive macro generates, plus the rules on
//! the object as a whole.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::Value;

use super::schema::rules;
use super::spec::FlashSale;

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
        schema["x-kubernetes-validations"] = object_rules();
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

/// Rules that need the object's name or status.
fn object_rules() -> Value {
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
        // Until then it may be a mistake, and nothing is on it yet: `flash_sale/volumes.rs`.
        (
            "self.spec.redis.storage == oldSelf.spec.redis.storage || \
             !has(self.status) || !has(self.status.redis) || self.status.redis.ready == 0",
            "redis.storage can't be changed any more: nodes run on the volumes",
            Some(".spec.redis.storage"),
        ),
        (
            "(has(self.spec.database.storage) == has(oldSelf.spec.database.storage) && \
              (!has(self.spec.database.storage) || \
               self.spec.database.storage == oldSelf.spec.database.storage)) || \
             !has(self.status) || !has(self.status.conditions) || \
             !self.status.conditions.exists(it, it.type == 'DatabaseReady' && it.status == 'True')",
            "database.storage can't be changed any more: the database runs on the volume",
            Some(".spec.database.storage"),
        ),
    ])
}
