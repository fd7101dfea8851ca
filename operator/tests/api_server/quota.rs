//! A quota that allows no pod, kept by Kubernetes' own API server and controllers.

use flashsale_operator::controller::Scope;
use flashsale_operator::crd::FlashSale;
use k8s_openapi::api::core::v1::ResourceQuota;
use kube::Api;
use kube::api::PostParams;
use serde_json::json;

use crate::cluster::{NAME, condition};
use crate::control_plane::Controller;
use crate::support::{Operator, Server, apply, create_namespace, eventually, minimal, wait_for};

const NAMESPACE: &str = "shop";
const QUOTA: &str = "no-pods";
const PARTS: [&str; 4] = ["RedisReady", "DatabaseReady", "StockSeeded", "AppAvailable"];

#[tokio::test]
async fn a_quota_of_pods_is_named_by_each_part() {
    let server = Server::with_chart().await;
    let client = server.admin();
    create_namespace(&client, NAMESPACE).await;
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = server.kubeconfig_in(folder.path());
    let _controllers = Controller::of_workloads(&kubeconfig);

    let quotas: Api<ResourceQuota> = Api::namespaced(client.clone(), NAMESPACE);
    let quota: ResourceQuota = serde_json::from_value(json!({
        "metadata": { "name": QUOTA }, "spec": { "hard": { "pods": "0" } },
    }))
    .unwrap();
    quotas.create(&PostParams::default(), &quota).await.unwrap();
    eventually("the quota is counted", async || {
        quotas.get(QUOTA).await.unwrap().status?.used.map(drop)
    })
    .await;

    apply(&client, NAMESPACE, &minimal(NAME)).await.unwrap();
    let _operator = Operator::run(server.operator(), Scope::of([NAMESPACE]));
    let sales: Api<FlashSale> = Api::namespaced(client.clone(), NAMESPACE);
    let is_named = |sale: Option<&FlashSale>| {
        sale.is_some_and(|sale| PARTS.iter().all(|part| condition(sale, part).1 == "FailedCreate"))
    };
    let sale = wait_for(&sales, NAME, is_named).await;
    assert_eq!(condition(&sale, "Ready"), ("False", "FailedCreate"));
    let conditions = sale.status.unwrap().conditions;
    let quota = format!("exceeded quota: {QUOTA}");
    for part in PARTS {
        let said = conditions.iter().find(|it| it.type_ == part).unwrap();
        assert!(said.message.contains(&quota), "{said:?}");
    }
}
