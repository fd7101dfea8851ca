//! The status that clients of Kubernetes wait for: the default of the definition, columns, `helm --wait`.

use std::path::Path;
use std::time::Duration;

use flashsale_operator::crd::{FlashSale, Phase, UNOBSERVED};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use kube::api::PostParams;
use kube::{Api, Client, CustomResourceExt, ResourceExt};
use serde_json::{Value, json};

use crate::cluster::{NAME, condition, everything_runs, in_phase, reconcile_once, report};
use crate::lifecycle::pod;
use crate::support::{
    Operator, admin_kubeconfig, apply, eventually, minimal, namespace, run_helm, wait_for,
};

#[tokio::test]
async fn a_sale_that_no_operator_has_seen_has_a_status_that_says_so() {
    let (client, namespace) = namespace("status-default").await;
    apply(&client, &namespace, &minimal(NAME)).await.unwrap();
    let sales: Api<FlashSale> = Api::namespaced(client.clone(), &namespace);
    let sale = sales.get(NAME).await.unwrap();
    let status = sale.status.as_ref().unwrap();
    assert_eq!((status.observed_generation, status.phase), (UNOBSERVED, Phase::Pending));
    assert_eq!(condition(&sale, "Ready"), ("Unknown", "Pending"));
    // Others get it too: a list, and a sale whose spec changes.
    let mut changed = minimal(NAME);
    changed["spec"]["products"][0]["stock"] = json!(101);
    let changed = apply(&client, &namespace, &changed).await.unwrap();
    assert_eq!(changed.metadata.generation, Some(2));
    let listed = sales.list(&kube::api::ListParams::default()).await.unwrap().items.remove(0);
    assert_eq!(listed.status.as_ref(), Some(status));

    // The operator's status replaces all of it.
    let operator = Operator::idle().await;
    reconcile_once(&operator, &client, &namespace).await;
    let sale = sales.get(NAME).await.unwrap();
    let status = sale.status.as_ref().unwrap();
    assert_eq!(status.observed_generation, 2);
    assert_eq!(condition(&sale, "Ready"), ("False", "NodesAway"));
    assert_eq!(condition(&sale, "Reconciling"), ("True", "NodesAway"));
    assert_eq!(status.waiting_for.as_ref().unwrap().reason, "NodesAway");
    everything_runs(&client, &namespace).await;
    reconcile_once(&operator, &client, &namespace).await;
    let sale = sales.get(NAME).await.unwrap();
    assert_eq!(condition(&sale, "Ready"), ("True", "AllReady"));
    assert_eq!(condition(&sale, "Reconciling"), ("", ""), "it is gone");
    assert_eq!(sale.status.as_ref().unwrap().waiting_for, None);
    // The database's Secret got the database's image, and with that another version, which the status names.
    reconcile_once(&operator, &client, &namespace).await;
    let sale = sales.get(NAME).await.unwrap();
    reconcile_once(&operator, &client, &namespace).await;
    let again = sales.get(NAME).await.unwrap();
    assert_eq!(again.status, sale.status);
    assert_eq!(again.resource_version(), sale.resource_version());
}

