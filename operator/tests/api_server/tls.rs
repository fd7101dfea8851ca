//! TLS of the purchase API on a real API server: the Secret is waited for, and a renewed one restarts nothing.

use std::time::Duration;

use flashsale_operator::crd::FlashSale;
use k8s_openapi::ByteString;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Secret, Service};
use kube::Api;
use kube::api::PostParams;
use kube::runtime::controller::Action;
use serde_json::json;

use crate::cluster::{NAME, condition, owned, reconcile_once};
use crate::support::{Operator, apply, minimal, namespace};

#[tokio::test]
async fn a_certificate_is_waited_for_and_a_renewed_one_restarts_nothing() {
    let (client, namespace) = namespace("tls").await;
    let operator = Operator::idle().await;
    let mut sale = minimal(NAME);
    sale["spec"]["app"] = json!({ "tls": { "secretRef": { "name": "shop-tls" } } });
    apply(&client, &namespace, &sale).await.unwrap();
    let sales: Api<FlashSale> = Api::namespaced(client.clone(), &namespace);

    let action = reconcile_once(&operator, &client, &namespace).await;
    assert_eq!(action, Action::requeue(Duration::from_secs(5)));
    let sale = sales.get(NAME).await.unwrap();
    assert_eq!(condition(&sale, "Ready"), ("False", "SecretMissing"));
    assert!(owned(&client, &namespace).await.is_empty(), "nothing is half there");

    let secrets: Api<Secret> = Api::namespaced(client.clone(), &namespace);
    let mut secret: Secret = serde_json::from_value(json!({
        "metadata": { "name": "shop-tls" },
        "type": "kubernetes.io/tls",
        "stringData": {
            "tls.crt": "-----BEGIN CERTIFICATE-----", "tls.key": "-----BEGIN PRIVATE KEY-----",
        },
    }))
    .unwrap();
    secrets.create(&PostParams::default(), &secret).await.unwrap();
    reconcile_once(&operator, &client, &namespace).await;
    let url = sales.get(NAME).await.unwrap().status.unwrap().url.unwrap();
    assert_eq!(url, "https://black-friday.tls.svc:8080");
    let services: Api<Service> = Api::namespaced(client.clone(), &namespace);
    let port = services.get(NAME).await.unwrap().spec.unwrap().ports.unwrap().remove(0);
    assert_eq!(
        (port.name.as_deref(), port.app_protocol.as_deref()),
        (Some("https"), Some("https"))
    );

    let apps: Api<Deployment> = Api::namespaced(client.clone(), &namespace);
    let before = apps.get(NAME).await.unwrap();
    secret = secrets.get("shop-tls").await.unwrap();
    let renewed = ByteString(b"-----BEGIN CERTIFICATE-----\nrenewed".to_vec());
    secret.data.as_mut().unwrap().insert("tls.crt".to_owned(), renewed);
    secrets.replace("shop-tls", &PostParams::default(), &secret).await.unwrap();
    reconcile_once(&operator, &client, &namespace).await;
    let after = apps.get(NAME).await.unwrap();
    assert_eq!(before.metadata.generation, after.metadata.generation);

    // Without TLS again: the port has its first name, and nothing of TLS is left.
    apply(&client, &namespace, &minimal(NAME)).await.unwrap();
    reconcile_once(&operator, &client, &namespace).await;
    let port = services.get(NAME).await.unwrap().spec.unwrap().ports.unwrap().remove(0);
    assert_eq!((port.name.as_deref(), port.app_protocol), (Some("http"), None));
    let pod = apps.get(NAME).await.unwrap().spec.unwrap().template.spec.unwrap();
    assert_eq!(pod.volumes, None);
    let url = sales.get(NAME).await.unwrap().status.unwrap().url.unwrap();
    assert_eq!(url, "http://black-friday.tls.svc:8080");
}
