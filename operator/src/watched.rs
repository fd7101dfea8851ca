//! Objects of a watch. A watch that fails to deserialize an object restarts and fails again, so one invalid
//! object would block all others. Deserializing a [`Watched`] object therefore never fails.

use std::borrow::Cow;
use std::marker::PhantomData;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource;
use kube::core::DeserializeGuard;
use kube::core::error_boundary::InvalidObject;
use kube::runtime::watcher::Event;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// An object of kind `K`, as received from the API server.
#[derive(Clone, Debug)]
pub struct Watched<K> {
    /// The object without its managed fields, which may contain times that cannot be parsed.
    pub object: Value,
    metadata: ObjectMeta,
    kind: PhantomData<K>,
}

impl<'de, K> Deserialize<'de> for Watched<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut object = Value::deserialize(deserializer)?;
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("managedFields");
        }
        Ok(Self { metadata: metadata(&object), object, kind: PhantomData })
    }
}

/// The complete metadata, or the fields that identify the object.
fn metadata(object: &Value) -> ObjectMeta {
    let metadata = &object["metadata"];
    let text = |field: &str| metadata[field].as_str().map(str::to_owned);
    ObjectMeta::deserialize(metadata).unwrap_or_else(|_| ObjectMeta {
        name: text("name"),
        namespace: text("namespace"),
        uid: text("uid"),
        resource_version: text("resourceVersion"),
        ..ObjectMeta::default()
    })
}

impl<K: DeserializeOwned> Watched<K> {
    /// The typed object, or the field that cannot be read.
    fn read(self) -> DeserializeGuard<K> {
        let read = serde_path_to_error::deserialize(&self.object);
        DeserializeGuard(read.map_err(|error| InvalidObject {
            error: format!("{}: {}", error.path(), error.inner()),
            metadata: self.metadata,
        }))
    }
}

/// The event with its typed object, or with the error of reading it.
#[must_use]
pub fn read<K: DeserializeOwned>(event: Event<Watched<K>>) -> Event<DeserializeGuard<K>> {
    match event {
        Event::Apply(object) => Event::Apply(object.read()),
        Event::Delete(object) => Event::Delete(object.read()),
        Event::Init => Event::Init,
        Event::InitApply(object) => Event::InitApply(object.read()),
        Event::InitDone => Event::InitDone,
    }
}

/// A wrapper with a field `metadata` is a resource of the kind that it wraps.
macro_rules! resource {
    ($wrapper:ident) => {
        impl<K: Resource> Resource for $wrapper<K> {
            type DynamicType = K::DynamicType;
            type Scope = K::Scope;

            fn kind(dt: &Self::DynamicType) -> Cow<'_, str> {
                K::kind(dt)
            }

            fn group(dt: &Self::DynamicType) -> Cow<'_, str> {
                K::group(dt)
            }

            fn version(dt: &Self::DynamicType) -> Cow<'_, str> {
                K::version(dt)
            }

            fn api_version(dt: &Self::DynamicType) -> Cow<'_, str> {
                K::api_version(dt)
            }

            fn plural(dt: &Self::DynamicType) -> Cow<'_, str> {
                K::plural(dt)
            }

            fn meta(&self) -> &ObjectMeta {
                &self.metadata
            }

            fn meta_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }
        }
    };
}

resource!(Watched);
resource!(Owned);

/// Objects in one page of a list. A page of the API server's default size would be the operator's largest allocation.
pub const PAGE: u32 = 100;

/// A child, as far as its owner needs it: the rest of the object is not kept.
#[derive(Clone, Debug)]
pub struct Owned<K> {
    metadata: ObjectMeta,
    kind: PhantomData<K>,
}

impl<'de, K> Deserialize<'de> for Owned<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        /// Without the times, which may not be readable.
        #[derive(Default, Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        struct Metadata {
            name: Option<String>,
            namespace: Option<String>,
            uid: Option<String>,
            resource_version: Option<String>,
            owner_references: Option<Vec<OwnerReference>>,
        }
        #[derive(Deserialize)]
        struct Object {
            #[serde(default)]
            metadata: Metadata,
        }
        let Metadata { name, namespace, uid, resource_version, owner_references } =
            Object::deserialize(deserializer)?.metadata;
        let metadata = ObjectMeta {
            name,
            namespace,
            uid,
            resource_version,
            owner_references,
            ..ObjectMeta::default()
        };
        Ok(Self { metadata, kind: PhantomData })
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::ResourceExt;
    use kube::core::ObjectList;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_child_is_read_with_its_owner_whatever_is_in_it() {
        let sent = json!({
            "metadata": {
                "name": "redis", "namespace": "shop", "uid": "u", "resourceVersion": "7",
                "creationTimestamp": "9999-12-31T23:59:59Z",
                "managedFields": [{ "time": "9999-12-31T23:59:59Z" }],
                "ownerReferences": [{
                    "apiVersion": "flashsale.dev/v1beta1", "kind": "FlashSale", "name": "sale",
                    "uid": "s", "controller": true,
                }],
            },
            "data": { "a": 1 },
        });
        let child: Owned<ConfigMap> = serde_json::from_value(sent).unwrap();
        assert_eq!(
            (child.name_any().as_str(), child.namespace()),
            ("redis", Some("shop".to_owned()))
        );
        assert_eq!(
            (child.uid(), child.resource_version()),
            (Some("u".to_owned()), Some("7".to_owned()))
        );
        assert_eq!(child.owner_references()[0].uid, "s");
    }

    #[test]
    fn a_list_is_read_whatever_is_in_it() {
        let sent = json!({
            "apiVersion": "v1", "kind": "List", "metadata": { "resourceVersion": "7" },
            "items": [
                { "metadata": { "name": "never", "managedFields": [{ "time": "9999-12-31T23:59:59Z" }] } },
                { "metadata": { "name": "later", "creationTimestamp": "9999-12-31T23:59:59Z" } },
                { "metadata": { "name": "wrong" }, "data": { "a": 1 } },
                { "metadata": { "name": "right" }, "data": { "a": "1" } },
            ],
        });
        assert!(
            serde_json::from_value::<ObjectList<DeserializeGuard<ConfigMap>>>(sent.clone())
                .is_err()
        );
        let list: ObjectList<Watched<ConfigMap>> = serde_json::from_value(sent).unwrap();
        let names: Vec<_> = list.items.iter().map(ResourceExt::name_any).collect();
        assert_eq!(names, ["never", "later", "wrong", "right"]);
        let read: Vec<_> = list.items.into_iter().map(Watched::read).collect();
        assert!(read[0].0.is_ok() && read[3].0.is_ok(), "{read:?}");
        let error = &read[2].0.as_ref().unwrap_err().error;
        assert!(error.starts_with("data.a: "), "{error}");
    }
}