#[tokio::test]
async fn an_image_that_can_t_be_pulled_stalls_the_sale_until_it_is_corrected() {
    let (client, namespace) = namespace("status-stalled").await;
    let operator = Operator::idle().await;
    let mut declared = minimal(NAME);
    declared["spec"]["app"] = json!({ "image": "app:typo" });
    apply(&client, &namespace, &declared).await.unwrap();
    reconcile_once(&operator, &client, &namespace).await;
    let waiting = json!({ "waiting": { "reason": "ErrImagePull", "message": "not found" } });
    let status = json!({ "phase": "Pending", "containerStatuses": [{
        "name": "app", "image": "app:typo", "imageID": "", "ready": false, "restartCount": 0,
        "state": waiting,
    }] });
    pod(&client, &namespace, "app", &json!([]), status).await;
    reconcile_once(&operator, &client, &namespace).await;
    let sales: Api<FlashSale> = Api::namespaced(client.clone(), &namespace);
    let sale = sales.get(NAME).await.unwrap();
    assert_eq!(condition(&sale, "Reconciling"), ("True", "NodesAway"));
    assert_eq!(condition(&sale, "Stalled"), ("", ""));
    assert_eq!(sale.status.unwrap().waiting_for.unwrap().reason, "ImagePullBackOff");

    // The clock of the operator is the machine's, so its record is set back.
    let since = Timestamp::now() - SignedDuration::from_mins(2);
    report(&sales, NAME, json!({ "waitingFor": { "since": since.to_string() } })).await;
    reconcile_once(&operator, &client, &namespace).await;
    let sale = sales.get(NAME).await.unwrap();
    assert_eq!(condition(&sale, "Stalled"), ("True", "ImagePullBackOff"));
    assert_eq!(condition(&sale, "Reconciling"), ("", ""));
    let status = sale.status.unwrap();
    let stalled = status.conditions.iter().find(|it| it.type_ == "Stalled").unwrap();
    assert!(stalled.message.contains("image app:typo can't be pulled: not found"), "{stalled:?}");

    // The pod of before is still there.
    declared["spec"]["app"] = json!({ "image": "app:right" });
    apply(&client, &namespace, &declared).await.unwrap();
    reconcile_once(&operator, &client, &namespace).await;
    let sale = sales.get(NAME).await.unwrap();
    assert_eq!(condition(&sale, "Stalled"), ("", ""));
    assert_eq!(condition(&sale, "Reconciling").0, "True");
}

/// The warning does not keep the sale from being ready, and goes with its cause.
#[tokio::test]
async fn a_lease_below_a_slow_commit_is_warned_about_until_it_is_corrected() {
    let (client, namespace) = namespace("status-warning").await;
    let operator = Operator::idle().await;
    let mut declared = minimal(NAME);
    declared["spec"]["lock"] = json!({ "leaseTime": "500ms" });
    apply(&client, &namespace, &declared).await.unwrap();
    reconcile_once(&operator, &client, &namespace).await;
    everything_runs(&client, &namespace).await;
    reconcile_once(&operator, &client, &namespace).await;
    let sales: Api<FlashSale> = Api::namespaced(client.clone(), &namespace);
    let sale = sales.get(NAME).await.unwrap();
    assert_eq!(condition(&sale, "ConfigurationWarning"), ("True", "Risky"));
    assert_eq!(condition(&sale, "Ready"), ("True", "AllReady"));
    let status = sale.status.unwrap();
    let warning = status.conditions.iter().find(|it| it.type_ == "ConfigurationWarning").unwrap();
    assert!(warning.message.starts_with("lock.leaseTime: below 1s, "), "{warning:?}");

    apply(&client, &namespace, &minimal(NAME)).await.unwrap();
    reconcile_once(&operator, &client, &namespace).await;
    let sale = sales.get(NAME).await.unwrap();
    assert_eq!(condition(&sale, "ConfigurationWarning"), ("", ""));
}

#[tokio::test]
async fn wide_columns_give_reason_and_message() {
    let (client, namespace) = namespace("status-columns").await;
    let operator = Operator::idle().await;
    apply(&client, &namespace, &minimal(NAME)).await.unwrap();
    reconcile_once(&operator, &client, &namespace).await;
    let columns = table(&client, &namespace).await;
    let wide: Vec<(&str, &str)> = columns
        .iter()
        .filter(|(_, priority, _)| *priority > 0)
        .map(|(name, _, cell)| (name.as_str(), cell.as_str()))
        .collect();
    let message = "0 of 5 nodes ready; the quorum needs 3";
    assert_eq!(wide, [("Reason", "NodesAway"), ("Message", message)]);
}

