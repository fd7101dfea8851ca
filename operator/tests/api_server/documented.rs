//! What `docs/OPERATIONS.md` shows: manifests are accepted as they stand, and commands that change a sale work.

use std::process::{Command, Output};

use flashsale_operator::crd::FlashSale;
use k8s_openapi::api::core::v1::Service;
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams,
};
use kube::core::TypeMeta;
use kube::{Api, Client, ResourceExt};
use serde::Deserialize;
use serde_json::{Value, json};
use testkit::cluster_programs;
use tokio::task::JoinHandle;

use crate::cluster::{condition, everything_runs, reconcile_once};
use crate::network::foreign_definition;
use crate::support::{Operator, admin_kubeconfig, apply, install_crd, minimal, namespace};

const OPERATIONS: &str = include_str!("../../../docs/OPERATIONS.md");
/// The namespace and the sale of the examples.
const NAMESPACE: &str = "shop";
const SALE: &str = "black-friday";
/// Groups that this API server serves.
const SERVED: [&str; 4] = ["flashsale.dev/", "autoscaling/", "batch/", "keda.sh/"];
/// KEDA's module and a definition in it. The operator does not know it, so the server of all tests may have it.
const KEDA: &str = "github.com/kedacore/keda/v2@v2.21.0";
const SCALED_OBJECTS: &str = "config/crd/bases/keda.sh_scaledobjects.yaml";

/// Commands that change a sale.
const CHANGES: [&str; 3] =
    ["kubectl patch fsale ", "kubectl annotate fsale ", "kubectl scale fsale "];

/// The blocks in one language, without their indentation.
fn blocks(language: &str) -> Vec<String> {
    let fence = format!("```{language}");
    let mut blocks = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for line in OPERATIONS.lines() {
        let text = line.trim_start();
        match &mut open {
            None if text == fence => open = Some((line.len() - text.len(), String::new())),
            None => {}
            Some(_) if text == "```" => blocks.extend(open.take().map(|(_, block)| block)),
            Some((indentation, block)) => {
                block.push_str(line.get(*indentation..).unwrap_or_default());
                block.push('\n');
            }
        }
    }
    blocks
}

fn documents(block: &str) -> Vec<Value> {
    let documents = serde_norway::Deserializer::from_str(block);
    let read = |document| {
        Value::deserialize(document).unwrap_or_else(|error| panic!("{error} in\n{block}"))
    };
    documents.map(read).collect()
}

fn merge(into: &mut Value, changes: &Value) {
    match (into, changes) {
        (Value::Object(into), Value::Object(changes)) => {
            for (key, value) in changes {
                merge(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (into, changes) => *into = changes.clone(),
    }
}

/// Asks the API server whether it would accept the object as a user writes it.
async fn try_out(client: &Client, mut object: Value) -> kube::Result<DynamicObject> {
    object["metadata"]["namespace"] = NAMESPACE.into();
    let object: DynamicObject = serde_json::from_value(object).unwrap();
    let types: TypeMeta = object.types.clone().unwrap();
    let kind = ApiResource::from_gvk(&GroupVersionKind::try_from(&types).unwrap());
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), NAMESPACE, &kind);
    let params = PatchParams::apply("documented").dry_run().validation_strict();
    api.patch(&object.name_any(), &params, &Patch::Apply(&object)).await
}

/// Whether a block is an object or the spec of a sale, and no part of either.
fn is_whole(block: &str) -> bool {
    let is_whole =
        block.lines().any(|line| line.starts_with("apiVersion:") || line.starts_with("spec:"));
    if !is_whole {
        println!("a part of another object: {}", block.lines().next().unwrap_or_default());
    }
    is_whole
}

/// The object of a document as a whole; `None`, with a word on it, for one that this API server cannot judge.
fn object(document: &Value) -> Option<Value> {
    let version = document["apiVersion"].as_str();
    match version {
        Some(version) if !SERVED.iter().any(|served| version.starts_with(served)) => {
            println!("not served here: {version} {}", document["kind"]);
            None
        }
        Some(version) if !version.starts_with("flashsale.dev/") => Some(document.clone()),
        _ => {
            let mut sale = minimal(SALE);
            merge(&mut sale, document);
            Some(sale)
        }
    }
}

#[tokio::test]
async fn manifests_that_operations_shows_are_accepted_and_its_commands_change_a_sale() {
    let (client, namespace) = namespace(NAMESPACE).await;
    install_crd(&client, foreign_definition(KEDA, SCALED_OBJECTS)).await;
    let mut tried = 0;
    for block in blocks("yaml").into_iter().filter(|block| is_whole(block)) {
        let objects = documents(&block);
        for object in objects.iter().filter_map(object) {
            if let Err(error) = try_out(&client, object).await {
                panic!("{error}\nin\n{block}");
            }
            tried += 1;
        }
    }
    assert!(tried > 20, "only {tried} manifests were found");

    apply(&client, &namespace, &minimal(SALE)).await.unwrap();
    let run = run_commands(&admin_kubeconfig().await);
    assert!(run > 10, "only {run} commands were found");
    let sales: Api<FlashSale> = Api::namespaced(client, &namespace);
    let sale = sales.get(SALE).await.unwrap();
    assert_eq!(sale.spec.app.replicas, 6, "of kubectl scale");
}

/// Runs the commands that change a sale, and returns how many there are.
fn run_commands(kubeconfig: &str) -> usize {
    let bash = blocks("bash");
    let lines = bash.iter().flat_map(|block| block.lines()).map(str::trim_start);
    let lines: Vec<&str> =
        lines.filter(|line| CHANGES.iter().any(|change| line.starts_with(change))).collect();
    for line in &lines {
        let output = run(line, kubeconfig);
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{line}\n{complaint}");
    }
    lines.len()
}

/// Runs a script that asks this API server. One that takes a minute is ended, with the status 124.
fn run(script: &str, kubeconfig: &str) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("kubeconfig");
    std::fs::write(&file, kubeconfig).unwrap();
    let path =
        format!("{}:{}", cluster_programs().display(), std::env::var("PATH").unwrap_or_default());
    let mut shell = Command::new("timeout");
    shell.args(["60", "bash", "-c", script]).env("KUBECONFIG", &file).env("PATH", &path);
    shell.output().unwrap()
}

