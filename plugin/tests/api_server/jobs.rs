//! `verify`, `load` and `report`: the test is the Job controller, and the kubelet has the tool's log.

use std::process::Stdio;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{DeleteParams, ListParams};
use kube::{Api, ResourceExt};
use load_report::{Figures, Report, Row, Status};
use serde_json::{Value, json};
use tokio::process::Child;

use crate::support::{Ran, Shop, eventually, send_signal};

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
    end_pod_of(shop, job, job, json!({}), state).await;
}

/// The pod of this name has these labels beside that of its Job.
async fn end_pod_of(shop: &Shop, job: &str, name: &str, mut labels: Value, state: Value) {
    labels["batch.kubernetes.io/job-name"] = json!(job);
    let phase = if state["waiting"].is_null() { "Failed" } else { "Pending" };
    shop.create::<Pod>(json!({
        "metadata": { "name": name, "labels": labels },
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
    eventually("its policy", async || (policies(&shop).await == 1).then_some(())).await;
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
    for signal in ["-INT", "-TERM"] {
        let running = verify(&shop);
        eventually("a Job", async || jobs(&shop).await.pop()).await;
        send_signal(&running, signal).await;
        let ended = Ran::ended(running).await;
        assert!(ended.code == Some(2) && ended.err.contains("interrupted"), "{ended:?}");
        assert_eq!((jobs(&shop).await.len(), policies(&shop).await), (0, 0));
    }
}

#[tokio::test]
async fn a_verify_whose_reader_is_gone_leaves_no_job() {
    let shop = shop("verify-closed").await;
    let mut running = verify(&shop);
    drop(running.stdout.take());
    run_pod(&shop, PASSED, 0).await;
    let ended = Ran::ended(running).await;
    assert!(ended.code == Some(2) && ended.err.contains("cannot write to stdout"), "{ended:?}");
    assert_eq!((jobs(&shop).await.len(), policies(&shop).await), (0, 0));
}

#[tokio::test]
async fn a_load_run_whose_reader_is_gone_is_not_forgotten() {
    let shop = shop("load-closed").await;
    let mut running = shop.start(&["load", "black-friday", "--scenario", "v3-redlock"]);
    drop(running.stdout.take());
    run_pod(&shop, PASSED, 0).await;
    let ended = Ran::ended(running).await;
    for expected in ["may go on: kubectl flashsale report -n load-closed", "cannot write to stdout"]
    {
        assert!(ended.code == Some(2) && ended.err.contains(expected), "{ended:?}");
    }
    assert_eq!(jobs(&shop).await.len(), 1);
}

#[tokio::test]
async fn what_nobody_reads_is_an_error() {
    let shop = shop("report-closed").await;
    let running = shop.start(&["load", "black-friday", "--scenario", "v3-redlock"]);
    run_pod(&shop, PASSED, 0).await;
    assert_eq!(Ran::ended(running).await.code, Some(0));
    let closed = || {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        writer
    };
    for arguments in [&["report", "black-friday"][..], &["status", "black-friday"], &["status"]] {
        let mut unread = shop.command(arguments);
        let unread = unread.stdout(closed()).stderr(Stdio::piped()).spawn().unwrap();
        let ended = Ran::ended(unread).await;
        assert!(ended.code == Some(2) && ended.err.contains("cannot write to stdout"), "{ended:?}");
        // A note that nobody reads changes nothing.
        let mut unnoted = shop.command(arguments);
        let unnoted = unnoted.stdout(Stdio::null()).stderr(closed()).spawn().unwrap();
        assert_eq!(Ran::ended(unnoted).await.code, Some(0), "{arguments:?}");
    }
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
    for (arguments, expected) in [
        (&["x"][..], "there is no \"x\"; choose one of v1-single, v3-redlock"),
        (&["v3-redlock", "--product", "7"], "has no product 7; there are: 1"),
        (&["s3-fair"], "has no product A; there are: 1"),
        (&["v1-single"], "is for a sale with 1 Redis node(s), and black-friday has 5"),
        (
            &["v3-one-node-stopped"],
            "after 5 s: for node in 0; do kubectl exec -n load black-friday-redis-$node",
        ),
        (&["v3-one-node-stopped", "--meanwhile", "run", "--detach"], "leave out --detach"),
        (&["v3-redlock", "--seconds", "9"], "all users of scenario v3-redlock start at once"),
        (&["sustained", "--seconds", "0"], "must be a number above 0"),
        (&["sustained", "--seconds", "9", "--deadline-seconds", "9"], "ends the run before"),
        (&["soak", "--deadline-seconds", "1800"], "ends the run before"),
    ] {
        let refused =
            shop.run(&[&["load", "black-friday", "--scenario"], arguments].concat()).await;
        assert!(refused.code == Some(2) && refused.err.contains(expected), "{refused:?}");
    }
    assert_eq!(jobs(&shop).await.len(), 0);
    let none = shop.run(&["report", "black-friday"]).await;
    assert!(none.code == Some(2) && none.err.contains("no load run of the sale"), "{none:?}");

    let running = shop.start(&["load", "black-friday", "--scenario", "v3-redlock"]);
    let log = PASSED.replace("PASS", "FAIL").replace("verify: ", "v3-redlock: ");
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
        (Some(1), "v3-redlock: shop/black-friday\nFAIL\n"),
        "{ended:?}"
    );
    assert_eq!((jobs(&shop).await.len(), policies(&shop).await), (1, 0));

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.json");
    let report = shop.run(&["report", "black-friday", "--json", file.to_str().unwrap()]).await;
    assert_eq!((report.code, report.out), (Some(1), ended.out), "{}", report.err);
    assert_eq!(std::fs::read_to_string(file).unwrap(), "{\"verdict\":\"FAIL\"}\n");
}

#[tokio::test]
async fn a_load_run_for_another_time_may_take_it() {
    let shop = shop("load-seconds").await;
    let load = ["load", "black-friday", "--scenario", "sustained", "--detach", "--seconds"];
    for (seconds, deadline) in [("9", 7260), ("7200.5", 14400)] {
        let running = shop.start(&[&load[..], &[seconds]].concat());
        let job = run_pod(&shop, PASSED, 0).await;
        let spec = job.spec.as_ref().unwrap();
        assert_eq!(spec.active_deadline_seconds, Some(deadline));
        let container = &spec.template.spec.as_ref().unwrap().containers[0];
        let given = container.args.iter().flatten().skip_while(|it| *it != "--seconds").nth(1);
        assert_eq!(given.map(String::as_str), Some(seconds));
        assert_eq!(Ran::ended(running).await.code, Some(0));
        let jobs: Api<Job> = shop.api();
        jobs.delete(&job.name_any(), &DeleteParams::background()).await.unwrap();
    }
}

/// What the load tool writes at the end of a run that sold 100.
fn report() -> Report {
    let figures = Figures {
        scenario: "black-friday".to_owned(),
        users: 300,
        stock: 100,
        sold: 100,
        ..Figures::default()
    };
    let sold = Row {
        name: "sold".to_owned(),
        measured: "100".to_owned(),
        target: Some("= 100".to_owned()),
        status: Status::Ok,
        rule: None,
    };
    Report::new("0.1.0", "a crowd on two pods", figures, Vec::new(), vec![sold])
}

#[tokio::test]
async fn the_first_of_several_pods_has_the_report_and_it_becomes_a_page() {
    let shop = shop("load-pods").await;
    let running = shop.start(&["load", "black-friday", "--scenario", "black-friday"]);
    let job = eventually("a Job", async || jobs(&shop).await.pop()).await;
    let name = job.name_any();
    let spec = job.spec.unwrap();
    assert_eq!((spec.completion_mode.as_deref(), spec.completions), (Some("Indexed"), Some(2)));
    let services: Api<Service> = shop.api();
    eventually("the Service of the pods", async || services.get_opt(&name).await.unwrap()).await;

    let text = report().json();
    let ended = || json!({ "terminated": { "exitCode": 0, "reason": "Completed" } });
    // The newer one is not the first one.
    for (index, log) in [("0", format!("2026-11-27T00:00:02Z {text}\n")), ("1", String::new())] {
        let pod = format!("{name}-{index}-x");
        shop.server.kubelet.set(shop.namespace, &pod, "load", false, &log);
        let labels = json!({ "batch.kubernetes.io/job-completion-index": index });
        end_pod_of(&shop, &name, &pod, labels, ended()).await;
    }
    assert_eq!(Ran::ended(running).await.code, Some(0));
    assert!(services.get_opt(&name).await.unwrap().is_none(), "the Service is removed");

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.html");
    let ran = shop.run(&["report", "black-friday", "--html", file.to_str().unwrap()]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.err.contains("wrote "), "{ran:?}");
    let page = std::fs::read_to_string(&file).unwrap();
    assert!(page.starts_with("<!DOCTYPE html>") && page.contains("a crowd on two pods"), "{page}");
    let nowhere = shop.run(&["report", "black-friday", "--html", "/nowhere/r.html"]).await;
    assert!(nowhere.code == Some(2) && nowhere.err.contains("/nowhere/r.html"), "{nowhere:?}");
}

#[tokio::test]
async fn a_report_that_is_no_page_says_why() {
    let shop = shop("load-old").await;
    let running = shop.start(&["load", "black-friday", "--scenario", "v3-redlock"]);
    run_pod(&shop, PASSED, 0).await;
    assert_eq!(Ran::ended(running).await.code, Some(0));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.html");
    let ran = shop.run(&["report", "black-friday", "--html", file.to_str().unwrap()]).await;
    assert!(ran.code == Some(2) && ran.err.contains("has no report"), "{ran:?}");
    assert!(!file.exists());
}
