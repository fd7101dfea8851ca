//! Objects whose status the operator does not read. The controllers of Kubernetes write it often, such as the metrics of
//! an autoscaler, and only a change of anything else is a change for the operator.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use kube::runtime::watcher::Event;
use kube::{Resource, ResourceExt};
use serde_json::Value;

use crate::watched::Watched;

/// Kinds whose status the operator does not read.
const STATUS_UNREAD: [&str; 3] = ["CronJob", "HorizontalPodAutoscaler", "PodDisruptionBudget"];

/// Whether the operator does not read the status of this kind.
#[must_use]
pub fn is_status_unread<K: Resource<DynamicType = ()>>() -> bool {
    let kind = K::kind(&());
    STATUS_UNREAD.iter().any(|unread| *unread == kind)
}

/// Hash of an object without its status, and without the metadata that change with it.
#[must_use]
pub fn hash(mut object: Value) -> u64 {
    if let Some(object) = object.as_object_mut() {
        object.remove("status");
    }
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("resourceVersion");
        metadata.remove("managedFields");
    }
    let mut hasher = DefaultHasher::new();
    object.hash(&mut hasher);
    hasher.finish()
}

/// Hashes of the objects of a watch, by uid.
#[derive(Debug, Default)]
pub struct DesiredStates(HashMap<String, u64>);

impl DesiredStates {
    /// Whether the event changes more than a status.
    pub fn are_changed_by<K: Resource>(&mut self, event: &Event<Watched<K>>) -> bool {
        match event {
            Event::Apply(found) | Event::InitApply(found) => {
                let Some(uid) = found.uid() else { return true };
                let state = hash(found.object.clone());
                self.0.insert(uid, state) != Some(state)
            }
            Event::Delete(found) => {
                if let Some(uid) = found.uid() {
                    self.0.remove(&uid);
                }
                true
            }
            // A deletion before a new list has no event, so the list is a change of all objects.
            Event::Init => {
                self.0.clear();
                true
            }
            Event::InitDone => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
    use serde_json::json;

    use super::*;

    type Autoscaler = Watched<HorizontalPodAutoscaler>;

    fn autoscaler(version: &str, max: i32, utilization: i32) -> Autoscaler {
        let sent = json!({
            "metadata": { "name": "sale", "namespace": "shop", "uid": "u", "resourceVersion": version },
            "spec": { "maxReplicas": max },
            "status": { "currentMetrics": [{ "resource": { "averageUtilization": utilization } }] },
        });
        serde_json::from_value(sent).unwrap()
    }

    #[test]
    fn a_change_of_the_status_is_no_change() {
        let mut known = DesiredStates::default();
        let mut changes = |event: Event<Autoscaler>| known.are_changed_by(&event);
        assert!(changes(Event::Init));
        assert!(changes(Event::InitApply(autoscaler("1", 6, 10))));
        assert!(changes(Event::InitDone));
        assert!(!changes(Event::Apply(autoscaler("2", 6, 20))));
        assert!(changes(Event::Apply(autoscaler("3", 7, 20))));
        assert!(!changes(Event::Apply(autoscaler("4", 7, 30))));
        // The last state of a deleted object is a known one.
        assert!(changes(Event::Delete(autoscaler("5", 7, 30))));
        assert!(changes(Event::Apply(autoscaler("6", 7, 30))), "made again");
        assert!(changes(Event::Init));
        assert!(changes(Event::InitApply(autoscaler("6", 7, 30))), "what is missing has no event");
    }
}
