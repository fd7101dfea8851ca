//! Further containers in the pods of a sale.

use flashsale_operator::crd::FlashSale;
use k8s_openapi::api::apps::v1::Deployment;
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::cluster::{NAME, condition, reconcile_once};
use crate::pods::assert_refused;
use crate::support::{Operator, apply, minimal, namespace};

fn sidecar(name: &str) -> Value {
    json!({
        "name": name, "image": "forwarder:1", "restartPolicy": "Always",
        "volumeMounts": [{ "name": "logs", "mountPath": "/logs" }],
        "startupProbe": { "exec": { "command": ["true"] }, "periodSeconds": 1 },
    })
}

fn part(name: &str, template: &Value) -> Value {
    json!({ name: { "podTemplate": template } })
}

async fn reconciled(client: &Client, namespace: &str, spec: &Value) -> FlashSale {
    let operator = Operator::idle().await;
    let mut sale = minimal(NAME);
    let declared = sale["spec"].as_object_mut().unwrap();
    declared.extend(spec.as_object().unwrap().clone());
    apply(client, namespace, &sale).await.unwrap();
    reconcile_once(&operator, client, namespace).await;
    let sales: Api<FlashSale> = Api::namespaced(client.clone(), namespace);
    sales.get(NAME).await.unwrap()
}

fn ready_message(sale: &FlashSale) -> String {
    let conditions = &sale.status.as_ref().unwrap().conditions;
    conditions.iter().find(|it| it.type_ == "Ready").unwrap().message.clone()
}

#[tokio::test]
async fn sidecars_reach_the_pods_and_can_be_removed() {
    let (client, namespace) = namespace("containers").await;
    let mut template = json!({
        "volumes": [{ "name": "logs", "emptyDir": {} }],
        "initContainers": [sidecar("forwarder")],
    });
    let mut spec = json!({});
    for name in ["redis", "database", "app", "seed"] {
        spec[name] = json!({ "podTemplate": template });
    }
    let sale = reconciled(&client, &namespace, &spec).await;
    assert_ne!(condition(&sale, "Ready").1, "ChangeRefused", "{:#?}", sale.status);
    let apps: Api<Deployment> = Api::namespaced(client.clone(), &namespace);
    let pod = async || apps.get(NAME).await.unwrap().spec.unwrap().template.spec.unwrap();
    let found = pod().await;
    assert_eq!(found.init_containers.unwrap()[0].name, "forwarder");
    assert_eq!(found.containers.len(), 1);

    template["initContainers"] = json!([]);
    template["containers"] = json!([{ "name": "proxy", "image": "proxy:1" }]);
    reconciled(&client, &namespace, &part("app", &template)).await;
    let found = pod().await;
    assert_eq!(found.init_containers.unwrap_or_default().len(), 0);
    assert_eq!(found.containers[1].name, "proxy");
}

#[tokio::test]
async fn a_container_that_cannot_be_is_refused_or_named() {
    let (client, namespace) = namespace("containers-refused").await;
    let container = |name: &str| json!({ "containers": [{ "name": name, "image": "i:1" }] });
    let both = json!({
        "containers": [{ "name": "a", "image": "i:1" }],
        "initContainers": [{ "name": "a", "image": "i:1" }],
    });
    let cases: [(Value, &[&str]); 9] = [
        (
            part("app", &container("app")),
            &["spec.app.podTemplate.containers[0].name", "the operator has a container named app"],
        ),
        (part("redis", &container("redis")), &["a container named redis"]),
        (part("database", &container("postgres")), &["a container named postgres"]),
        (
            part("seed", &json!({ "initContainers": [{ "name": "seed", "image": "i:1" }] })),
            &["spec.seed.podTemplate.initContainers[0].name", "a container named seed"],
        ),
        (
            part("seed", &container("sidecar")),
            &["spec.seed.podTemplate.containers", "use initContainers"],
        ),
        (part("app", &container("Proxy")), &["containers[0].name", "should match"]),
        (
            part("app", &json!({ "containers": [{ "name": "proxy" }] })),
            &["spec.app.podTemplate.containers[0].image", "Required value"],
        ),
        (
            part("app", &json!({ "initContainers": [sidecar("a"), sidecar("a")] })),
            &["spec.app.podTemplate.initContainers[1]", "Duplicate value"],
        ),
        (part("app", &both), &["spec.app.podTemplate.initContainers", "the same name"]),
    ];
    assert_refused(&client, &namespace, &cases).await;

    // What only the API server knows about containers.
    let wrong =
        json!({ "containers": [{ "name": "proxy", "image": "i:1", "imagePullPolicy": "Often" }] });
    let sale = reconciled(&client, &namespace, &part("app", &wrong)).await;
    assert_eq!(condition(&sale, "Ready"), ("False", "ChangeRefused"));
    let message = ready_message(&sale);
    assert!(message.contains("containers[1].imagePullPolicy: Unsupported value"), "{message}");
}
