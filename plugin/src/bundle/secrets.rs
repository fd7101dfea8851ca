//! Reads the Secrets of a sale, so that their values can be recognized. Only metadata and keys are kept.

use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use serde_json::json;

use super::objects::Objects;
use super::redact::Redactor;
use crate::cluster::Cluster;

/// Gives all values to the redactor, and names, types and keys to the objects.
pub async fn read(
    cluster: &Cluster,
    objects: &mut Objects,
    redactor: &mut Redactor,
    missing: &mut Vec<String>,
) {
    let secrets: Api<Secret> = cluster.api();
    for name in objects.secret_names() {
        match secrets.get_opt(&name).await {
            Ok(Some(secret)) => objects.secrets.push(describe(&name, &secret, redactor)),
            Ok(None) => objects.secrets.push(json!({ "name": name, "exists": false })),
            Err(error) => {
                let error = cluster.explain(error);
                missing.push(format!(
                    "the Secret {name} could not be read, so its values are recognized by their form only: {error:#}"
                ));
            }
        }
    }
}

fn describe(name: &str, secret: &Secret, redactor: &mut Redactor) -> serde_json::Value {
    let data = secret.data.clone().unwrap_or_default();
    for (key, value) in &data {
        redactor.secret(name, key, &value.0);
    }
    // Annotations can repeat the values (kubectl apply), so only the operator's own are kept.
    let annotations = secret.metadata.annotations.iter().flatten();
    let own = annotations.filter(|(key, _)| key.starts_with("flashsale.dev/"));
    json!({
        "name": name,
        "type": secret.type_,
        "created": secret.metadata.creation_timestamp,
        "resourceVersion": secret.metadata.resource_version,
        "labels": secret.metadata.labels,
        "annotations": own.collect::<std::collections::BTreeMap<_, _>>(),
        "owners": secret.metadata.owner_references.as_ref().map(Vec::len),
        "keys": data.keys().collect::<Vec<_>>(),
    })
}
