//! `verify`, `load` and `report`: the test is the Job controller, and the kubelet has the tool's log.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use tokio::process::Child;

use crate::support::{Ran, Shop, eventually};

const PASSED: &str = "2026-11-27T00:00:01Z verify: shop/black-friday\n2026-11-27T00:00:02Z PASS\n\
     2026-11-27T00:00:02Z {\"verdict\":\"PASS\"}\n";

async fn deployment(shop: &Shop) {
    let labels = json!({ "app": "x" });
    shop.create::<Deployment>(json!({
        "metadata": { "name": "black-friday" },
        "spec": { "replicas": 3, "selector": { "matchLabels": labels }, "template": {
            "metadata": { "labels": labels },
            "spec": { "containers": [{
                "name": "app", "image": "localhost/flashsale-app:dev",
                "env": [{ "name": "REDIS_NODES", "value": "a:6379" }],
            }] },
        } },
    }))
    .await;
}

async fn jobs(shop: &Shop) -> Vec<Job> {
    let jobs: Api<Job> = shop.api();
    jobs.list(&ListParams::default()).await.unwrap().items
}

async fn policies(shop: &Shop) -> usize {
    let policies: Api<NetworkPolicy> = shop.api();
    policies.list(&ListParams::default()).await.unwrap().items.len()
}

/// Runs the pod of the next Job: its log is there, and its container has ended.
async fn run_pod(shop: &Shop, log: &str, exit_code: i32) -> Job {
    let job = eventually("a Job", async || jobs(shop).await.pop()).await;
    let name = job.name_any();
    shop.server.kubelet.set(shop.namespace, &name, "load", false, log);
    end_pod(shop, &name, json!({ "terminated": { "exitCode": exit_code, "reason": "Error" } }))
        .await;
    job
}

async fn end_pod(shop: &Shop, job: &str, state: Value) {
    let phase = if state["waiting"].is_null() { "Failed" } else { "Pending" };
    shop.create::<Pod>(json!({
        "metadata": { "name": job, "labels": { "batch.kubernetes.io/job-name": job } },
        "spec": { "nodeName": "node0", "containers": [{ "name": "load", "image": "x:1" }] },
        "status": { "phase": phase, "containerStatuses": [{
            "name": "load", "image": "x:1", "imageID": "x", "ready": false, "restartCount": 0, "state": state,
        }] },
    }))
    .await;
}

async fn shop(namespace: &'static str) -> Shop {
    let shop = Shop::open(namespace).await;
    shop.open_sale("black-friday").await;
    deployment(&shop).await;
    shop
}

fn verify(shop: &Shop) -> Child {
    shop.start(&["verify", "black-friday"])
}

#[tokio::test]
async fn the_verdict_is_that_of_the_job_which_is_removed() {
    let shop = shop("verify").await;
    let running = verify(&shop);
    let job = run_pod(&shop, PASSED, 0).await;
    let spec = &job.spec.as_ref().unwrap().template.spec.as_ref().unwrap().containers[0];
    assert_eq!(spec.image.as_deref(), Some("localhost/flashsale-load:dev"));
    let declared = spec.env.iter().flatten().find(|it| it.name == "DECLARED_STOCK").unwrap();
    assert_eq!(declared.value.as_deref(), Some("1=100"));
    let ended = Ran::ended(running).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(ended.out, "verify: shop/black-friday\nPASS\n");
    assert_eq!((jobs(&shop).await.len(), policies(&shop).await), (0, 0));
}

#[tokio::test]
async fn a_failure_and_no_verdict_have_other_exit_statuses() {
    let shop = shop("verify-fails").await;
    let running = verify(&shop);
    run_pod(&shop, &PASSED.replace("PASS", "FAIL"), 1).await;
    assert_eq!(Ran::ended(running).await.code, Some(1));

    let running = shop.start(&["verify", "black-friday", "-o", "json"]);
    run_pod(&shop, &PASSED.replace("PASS", "UNKNOWN"), 2).await;
    let ended = Ran::ended(running).await;
    assert_eq!(
        (ended.code, ended.out.as_str()),
        (Some(2), "{\"verdict\":\"UNKNOWN\"}\n"),
        "{ended:?}"
    );

    // Exit status 1 without a verdict is no FAIL: the tool crashed.
    let running = verify(&shop);
    run_pod(&shop, "2026-11-27T00:00:01Z thread panicked\n", 1).await;
    let ended = Ran::ended(running).await;
    assert!(ended.code == Some(2) && ended.err.contains("without a verdict"), "{ended:?}");
    assert_eq!(jobs(&shop).await.len(), 0);
}

