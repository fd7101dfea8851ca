//! Secrets that the API server refuses to create: what runs stays as it is until they are stored.

use flashsale_operator::crd::Phase;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{ResourceQuota, Secret};
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::cluster::{NAME, condition, everything_runs, reconcile_once, report, sale};
use crate::support::{Operator, apply, eventually, minimal, namespace};

const QUOTA: &str = "no-secrets";

/// Whether the API server would create another Secret.
async fn accepts_secrets(client: &Client, namespace: &str) -> bool {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let probe = serde_json::from_value(json!({ "metadata": { "name": "probe" } })).unwrap();
    let params = PostParams { dry_run: true, ..PostParams::default() };
    secrets.create(&params, &probe).await.is_ok()
}

/// From here on, no Secret can be created.
async fn refuse_secrets(client: &Client, namespace: &str) {
    let quotas: Api<ResourceQuota> = Api::namespaced(client.clone(), namespace);
    let quota = serde_json::from_value(json!({
        "metadata": { "name": QUOTA }, "spec": { "hard": { "secrets": "0" } },
    }))
    .unwrap();
    quotas.create(&PostParams::default(), &quota).await.unwrap();
    // What the controller of quotas counts. The API server itself compares with it.
    let counted = json!({ "hard": { "secrets": "0" }, "used": { "secrets": "0" } });
    report(&quotas, QUOTA, counted).await;
    eventually("the quota is in force", async || {
        (!accepts_secrets(client, namespace).await).then_some(())
    })
    .await;
}

async fn accept_secrets(client: &Client, namespace: &str) {
    let quotas: Api<ResourceQuota> = Api::namespaced(client.clone(), namespace);
    quotas.delete(QUOTA, &DeleteParams::default()).await.unwrap();
    eventually("the quota is gone", async || {
        accepts_secrets(client, namespace).await.then_some(())
    })
    .await;
}

/// Pod templates of the app, the Redis nodes and the database. A changed one restarts pods.
async fn templates(client: &Client, namespace: &str) -> [Value; 3] {
    let apps: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let sets: Api<StatefulSet> = Api::namespaced(client.clone(), namespace);
    let set = async |name| json!(sets.get(name).await.unwrap().spec.unwrap().template);
    [
        json!(apps.get(NAME).await.unwrap().spec.unwrap().template),
        set("black-friday-redis").await,
        set("black-friday-db").await,
    ]
}

#[tokio::test]
async fn no_pod_restarts_while_a_secret_is_refused() {
    let (client, namespace) = namespace("secrets-refused").await;
    let operator = Operator::idle().await;
    apply(&client, &namespace, &minimal(NAME)).await.unwrap();
    reconcile_once(&operator, &client, &namespace).await;
    everything_runs(&client, &namespace).await;
    reconcile_once(&operator, &client, &namespace).await;
    assert_eq!(condition(&sale(&client, &namespace).await, "Ready"), ("True", "AllReady"));
    let before = templates(&client, &namespace).await;

    refuse_secrets(&client, &namespace).await;
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &namespace);
    let deleted = ["black-friday-operator", "black-friday-redis", "black-friday-auth"];
    for name in deleted {
        secrets.delete(name, &DeleteParams::default()).await.unwrap();
        for _ in 0..2 {
            reconcile_once(&operator, &client, &namespace).await;
            let said = sale(&client, &namespace).await;
            assert_eq!(condition(&said, "Ready"), ("False", "ChangeRefused"), "{name}");
            let conditions = said.status.unwrap().conditions;
            let ready = conditions.iter().find(|it| it.type_ == "Ready").unwrap();
            assert!(ready.message.contains(&format!("Secret {name} was refused")), "{ready:?}");
            assert_eq!(templates(&client, &namespace).await, before, "{name}");
        }
    }

    // The pods restart once with the new values.
    accept_secrets(&client, &namespace).await;
    reconcile_once(&operator, &client, &namespace).await;
    for name in deleted {
        assert!(secrets.get(name).await.is_ok(), "{name}");
    }
    let after = templates(&client, &namespace).await;
    assert_ne!(after, before);
    assert_ne!(condition(&sale(&client, &namespace).await, "Ready").1, "ChangeRefused");
    reconcile_once(&operator, &client, &namespace).await;
    assert_eq!(templates(&client, &namespace).await, after);
}

#[tokio::test]
async fn a_new_sale_has_no_pods_before_its_secrets_exist() {
    let (client, namespace) = namespace("secrets-refused-new").await;
    let operator = Operator::idle().await;
    refuse_secrets(&client, &namespace).await;
    apply(&client, &namespace, &minimal(NAME)).await.unwrap();
    reconcile_once(&operator, &client, &namespace).await;
    let said = sale(&client, &namespace).await;
    assert_eq!(condition(&said, "Ready"), ("False", "ChangeRefused"));
    assert_eq!(said.status.unwrap().phase, Phase::Failed);
    let apps: Api<Deployment> = Api::namespaced(client.clone(), &namespace);
    let sets: Api<StatefulSet> = Api::namespaced(client.clone(), &namespace);
    let all = ListParams::default();
    assert!(apps.list(&all).await.unwrap().items.is_empty());
    assert!(sets.list(&all).await.unwrap().items.is_empty());

    accept_secrets(&client, &namespace).await;
    reconcile_once(&operator, &client, &namespace).await;
    assert_eq!(sets.list(&all).await.unwrap().items.len(), 2);
    assert_eq!(sale(&client, &namespace).await.status.unwrap().phase, Phase::Provisioning);
}
