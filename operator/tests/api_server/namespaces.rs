//! An operator of several namespaces. On servers of its own, with the rights of a release for them.

use flashsale_operator::controller::{Scope, wait_for_crd};
use flashsale_operator::crd::{FlashSale, Phase, UNOBSERVED};
use kube::api::DeleteParams;
use kube::{Api, Client};
use tokio_util::sync::CancellationToken;

use crate::cluster::{NAME, in_phase, owned};
use crate::support::{
    DEADLINE, Operator, Server, apply, create_namespace, eventually, minimal, wait_for,
};

/// A server with a sale in each of these namespaces, and with rights to those of `values`.
async fn with_sales(values: &str, namespaces: &[&str]) -> (Server, Client) {
    let server = Server::bare().await;
    let client = server.admin();
    for namespace in namespaces {
        create_namespace(&client, namespace).await;
    }
    let server = server.with_rights(&[values]).await;
    for namespace in namespaces {
        apply(&client, namespace, &minimal(NAME)).await.unwrap();
    }
    (server, client)
}

fn sales(client: &Client, namespace: &str) -> Api<FlashSale> {
    Api::namespaced(client.clone(), namespace)
}

#[tokio::test]
async fn the_sales_of_the_watched_namespaces_are_reconciled_and_no_others() {
    // Only the scope keeps the operator from the third namespace.
    let all = ["a", "b", "other"];
    let (server, client) = with_sales("watchNamespaces={a,b,other}", &all).await;
    let _operator = Operator::run(server.operator(), Scope::of(["a", "b"]));
    for namespace in ["a", "b"] {
        wait_for(&sales(&client, namespace), NAME, in_phase(Phase::Provisioning)).await;
    }
    // A change in either is seen, and a part that is deleted in either is created again.
    for namespace in ["a", "b"] {
        let sale = sales(&client, namespace);
        let mut changed = minimal(NAME);
        changed["spec"]["products"][0]["stock"] = serde_json::json!(200);
        let generation = apply(&client, namespace, &changed).await.unwrap().metadata.generation;
        wait_for(&sale, NAME, |sale: Option<&FlashSale>| {
            let status = sale.and_then(|sale| sale.status.as_ref());
            status.map(|status| status.observed_generation) == generation
        })
        .await;
        let maps: Api<k8s_openapi::api::core::v1::ConfigMap> =
            Api::namespaced(client.clone(), namespace);
        let uid = maps.get("black-friday-catalog").await.unwrap().metadata.uid;
        maps.delete("black-friday-catalog", &DeleteParams::default()).await.unwrap();
        eventually("another ConfigMap", async || {
            let found = maps.get_opt("black-friday-catalog").await.unwrap()?;
            (found.metadata.uid != uid).then_some(())
        })
        .await;
    }
    let other = sales(&client, "other").get(NAME).await.unwrap();
    assert_eq!(other.status.unwrap().observed_generation, UNOBSERVED, "no operator has seen it");
    assert!(owned(&client, "other").await.is_empty());
}

#[tokio::test]
async fn a_namespace_without_permissions_does_not_stop_the_others() {
    let (server, client) = with_sales("watchNamespaces={b}", &["a", "b"]).await;
    let scope = Scope::of(["a", "b"]);
    let never = CancellationToken::new();
    let operator = server.operator();
    let waiting = tokio::time::timeout(DEADLINE, wait_for_crd(&operator, &scope, &never));
    waiting.await.expect("one namespace is enough");
    let _operator = Operator::run(operator, scope);
    wait_for(&sales(&client, "b"), NAME, in_phase(Phase::Provisioning)).await;
    assert!(owned(&client, "a").await.is_empty());
}