#[tokio::test]
async fn a_job_that_cannot_start_is_removed_with_its_reason() {
    let shop = shop("verify-image").await;
    let running = verify(&shop);
    let job = eventually("a Job", async || jobs(&shop).await.pop()).await;
    assert_eq!(policies(&shop).await, 1);
    let waiting = json!({ "waiting": { "reason": "ImagePullBackOff", "message": "not found" } });
    end_pod(&shop, &job.name_any(), waiting).await;
    let ended = Ran::ended(running).await;
    assert!(ended.code == Some(2) && ended.err.contains("ImagePullBackOff not found"), "{ended:?}");
    assert!(ended.err.contains("--image"), "{ended:?}");
    assert_eq!((jobs(&shop).await.len(), policies(&shop).await), (0, 0));
}

#[tokio::test]
async fn an_interrupted_verify_leaves_no_job() {
    let shop = shop("verify-interrupted").await;
    let running = verify(&shop);
    eventually("a Job", async || jobs(&shop).await.pop()).await;
    let process = running.id().unwrap().to_string();
    let told = tokio::process::Command::new("kill").args(["-INT", &process]).status().await;
    assert!(told.unwrap().success());
    let ended = Ran::ended(running).await;
    assert!(ended.code == Some(2) && ended.err.contains("interrupted"), "{ended:?}");
    assert_eq!((jobs(&shop).await.len(), policies(&shop).await), (0, 0));
}

#[tokio::test]
async fn a_hibernating_sale_with_its_own_database_cannot_be_judged() {
    let shop = shop("verify-hibernated").await;
    shop.report("black-friday", json!({ "phase": "Hibernated" })).await;
    for arguments in [&["verify", "black-friday"][..], &["orders", "export", "black-friday"]] {
        let ran = shop.run(arguments).await;
        assert_eq!(ran.code, Some(2));
        assert!(
            ran.err.contains("kubectl flashsale resume -n verify-hibernated black-friday"),
            "{ran:?}"
        );
    }
    assert_eq!(jobs(&shop).await.len(), 0);
}

#[tokio::test]
async fn a_load_run_keeps_its_job_for_the_report() {
    let shop = shop("load").await;
    let unknown = shop.run(&["load", "black-friday", "--scenario", "x", "--product", "7"]).await;
    assert!(
        unknown.code == Some(2) && unknown.err.contains("has no product 7; there are: 1"),
        "{unknown:?}"
    );
    let none = shop.run(&["report", "black-friday"]).await;
    assert!(none.code == Some(2) && none.err.contains("no load run of the sale"), "{none:?}");

    let running = shop.start(&["load", "black-friday", "--scenario", "v1-single"]);
    let log = PASSED.replace("PASS", "FAIL").replace("verify: ", "v1-single: ");
    let job = run_pod(&shop, &log, 1).await;
    let container = &job.spec.as_ref().unwrap().template.spec.as_ref().unwrap().containers[0];
    let value = |name: &str| {
        container.env.iter().flatten().find(|it| it.name == name).unwrap().value.clone()
    };
    assert_eq!(value("SALE_URL").as_deref(), Some("http://black-friday:8080"));
    assert_eq!(value("METRICS_HOST").as_deref(), Some("black-friday-pods:9090"));
    let ended = Ran::ended(running).await;
    assert_eq!(
        (ended.code, ended.out.as_str()),
        (Some(1), "v1-single: shop/black-friday\nFAIL\n"),
        "{ended:?}"
    );
    assert_eq!((jobs(&shop).await.len(), policies(&shop).await), (1, 0));

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.json");
    let report = shop.run(&["report", "black-friday", "--json", file.to_str().unwrap()]).await;
    assert_eq!((report.code, report.out), (Some(1), ended.out), "{}", report.err);
    assert_eq!(std::fs::read_to_string(file).unwrap(), "{\"verdict\":\"FAIL\"}\n");
}
