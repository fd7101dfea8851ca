//! The `ClusterServiceVersion`, by which OLM installs the operator and a catalog shows it.

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::chart::Chart;
use crate::install::RELEASE;

/// What the operator may create for a sale: the resource, and what a catalog shows.
const CREATED: &[(&str, &str, &str)] = &[
    ("secrets", "Secret", "v1"),
    ("configmaps", "ConfigMap", "v1"),
    ("services", "Service", "v1"),
    ("deployments", "Deployment", "v1"),
    ("statefulsets", "StatefulSet", "v1"),
    ("poddisruptionbudgets", "PodDisruptionBudget", "v1"),
    ("horizontalpodautoscalers", "HorizontalPodAutoscaler", "v2"),
    ("networkpolicies", "NetworkPolicy", "v1"),
    ("ingresses", "Ingress", "v1"),
    ("httproutes", "HTTPRoute", "v1"),
    ("jobs", "Job", "v1"),
    ("cronjobs", "CronJob", "v1"),
    ("persistentvolumeclaims", "PersistentVolumeClaim", "v1"),
];
/// The custom resources among them.
const GATEWAY_API: &str = "gateway.networking.k8s.io";

/// The `ClusterServiceVersion` of the chart, the definition and an example.
pub fn of(chart: &Chart, definition: &Value, sale: &Value) -> Result<Value> {
    let deployment = deployment(chart)?;
    let images = images(&deployment);
    let sales = rules(chart, "ClusterRole", RELEASE)?;
    let lease = rules(chart, "Role", &format!("{RELEASE}-lease"))?;
    let (media_type, icon) = chart
        .fact("icon")?
        .strip_prefix("data:")
        .and_then(|icon| icon.split_once(";base64,"))
        .context("the chart's icon is no data URL")?;
    let version = chart.fact("version")?;
    let modes = ["OwnNamespace", "SingleNamespace", "MultiNamespace", "AllNamespaces"];
    let modes = modes.map(|mode| json!({"type": mode, "supported": true}));
    let resources = created(&sales)?;
    let rules = [sales, lease].concat();
    Ok(json!({
        "apiVersion": "operators.coreos.com/v1alpha1",
        "kind": "ClusterServiceVersion",
        "metadata": {
            "name": format!("{RELEASE}.v{version}"),
            "annotations": {
                "alm-examples": serde_json::to_string_pretty(&[sale])?,
                "capabilities": chart.annotation("operatorCapabilities")?,
                "categories": "Application Runtime",
                "containerImage": images[0]["image"],
                "description": chart.fact("description")?,
            },
            "labels": {
                "operatorframework.io/arch.amd64": "supported",
                "operatorframework.io/os.linux": "supported",
            },
        },
        "spec": {
            "displayName": "Flash sale operator",
            "description": include_str!("description.md"),
            "version": version,
            "maturity": "beta",
            "minKubeVersion":
                chart.fact("kubeVersion")?.trim_start_matches(">=").trim_end_matches("-0"),
            "keywords": chart.facts["keywords"],
            "provider": {"name": definition["spec"]["group"]},
            "icon": [{"mediatype": media_type, "base64data": icon}],
            "installModes": modes,
            "customresourcedefinitions": {"owned": [owned(chart, definition, &resources)?]},
            "install": {
                "strategy": "deployment",
                "spec": {
                    // OLM makes Roles of them in the namespaces of the OperatorGroup, or ClusterRoles for all namespaces.
                    "permissions": [{
                        "serviceAccountName":
                            deployment["spec"]["template"]["spec"]["serviceAccountName"],
                        "rules": rules,
                    }],
                    "deployments": [{
                        "name": deployment["metadata"]["name"],
                        "label": deployment["metadata"]["labels"],
                        "spec": deployment["spec"],
                    }],
                },
            },
            "relatedImages": images,
        },
    }))
}

