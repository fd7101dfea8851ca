//! The objects of a sale as the API server has them, whatever their version.

use std::collections::BTreeSet;

use anyhow::Result;
use flashsale_operator::crd::FlashSale;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, ListParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use super::collected::{Collected, pretty};
use super::redact::Redactor;
use crate::cluster::{Cluster, Explained as _};
use crate::logs::OPERATOR;

/// Kinds of a sale's parts: group, version, kind, plural.
const KINDS: [(&str, &str, &str, &str); 15] = [
    ("apps", "v1", "Deployment", "deployments"),
    ("apps", "v1", "ReplicaSet", "replicasets"),
    ("apps", "v1", "StatefulSet", "statefulsets"),
    ("batch", "v1", "Job", "jobs"),
    ("", "v1", "Pod", "pods"),
    ("", "v1", "Service", "services"),
    ("", "v1", "ConfigMap", "configmaps"),
    ("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims"),
    ("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets"),
    ("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies"),
    ("networking.k8s.io", "v1", "Ingress", "ingresses"),
    ("autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers"),
    ("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices"),
    ("gateway.networking.k8s.io", "v1", "HTTPRoute", "httproutes"),
    ("batch", "v1", "CronJob", "cronjobs"),
];
/// A group that a cluster need not have.
const OPTIONAL: &str = "gateway.networking.k8s.io";
/// Kinds of the operator.
const OPERATOR_KINDS: [usize; 2] = [0, 4];

/// All objects.
#[derive(Default)]
pub struct Objects {
    sale: Vec<Value>,
    /// Parts of the sale, all kinds.
    pub parts: Vec<Value>,
    /// The operator's Deployment and pods.
    pub operator: Vec<Value>,
    events: Vec<Value>,
    /// Metadata of Secrets.
    pub secrets: Vec<Value>,
}

impl Objects {
    /// Reads them; what cannot be read is added to `missing`.
    pub async fn read(
        cluster: &Cluster,
        sale: &str,
        operator_namespace: Option<&str>,
        missing: &mut Vec<String>,
    ) -> Self {
        let mut objects = Self::default();
        objects.sale.extend(raw_sale(cluster, sale).await);
        let here = Some(cluster.namespace.as_str());
        let labels = format!("app.kubernetes.io/name=flashsale,app.kubernetes.io/instance={sale}");
        for kind in &KINDS {
            match list(cluster, &resource(kind), here, &labels).await {
                Ok(found) => objects.parts.extend(found),
                Err(_) if kind.0 == OPTIONAL => {}
                Err(error) => missing.push(format!("{}: {error:#}", kind.3)),
            }
        }
        for kind in OPERATOR_KINDS.map(|index| &KINDS[index]) {
            match list(cluster, &resource(kind), operator_namespace, OPERATOR).await {
                Ok(found) => objects.operator.extend(found),
                Err(error) => missing.push(format!("{} of the operator: {error:#}", kind.3)),
            }
        }
        if objects.operator.is_empty() {
            missing.push("the operator was not found".to_owned());
        }
        let events = resource(&("", "v1", "Event", "events"));
        match list(cluster, &events, here, "").await {
            Ok(found) => {
                objects.events =
                    found.into_iter().filter(|it| objects.concerns(sale, it)).collect();
            }
            Err(error) => missing.push(format!("events: {error:#}")),
        }
        objects
    }

    /// Whether an event is about the sale or one of its parts. Parts that are gone have events too.
    fn concerns(&self, sale: &str, event: &Value) -> bool {
        let name = event["involvedObject"]["name"].as_str().unwrap_or_default();
        let of_claim = name.strip_prefix("data-").unwrap_or(name);
        let of_sale = of_claim
            .strip_prefix(sale)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('-'));
        of_sale || self.parts.iter().any(|part| part["metadata"]["name"] == name)
    }

    /// Every object, also of the operator.
    pub fn all(&self) -> impl Iterator<Item = &Value> {
        self.sale.iter().chain(&self.parts).chain(&self.operator)
    }

    /// Pods of the sale and of the operator.
    pub fn pods(&self) -> impl Iterator<Item = &Value> {
        self.parts.iter().chain(&self.operator).filter(|object| object["kind"] == "Pod")
    }

    /// Names of the Secrets that the sale and its parts refer to.
    pub fn secret_names(&self) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        for object in self.sale.iter().chain(&self.parts) {
            references(object, &mut names);
        }
        names
    }

    /// Adds a file for each object.
    pub fn write(self, redactor: &Redactor, collected: &mut Collected) -> Result<()> {
        let groups = [("", self.sale), ("objects/", self.parts), ("operator/", self.operator)];
        for (folder, objects) in groups {
            for mut object in objects {
                redactor.object(&mut object);
                let kind = object["kind"].as_str().unwrap_or_default().to_lowercase();
                let name = object["metadata"]["name"].as_str().unwrap_or_default();
                let path = format!("{folder}{kind}-{name}.yaml");
                collected.add(path, serde_norway::to_string(&object)?);
            }
        }
        let mut events = self.events;
        let time = |event: &Value| {
            let times = ["lastTimestamp", "eventTime"].map(|field| event[field].as_str());
            let created = event["metadata"]["creationTimestamp"].as_str();
            times.into_iter().chain([created]).flatten().next().unwrap_or_default().to_owned()
        };
        events.sort_by_key(time);
        for event in &mut events {
            redactor.object(event);
        }
        collected.add("events.yaml", serde_norway::to_string(&events)?);
        collected.add("secrets.json", pretty(&json!(self.secrets))?);
        Ok(())
    }
}

