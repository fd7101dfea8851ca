//! What the objects of a sale have in common.

use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use kube::{Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::desired_state;

/// Bounds that all children share.
pub trait Child:
    Resource<Scope = NamespaceResourceScope, DynamicType = ()>
    + Clone
    + Debug
    + Serialize
    + DeserializeOwned
{
}

impl<K> Child for K where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + Debug
        + Serialize
        + DeserializeOwned
{
}

/// The version of an object: its resource version or, for a kind whose status the operator does not read, a hash of
/// everything else.
pub fn version<K: Child>(object: &K) -> Option<String> {
    if !desired_state::is_status_unread::<K>() {
        return object.resource_version();
    }
    let object = serde_json::to_value(object).ok()?;
    Some(format!("{:016x}", desired_state::hash(object)))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
    use k8s_openapi::api::core::v1::Service;
    use serde_json::{Value, json};

    use super::*;

    fn autoscaler(resource_version: &str, max: i32, label: &str, replicas: i32) -> Value {
        json!({
            "metadata": {
                "name": "sale", "uid": "u", "resourceVersion": resource_version,
                "labels": { "of": label },
                "managedFields": [{ "manager": resource_version }],
            },
            "spec": { "maxReplicas": max, "scaleTargetRef": { "kind": "Deployment", "name": "sale" } },
            "status": { "desiredReplicas": replicas },
        })
    }

    #[test]
    fn only_a_changed_status_is_the_same_version() {
        let version_of = |object: Value| {
            let object: HorizontalPodAutoscaler = serde_json::from_value(object).unwrap();
            version(&object).unwrap()
        };
        let first = version_of(autoscaler("1", 6, "a", 3));
        assert_eq!(version_of(autoscaler("2", 6, "a", 4)), first);
        assert_ne!(version_of(autoscaler("2", 7, "a", 3)), first);
        assert_ne!(version_of(autoscaler("2", 6, "b", 3)), first);

        let service = json!({ "metadata": { "name": "sale", "resourceVersion": "7" } });
        let service: Service = serde_json::from_value(service).unwrap();
        assert_eq!(version(&service).as_deref(), Some("7"), "its status has the addresses");
    }
}