/// The chart's Deployment. It watches the namespaces of the `OperatorGroup`.
fn deployment(chart: &Chart) -> Result<Value> {
    let mut deployment = chart.object("Deployment", RELEASE)?.clone();
    let environment = deployment.pointer_mut("/spec/template/spec/containers/0/env");
    let environment =
        environment.and_then(Value::as_array_mut).context("the operator has no environment")?;
    let annotation = "metadata.annotations['olm.targetNamespaces']";
    environment.push(json!({
        "name": "OLM_TARGET_NAMESPACES",
        "valueFrom": {"fieldRef": {"fieldPath": annotation}},
    }));
    Ok(deployment)
}

/// The image of the operator, then those that it gives to sales.
fn images(deployment: &Value) -> Vec<Value> {
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    let mut images = vec![json!({"name": "operator", "image": container["image"]})];
    for variable in container["env"].as_array().into_iter().flatten() {
        let name = variable["name"].as_str().unwrap_or_default();
        let part = name.strip_prefix("DEFAULT_").and_then(|name| name.strip_suffix("_IMAGE"));
        if let Some(part) = part {
            images.push(json!({"name": part.to_lowercase(), "image": variable["value"]}));
        }
    }
    images
}

/// The rules of a role of the chart.
fn rules(chart: &Chart, kind: &str, name: &str) -> Result<Vec<Value>> {
    let rules = chart.object(kind, name)?["rules"].as_array();
    rules.cloned().with_context(|| format!("{kind} {name} has no rules"))
}

/// What a catalog says about the definition.
fn owned(chart: &Chart, definition: &Value, resources: &[Value]) -> Result<Value> {
    let shown: Value = serde_norway::from_str(chart.annotation("crds")?)?;
    let shown = &shown[0];
    let mut versions = definition["spec"]["versions"].as_array().into_iter().flatten();
    let stored = versions.find(|version| version["storage"] == true);
    let stored = stored.context("no version of the definition is stored")?;
    let properties = &stored["schema"]["openAPIV3Schema"]["properties"];
    Ok(json!({
        "name": definition["metadata"]["name"],
        "kind": definition["spec"]["names"]["kind"],
        "version": stored["name"],
        "displayName": shown["displayName"],
        "description": shown["description"],
        "resources": resources,
        "specDescriptors": descriptors(&properties["spec"]),
        "statusDescriptors": descriptors(&properties["status"]),
    }))
}

/// The resources that these rules permit to create, but events.
fn created(rules: &[Value]) -> Result<Vec<Value>> {
    let mut created = Vec::new();
    let is_of_created = |rule: &&Value| words(&rule["verbs"]).any(|verb| verb == "create");
    for rule in rules.iter().filter(is_of_created) {
        let group = words(&rule["apiGroups"]).next().unwrap_or_default();
        for resource in words(&rule["resources"]).filter(|resource| *resource != "events") {
            let (_, kind, version) =
                CREATED.iter().find(|(known, _, _)| *known == resource).with_context(|| {
                    format!("the kind of {resource} is not known; add it to CREATED")
                })?;
            let name =
                if group == GATEWAY_API { format!("{resource}.{group}") } else { String::new() };
            created.push(json!({"name": name, "kind": kind, "version": version}));
        }
    }
    Ok(created)
}

/// The texts of a list.
fn words(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// One for each field of the spec or the status, with the definition's own description.
fn descriptors(part: &Value) -> Vec<Value> {
    let fields = part["properties"].as_object().into_iter().flatten();
    let descriptor = |(field, schema): (&String, &Value)| {
        let description = schema["description"].as_str().unwrap_or_default().replace('\n', " ");
        let mut descriptor =
            json!({"path": field, "displayName": title(field), "description": description});
        // How a console draws them.
        if ["conditions", "phase"].contains(&field.as_str()) {
            let drawn = format!("urn:alm:descriptor:io.kubernetes.{field}");
            descriptor["x-descriptors"] = json!([drawn]);
        }
        descriptor
    };
    fields.map(descriptor).collect()
}

/// A field's name as words: `networkPolicy` is "Network policy".
fn title(field: &str) -> String {
    let mut title = String::new();
    for letter in field.chars() {
        if title.is_empty() {
            title.extend(letter.to_uppercase());
        } else if letter.is_uppercase() {
            title.push(' ');
            title.extend(letter.to_lowercase());
        } else {
            title.push(letter);
        }
    }
    title
}