/// Name, priority and value of each column, as kubectl asks for them.
async fn table(client: &Client, namespace: &str) -> Vec<(String, i64, String)> {
    let plural = FlashSale::api_resource().plural;
    let uri = format!("/apis/flashsale.dev/v1beta1/namespaces/{namespace}/{plural}");
    let request = axum::http::Request::get(uri)
        .header("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
        .body(Vec::new())
        .unwrap();
    let table: Value = client.request(request).await.unwrap();
    let columns = table["columnDefinitions"].as_array().unwrap();
    let cells = table["rows"][0]["cells"].as_array().unwrap();
    let column = |(column, cell): (&Value, &Value)| {
        let name = column["name"].as_str().unwrap().to_owned();
        let cell = cell.as_str().map_or_else(|| cell.to_string(), str::to_owned);
        (name, column["priority"].as_i64().unwrap(), cell)
    };
    columns.iter().zip(cells).map(column).collect()
}

/// A chart with one FlashSale, and with an object that helm creates when it has waited for it.
fn chart(folder: &Path) {
    let after = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {
            "name": WAITED, "annotations": { "helm.sh/hook": "post-install" },
        },
    });
    let about = json!({ "apiVersion": "v2", "name": "shop", "version": "1.0.0" });
    std::fs::create_dir_all(folder.join("templates")).unwrap();
    std::fs::write(folder.join("Chart.yaml"), about.to_string()).unwrap();
    std::fs::write(folder.join("templates/sale.yaml"), minimal(NAME).to_string()).unwrap();
    std::fs::write(folder.join("templates/after.yaml"), after.to_string()).unwrap();
}

const WAITED: &str = "waited";

/// `helm install --wait` of that chart, in the background.
async fn install(
    namespace: &str,
    timeout: &'static str,
) -> tokio::task::JoinHandle<Result<Vec<u8>, String>> {
    let (kubeconfig, namespace) = (admin_kubeconfig().await, namespace.to_owned());
    tokio::task::spawn_blocking(move || {
        let folder = tempfile::tempdir().unwrap();
        chart(folder.path());
        let config = folder.path().join("kubeconfig");
        std::fs::write(&config, kubeconfig).unwrap();
        let [chart, config] = [folder.path(), &config].map(|path| path.to_str().unwrap());
        run_helm(&[
            "install",
            "shop",
            chart,
            "--wait",
            "--timeout",
            timeout,
            "--namespace",
            &namespace,
            "--kubeconfig",
            config,
        ])
    })
}

#[tokio::test]
async fn helm_waits_until_the_sale_is_ready() {
    let (client, namespace) = namespace("helm-wait").await;
    let helm = install(&namespace, "60s").await;
    let sales: Api<FlashSale> = Api::namespaced(client.clone(), &namespace);
    let unseen = |sale: Option<&FlashSale>| sale.is_some();
    wait_for(&sales, NAME, unseen).await;
    let operator = Operator::idle().await;
    reconcile_once(&operator, &client, &namespace).await;
    everything_runs(&client, &namespace).await;
    reconcile_once(&operator, &client, &namespace).await;
    let sale = sales.get(NAME).await.unwrap();
    assert_eq!(condition(&sale, "Ready"), ("True", "AllReady"));
    helm.await.unwrap().unwrap();
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), &namespace);
    let version = |version: Option<String>| version.unwrap().parse::<u64>().unwrap();
    let waited = version(maps.get(WAITED).await.unwrap().resource_version());
    assert!(
        waited > version(sale.resource_version()),
        "helm did not wait until the sale was ready"
    );
}

#[tokio::test]
async fn helm_fails_at_once_when_nothing_will_happen_any_more() {
    let (client, namespace) = namespace("helm-fails").await;
    let services: Api<Service> = Api::namespaced(client.clone(), &namespace);
    let taken = serde_json::from_value(json!({
        "metadata": { "name": NAME }, "spec": { "ports": [{ "port": 80 }] },
    }))
    .unwrap();
    services.create(&PostParams::default(), &taken).await.unwrap();
    let operator = Operator::start(&namespace).await;
    let helm = install(&namespace, "10m").await;
    let sales: Api<FlashSale> = Api::namespaced(client.clone(), &namespace);
    wait_for(&sales, NAME, in_phase(Phase::Pending)).await;
    let error = tokio::time::timeout(Duration::from_mins(1), helm).await;
    let error = error.expect("long before its timeout").unwrap().unwrap_err();
    assert!(error.contains("another object has the name of a part of this sale"), "{error}");
    assert!(error.contains("status: Failed"), "{error}");
    eventually("the metric", async || {
        let metrics = operator.metrics.render().unwrap();
        metrics.contains("flashsale_operator_stalled_sales 1\n").then_some(())
    })
    .await;
}