/// The sale, also one that this version cannot read.
pub async fn raw_sale(cluster: &Cluster, name: &str) -> Option<Value> {
    let kind = ApiResource::erase::<FlashSale>(&());
    let api: Api<DynamicObject> =
        Api::namespaced_with(cluster.client.clone(), &cluster.namespace, &kind);
    let object = api.get_opt(name).await.ok().flatten()?;
    serde_json::to_value(object).ok()
}

/// All objects of a kind with these labels; without a namespace, of all.
pub async fn list(
    cluster: &Cluster,
    kind: &ApiResource,
    namespace: Option<&str>,
    labels: &str,
) -> Result<Vec<Value>> {
    let api: Api<DynamicObject> = match namespace {
        Some(namespace) => Api::namespaced_with(cluster.client.clone(), namespace, kind),
        None => Api::all_with(cluster.client.clone(), kind),
    };
    let found = api.list(&ListParams::default().labels(labels)).await;
    let found = found.map_err(|error| cluster.explain(error))?;
    let mut objects = Vec::new();
    for object in found.items {
        let mut value = serde_json::to_value(object)?;
        // Items of a list have no type of their own.
        value["kind"] = json!(kind.kind);
        value["apiVersion"] = json!(kind.api_version);
        objects.push(value);
    }
    Ok(objects)
}

/// Versions of the resource definition.
pub async fn definition(cluster: &Cluster) -> Result<Value> {
    let api: Api<CustomResourceDefinition> = cluster.all();
    let found = api.get("flashsales.flashsale.dev").await.explained(cluster)?;
    let stored = found.status.as_ref().and_then(|status| status.stored_versions.clone());
    let labels = found.labels().clone();
    Ok(json!({
        "labels": labels,
        "generation": found.metadata.generation,
        "versions": found.spec.versions.iter().map(|version| &version.name).collect::<Vec<_>>(),
        "storedVersions": stored,
    }))
}

fn resource((group, version, kind, plural): &(&str, &str, &str, &str)) -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural)
}

fn references(value: &Value, names: &mut BTreeSet<String>) {
    let mut add = |name: &Value| names.extend(name.as_str().map(str::to_owned));
    match value {
        Value::Object(fields) => {
            for (key, field) in fields {
                match key.as_str() {
                    // `secret` is one of the sources of a projected volume.
                    "secretKeyRef" | "secretRef" | "headersSecretRef" | "secret" => {
                        add(&field["name"]);
                    }
                    "secretName" | "tlsSecretName" => add(field),
                    "imagePullSecrets" => {
                        field
                            .as_array()
                            .into_iter()
                            .flatten()
                            .for_each(|secret| add(&secret["name"]));
                    }
                    // `status.secrets` lists those that the parts use.
                    "secrets" => {
                        let used = field.as_object().into_iter().flat_map(|used| used.keys());
                        used.for_each(|name| add(&json!(name)));
                    }
                    _ => {}
                }
            }
            fields.values().for_each(|field| references(field, names));
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, names)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_secrets_of_a_sale_are_found_wherever_they_are_named() {
        let sale = json!({
            "spec": {
                "auth": { "secretRef": { "name": "keys" } },
                "imagePullSecrets": [{ "name": "registry" }],
                "app": {
                    "tracing": { "headersSecretRef": { "name": "traces" } },
                    "ingress": { "tlsSecretName": "ingress" },
                },
            },
            "status": { "secrets": { "black-friday-redis": "7" } },
        });
        let source = json!({ "secret": { "name": "projected", "items": [] } });
        let pod = json!({ "spec": {
            "containers": [{ "env": [
                { "name": "A", "valueFrom": { "secretKeyRef": { "name": "variable", "key": "a" } } },
            ] }],
            "volumes": [
                { "name": "a", "secret": { "secretName": "mounted" } },
                { "name": "b", "projected": { "sources": [source] } },
            ],
        } });
        let objects = Objects { sale: vec![sale], parts: vec![pod], ..Objects::default() };
        let names = objects.secret_names();
        let expected = [
            "black-friday-redis",
            "ingress",
            "keys",
            "mounted",
            "projected",
            "registry",
            "traces",
            "variable",
        ];
        assert_eq!(names.iter().map(String::as_str).collect::<Vec<_>>(), expected);
    }
}