/// The script that waits until a sale is ready or stalled, begun in this namespace.
async fn wait_for_ready(namespace: &str) -> JoinHandle<Output> {
    let script = blocks("bash").into_iter().find(|it| it.contains("--for=condition=Stalled"));
    let script = script.expect("a script that waits for Stalled too");
    let ours = script.replace(&format!("-n {NAMESPACE} "), &format!("-n {namespace} "));
    assert_ne!(ours, script);
    let kubeconfig = admin_kubeconfig().await;
    tokio::task::spawn_blocking(move || run(&ours, &kubeconfig))
}

/// What `kubectl wait` says of its one object.
const MET: &str = "/black-friday condition met";

#[tokio::test]
async fn the_script_that_waits_fails_when_a_sale_stalls_and_succeeds_when_it_is_ready() {
    let (client, namespace) = namespace("wait-script").await;
    let services: Api<Service> = Api::namespaced(client.clone(), &namespace);
    let taken = serde_json::from_value(json!({
        "metadata": { "name": SALE }, "spec": { "ports": [{ "port": 80 }] },
    }))
    .unwrap();
    services.create(&PostParams::default(), &taken).await.unwrap();
    apply(&client, &namespace, &minimal(SALE)).await.unwrap();
    let operator = Operator::idle().await;
    // Nobody has seen the sale yet.
    let script = wait_for_ready(&namespace).await;
    reconcile_once(&operator, &client, &namespace).await;
    let sales: Api<FlashSale> = Api::namespaced(client.clone(), &namespace);
    assert_eq!(condition(&sales.get(SALE).await.unwrap(), "Stalled"), ("True", "NameTaken"));
    let ended = script.await.unwrap();
    // Not because of a mistake in it.
    assert!(String::from_utf8_lossy(&ended.stdout).contains(MET), "{ended:?}");
    assert_eq!(ended.status.code(), Some(1), "long before its timeout: {ended:?}");

    services.delete(SALE, &DeleteParams::default()).await.unwrap();
    reconcile_once(&operator, &client, &namespace).await;
    assert_eq!(condition(&sales.get(SALE).await.unwrap(), "Stalled"), ("", ""));
    let script = wait_for_ready(&namespace).await;
    everything_runs(&client, &namespace).await;
    reconcile_once(&operator, &client, &namespace).await;
    assert_eq!(condition(&sales.get(SALE).await.unwrap(), "Ready"), ("True", "AllReady"));
    let ended = script.await.unwrap();
    assert!(String::from_utf8_lossy(&ended.stdout).contains(MET), "{ended:?}");
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
}
