//! The chart's life on a server of its own: install, upgrade, uninstall.

use std::path::Path;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::runtime::wait::conditions;

use crate::support::{CHART, SYSTEM, Server, apply, helm, minimal, wait_for};

const CRD: &str = "flashsales.flashsale.dev";

#[tokio::test]
async fn an_upgrade_brings_the_new_definition_and_uninstall_keeps_the_sales() {
    let server = Server::bare().await;
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = server.kubeconfig_in(folder.path());
    let helm = |command: &[&str]| {
        let to = ["--namespace", SYSTEM, "--kubeconfig", kubeconfig.to_str().unwrap()];
        helm(&[command, &to].concat());
    };
    helm(&["install", "flashsale-operator", CHART, "--create-namespace"]);
    let client = server.admin();
    let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
    wait_for(&crds, CRD, conditions::is_crd_established()).await;
    apply(&client, "default", &minimal("black-friday")).await.unwrap();

    let next = folder.path().join("chart");
    copy(Path::new(CHART), &next);
    let template = next.join("templates/crd.yaml");
    let crd = std::fs::read_to_string(&template).unwrap();
    std::fs::write(&template, crd.replace("- fsale\n", "- fsale\n    - sale\n")).unwrap();
    helm(&["upgrade", "flashsale-operator", next.to_str().unwrap()]);
    let names = crds.get(CRD).await.unwrap().spec.names.short_names.unwrap();
    assert_eq!(names, ["fsale", "sale"]);

    helm(&["uninstall", "flashsale-operator"]);
    let again = apply(&client, "default", &minimal("black-friday")).await.unwrap();
    assert_eq!(again.metadata.generation, Some(1), "the same sale, untouched");
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
