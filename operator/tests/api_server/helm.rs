//! Releases of Helm 3 and Helm 4 on servers of their own.

use std::collections::BTreeMap;

use flashsale_operator::controller::Scope;
use flashsale_operator::crd::{FlashSale, Phase, ProductStatus, custom_resource_definition};
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;

use crate::cluster::{NAME, everything_runs, in_phase};
use crate::support::{
    CHART, Operator, SYSTEM, Server, apply, create_namespace, eventually, minimal, run_program,
    wait_for,
};

const SHOP: &str = "shop";
const CRD: &str = "flashsales.flashsale.dev";
const RELEASE: &str = "flashsale-operator";

/// Both versions of Helm, for one server.
struct Helm {
    kubeconfig: tempfile::NamedTempFile,
}

impl Helm {
    fn new(server: &Server) -> Self {
        for (program, version) in [("helm3", "v3."), ("helm", "v4.")] {
            let said = run_program(program, &["version", "--short"]).unwrap();
            let said = String::from_utf8(said).unwrap();
            assert!(said.starts_with(version), "{program} is {said}, not {version}*");
        }
        let kubeconfig = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(kubeconfig.path(), server.kubeconfig()).unwrap();
        Self { kubeconfig }
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Result<Vec<u8>, String> {
        let kubeconfig = self.kubeconfig.path().to_str().unwrap();
        let to = ["--namespace", SYSTEM, "--kubeconfig", kubeconfig];
        run_program(program, &[arguments, &to].concat())
    }

    fn helm3(&self, arguments: &[&str]) -> Result<Vec<u8>, String> {
        self.run("helm3", arguments)
    }

    fn helm4(&self, arguments: &[&str]) -> Result<Vec<u8>, String> {
        self.run("helm", arguments)
    }
}

async fn pod_owners(client: &Client) -> BTreeMap<String, Option<i64>> {
    let sets: Api<StatefulSet> = Api::namespaced(client.clone(), SHOP);
    let apps: Api<Deployment> = Api::namespaced(client.clone(), SHOP);
    let mut all = BTreeMap::new();
    for set in sets.list(&ListParams::default()).await.unwrap() {
        all.insert(format!("StatefulSet {}", set.name_any()), set.metadata.generation);
    }
    for app in apps.list(&ListParams::default()).await.unwrap() {
        all.insert(format!("Deployment {}", app.name_any()), app.metadata.generation);
    }
    all
}

/// An operator with the rights of the release, once it has reconciled the sale.
async fn operator(server: &Server) -> Operator {
    let operator = Operator::run(server.operator(), Scope::all());
    let counts = ProductStatus { id: "1".to_owned(), stock: 100, sold: 0, remaining: 100 };
    *operator.app.0.lock().unwrap() = Some(vec![counts]);
    eventually("a reconcile", async || {
        (operator.metrics.reconciliations("applied") > 0).then_some(())
    })
    .await;
    operator
}

/// Changes the operator's replicas as `kubectl edit` does.
async fn edit(client: &Client, replicas: i32) {
    let apps: Api<Deployment> = Api::namespaced(client.clone(), SYSTEM);
    let params =
        PatchParams { field_manager: Some("kubectl-edit".to_owned()), ..PatchParams::default() };
    let patch = Patch::Merge(json!({ "spec": { "replicas": replicas } }));
    apps.patch(RELEASE, &params, &patch).await.unwrap();
}

async fn replicas(client: &Client) -> Option<i32> {
    let apps: Api<Deployment> = Api::namespaced(client.clone(), SYSTEM);
    apps.get(RELEASE).await.unwrap().spec.unwrap().replicas
}

#[tokio::test]
async fn helm_4_upgrades_a_release_of_helm_3_and_no_pod_of_a_sale_restarts() {
    let server = Server::bare().await;
    let client = server.admin();
    let helm = Helm::new(&server);
    helm.helm3(&["install", RELEASE, CHART, "--create-namespace"]).unwrap();
    create_namespace(&client, SHOP).await;
    apply(&client, SHOP, &minimal(NAME)).await.unwrap();
    let sales: Api<FlashSale> = Api::namespaced(client.clone(), SHOP);
    let running = operator(&server).await;
    everything_runs(&client, SHOP).await;
    wait_for(&sales, NAME, in_phase(Phase::Open)).await;
    drop(running);
    let before = pod_owners(&client).await;
    assert_eq!(before.len(), 3, "{before:?}");

    helm.helm4(&["upgrade", RELEASE, CHART, "--set", "replicas=2"]).unwrap();
    assert_eq!(replicas(&client).await, Some(2));
    drop(operator(&server).await);
    assert_eq!(pod_owners(&client).await, before);

    // By Helm 3 again, and back by Helm 4 with server-side apply.
    helm.helm3(&["upgrade", RELEASE, CHART, "--set", "replicas=3"]).unwrap();
    assert_eq!(replicas(&client).await, Some(3));
    let server_side = ["upgrade", RELEASE, CHART, "--set", "replicas=1", "--server-side=true"];
    helm.helm4(&server_side).unwrap();
    assert_eq!(replicas(&client).await, Some(1));
    edit(&client, 4).await;
    let refused = helm.helm4(&server_side).unwrap_err();
    assert!(refused.contains(r#"conflict with "kubectl-edit""#), "{refused}");
    helm.helm4(&[server_side.as_slice(), &["--force-conflicts"]].concat()).unwrap();
    assert_eq!(replicas(&client).await, Some(1));
    drop(operator(&server).await);
    assert_eq!(pod_owners(&client).await, before);

    helm.helm4(&["uninstall", RELEASE]).unwrap();
    assert_eq!(pod_owners(&client).await, before);
    assert!(sales.get_opt(NAME).await.unwrap().is_some());

    // Installed again, it takes over the definition that it left, and the sale.
    helm.helm4(&["install", RELEASE, CHART]).unwrap();
    drop(operator(&server).await);
    assert_eq!(pod_owners(&client).await, before);
}

/// What `kubectl apply --server-side -f crds/flashsale.yaml` does, with the file of another version.
async fn apply_definition(client: &Client) {
    let mut definition = serde_json::to_value(custom_resource_definition().unwrap()).unwrap();
    definition["spec"]["names"]["shortNames"] = json!(["fsale", "other"]);
    let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
    let params = PatchParams::apply("kubectl");
    crds.patch(CRD, &params, &Patch::Apply(&definition)).await.unwrap();
}

#[tokio::test]
async fn a_definition_that_was_applied_before_is_taken_over() {
    for (program, conflicts) in [("helm3", false), ("helm", true)] {
        let server = Server::bare().await;
        let client = server.admin();
        let helm = Helm::new(&server);
        apply_definition(&client).await;
        let install = ["install", RELEASE, CHART, "--create-namespace"];
        let refused = helm.run(program, &install).unwrap_err();
        assert!(refused.contains("invalid ownership metadata"), "{program}: {refused}");
        let take = [install.as_slice(), &["--take-ownership"]].concat();
        if conflicts {
            let refused = helm.run(program, &take).unwrap_err();
            assert!(refused.contains(r#"conflict with "kubectl""#), "{refused}");
            helm.run(program, &["uninstall", RELEASE, "--ignore-not-found"]).unwrap();
            helm.run(program, &[take.as_slice(), &["--force-conflicts"]].concat()).unwrap();
        } else {
            helm.run(program, &take).unwrap();
        }
        let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
        let names = crds.get(CRD).await.unwrap().spec.names.short_names.unwrap();
        assert_eq!(names, ["fsale"], "{program}: the chart's");
    }
}
