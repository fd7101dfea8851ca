//! What the chart renders for the values of its users, and what it takes to install that.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use flashsale_operator::crd::custom_resource_definition;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::rbac::v1::{ClusterRole, Role, RoleBinding};
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::support::{
    CHART, Server, apply, create_namespace, eventually, helm, install_crd, namespace, run_helm,
};

/// The objects that the release `name` in the namespace `operators` would have.
fn rendered(chart: &str, name: &str, values: &[&str]) -> Vec<Value> {
    let set = values.iter().flat_map(|value| ["--set", value]);
    let arguments = ["template", name, chart, "--namespace", "operators"];
    let text = helm(&arguments.into_iter().chain(set).collect::<Vec<_>>());
    serde_norway::Deserializer::from_slice(&text)
        .map(|document| Value::deserialize(document).unwrap())
        .filter(|object| !object.is_null())
        .collect()
}

fn identity(object: &Value) -> String {
    let metadata = &object["metadata"];
    format!("{} {}/{}", object["kind"], metadata["namespace"], metadata["name"])
}

fn of_kind<'a>(objects: &'a [Value], kind: &str) -> Vec<&'a Value> {
    objects.iter().filter(|object| object["kind"] == kind).collect()
}

#[test]
fn a_release_for_one_namespace_has_nothing_cluster_wide() {
    let values = [
        "watchNamespace=shop",
        "crds.enabled=false",
        "monitoring.enabled=true",
        "dashboards.enabled=true",
    ];
    let objects = rendered(CHART, "sales", &values);
    for object in &objects {
        assert!(object["metadata"]["namespace"].is_string(), "cluster-wide: {}", identity(object));
    }
    let roles = of_kind(&objects, "Role");
    let in_shop = roles.iter().filter(|role| role["metadata"]["namespace"] == "shop");
    assert_eq!(in_shop.count(), 1, "the rights to sales are in the one namespace");
    // With the definition: it, and nothing else.
    let objects = rendered(CHART, "sales", &["watchNamespace=shop"]);
    let cluster_wide = objects.iter().filter(|object| object["metadata"]["namespace"].is_null());
    let kinds: Vec<_> = cluster_wide.map(|object| object["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["CustomResourceDefinition"]);
}

#[test]
fn two_releases_in_one_namespace_share_no_object_and_no_lease() {
    let releases = ["a", "b"].map(|name| {
        rendered(CHART, name, &[&format!("watchNamespace={name}"), "crds.enabled=false"])
    });
    let [a, b] = releases.each_ref().map(|it| it.iter().map(identity).collect::<BTreeSet<_>>());
    assert_eq!(a.intersection(&b).collect::<Vec<_>>(), Vec::<&String>::new());
    for objects in &releases {
        let lease = &of_kind(objects, "Lease")[0]["metadata"]["name"];
        let container =
            &of_kind(objects, "Deployment")[0]["spec"]["template"]["spec"]["containers"][0];
        let env = container["env"].as_array().unwrap();
        let told = env.iter().find(|variable| variable["name"] == "LEASE_NAME").unwrap();
        assert_eq!(&told["value"], lease);
        let rules = of_kind(objects, "Role").into_iter().flat_map(|role| {
            role["rules"].as_array().unwrap().iter().map(|rule| &rule["resourceNames"])
        });
        assert_eq!(rules.filter(|names| **names == json!([lease])).count(), 1);
    }
}

#[test]
fn the_chart_is_a_dependency_with_the_usual_values() {
    let folder = tempfile::tempdir().unwrap();
    let parent = folder.path().join("shop");
    std::fs::create_dir_all(parent.join("charts")).unwrap();
    std::fs::create_dir(parent.join("templates")).unwrap();
    let chart = "
apiVersion: v2
name: shop
version: 1.0.0
dependencies:
  - {name: flashsale-operator, version: '*', condition: flashsale-operator.enabled}
";
    std::fs::write(parent.join("Chart.yaml"), chart).unwrap();
    let target = parent.join("charts/flashsale-operator");
    std::os::unix::fs::symlink(Path::new(CHART).canonicalize().unwrap(), target).unwrap();
    let deployments = |values: &[&str]| {
        let global = ["global.region=north"];
        let objects = rendered(parent.to_str().unwrap(), "rel", &[&global, values].concat());
        let deployments = of_kind(&objects, "Deployment").into_iter();
        deployments.map(|it| it["metadata"]["name"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(deployments(&[]), ["rel-flashsale-operator"]);
    assert_eq!(deployments(&["flashsale-operator.enabled=true"]), ["rel-flashsale-operator"]);
    assert_eq!(deployments(&["flashsale-operator.enabled=false"]), Vec::<Value>::new());
    assert_eq!(deployments(&["flashsale-operator.nameOverride=sales"]), ["rel-sales"]);
    assert_eq!(deployments(&["flashsale-operator.fullnameOverride=sales"]), ["sales"]);
    helm(&["lint", "--strict", parent.to_str().unwrap()]);
}

/// `helm upgrade --reuse-values` gives a chart the values of the chart before, and no new ones.
#[test]
fn values_that_an_earlier_chart_did_not_have_may_be_absent() {
    let new = [
        "extraArgs",
        "extraEnv",
        "extraObjects",
        "extraVolumeMounts",
        "extraVolumes",
        "global",
        "image",
        "imageRegistry",
        "metrics",
        "networkPolicy",
        "podDisruptionBudget",
        "podSecurityContext",
        "rbac",
        "securityContext",
        "serviceAccount.create",
        "serviceAccount.name",
        "test",
        "topologySpreadConstraints",
        "watchNamespaces",
        "watchSecrets",
    ];
    let absent = new.map(|value| format!("{value}=null"));
    let all = rendered(CHART, "sales", &["replicas=2"]);
    let fewer = [&["replicas=2"], absent.each_ref().map(String::as_str).as_slice()].concat();
    let fewer = rendered(CHART, "sales", &fewer);
    let names = |objects: &[Value]| objects.iter().map(identity).collect::<BTreeSet<_>>();
    let missing: Vec<_> = names(&all).difference(&names(&fewer)).cloned().collect();
    let policies =
        ["NetworkPolicy", "PodDisruptionBudget"].map(|kind| identity(of_kind(&all, kind)[0]));
    assert_eq!(missing, policies);
    assert_eq!(of_kind(&all, "Deployment"), of_kind(&fewer, "Deployment"));
    assert_eq!(of_kind(&all, "Pod"), of_kind(&fewer, "Pod"));
    assert_eq!(of_kind(&all, "ClusterRole"), of_kind(&fewer, "ClusterRole"));
}

/// The icon is part of Chart.yaml, because the chart has no address to load it from.
#[test]
fn the_icon_is_the_file_beside_the_chart() {
    let base64 = Command::new("base64").args(["-w0", &format!("{CHART}/icon.svg")]).output();
    let base64 = String::from_utf8(base64.unwrap().stdout).unwrap();
    let chart = std::fs::read_to_string(format!("{CHART}/Chart.yaml")).unwrap();
    let icon = format!("icon: data:image/svg+xml;base64,{base64}\n");
    assert!(chart.contains(&icon), "Chart.yaml needs this line: {icon}");
}

/// What Artifact Hub shows of the definition, and the sale that the chart shows there, are those of this version.
#[tokio::test]
async fn the_annotations_for_artifact_hub_are_those_of_the_definition() {
    let chart = std::fs::read_to_string(format!("{CHART}/Chart.yaml")).unwrap();
    let chart: Value = serde_norway::from_str(&chart).unwrap();
    let annotation = |name: &str| {
        let text = chart["annotations"][&format!("artifacthub.io/{name}")].as_str();
        serde_norway::from_str::<Value>(text.unwrap_or_else(|| panic!("no {name}"))).unwrap()
    };
    let definition = custom_resource_definition().unwrap();
    let crds = annotation("crds");
    let shown = &crds[0];
    let stored = definition.spec.versions.iter().find(|version| version.storage).unwrap();
    assert_eq!(shown["kind"], definition.spec.names.kind);
    assert_eq!(shown["version"], stored.name);
    assert_eq!(shown["name"], definition.name_any());
    assert_eq!(chart["annotations"]["artifacthub.io/operator"], "true");

    let (client, namespace) = namespace("artifact-hub").await;
    let examples = annotation("crdsExamples");
    for example in examples.as_array().unwrap() {
        apply(&client, &namespace, example).await.unwrap();
    }
}

/// The notes print a sale to copy.
#[tokio::test]
async fn the_sale_of_the_notes_is_accepted() {
    let install = ["install", "sales", CHART, "--namespace", "operators", "--dry-run=client"];
    let printed = String::from_utf8(helm(&install)).unwrap();
    let (_, notes) = printed.split_once("\nNOTES:\n").expect("notes");
    let (_, sale) = notes.split_once("<<EOF\n").expect("a sale");
    let (sale, _) = sale.split_once("\n  EOF\n").expect("its end");
    let sale: Value = serde_norway::from_str(sale).unwrap();
    let (client, namespace) = namespace("notes").await;
    apply(&client, &namespace, &sale).await.unwrap();
}

/// A user with the rights of the built-in role `admin`, in one namespace. No controller aggregates
/// roles here, so the test does.
async fn administrator(client: &Client, user: &str, namespace: &str) {
    let cluster_roles: Api<ClusterRole> = Api::all(client.clone());
    let mut rules = Vec::new();
    for role in ["view", "edit", "admin"] {
        let label = format!("rbac.authorization.k8s.io/aggregate-to-{role}=true");
        let labelled = cluster_roles.list(&ListParams::default().labels(&label)).await.unwrap();
        rules.extend(labelled.items.into_iter().flat_map(|role| role.rules.unwrap_or_default()));
    }
    let role: Role = serde_json::from_value(json!({
        "metadata": { "name": user }, "rules": rules,
    }))
    .unwrap();
    let binding: RoleBinding = serde_json::from_value(json!({
        "metadata": { "name": user },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": user },
        "subjects": [{ "kind": "User", "name": user }],
    }))
    .unwrap();
    let params = PostParams::default();
    Api::namespaced(client.clone(), namespace).create(&params, &role).await.unwrap();
    Api::namespaced(client.clone(), namespace).create(&params, &binding).await.unwrap();
    let may = SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: Some(user.to_owned()),
            resource_attributes: Some(ResourceAttributes {
                namespace: Some(namespace.to_owned()),
                verb: Some("create".to_owned()),
                resource: Some("configmaps".to_owned()),
                ..ResourceAttributes::default()
            }),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    };
    let reviews: Api<SubjectAccessReview> = Api::all(client.clone());
    eventually("the rights are known", async || {
        let review = reviews.create(&PostParams::default(), &may).await.unwrap();
        review.status.unwrap().allowed.then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_administrator_of_one_namespace_installs_and_leaves_nothing_behind() {
    let server = Server::bare().await;
    let client = server.admin();
    create_namespace(&client, "shop").await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), server.kubeconfig()).unwrap();
    let to = ["--namespace", "shop", "--kubeconfig", file.path().to_str().unwrap()];
    let helm = |command: &[&str], user: &str| {
        run_helm(&[command, &to, &["--kube-as-user", user]].concat())
    };
    let install = ["install", "sales", CHART, "--set", "watchNamespace=shop,crds.enabled=false"];
    administrator(&client, "without", "shop").await;
    let refused = helm(&install, "without").unwrap_err();
    assert!(
        refused.contains("attempting to grant RBAC permissions not currently held"),
        "{refused}"
    );
    helm(&["uninstall", "sales", "--ignore-not-found"], "without").unwrap();

    // What a cluster administrator does once.
    install_crd(&client, custom_resource_definition().unwrap()).await;
    let roles = include_str!("../../../crds/flashsale-roles.yaml");
    let api: Api<ClusterRole> = Api::all(client.clone());
    for document in serde_norway::Deserializer::from_str(roles) {
        let role = ClusterRole::deserialize(document).unwrap();
        let name = role.metadata.name.clone().unwrap();
        api.patch(&name, &PatchParams::apply("test"), &Patch::Apply(&role)).await.unwrap();
    }
    administrator(&client, "with", "shop").await;
    helm(&install, "with").unwrap();
    let leases: Api<Lease> = Api::namespaced(client.clone(), "shop");
    assert!(leases.get_opt("sales-flashsale-operator-leader").await.unwrap().is_some());
    helm(&["uninstall", "sales"], "with").unwrap();

    // For two namespaces: with the rights in both.
    create_namespace(&client, "outlet").await;
    let values = "watchNamespaces={shop,outlet},crds.enabled=false";
    let both = ["install", "sales", CHART, "--set", values];
    helm(&both, "with").unwrap_err();
    helm(&["uninstall", "sales", "--ignore-not-found"], "with").unwrap();
    administrator(&client, "with", "outlet").await;
    helm(&both, "with").unwrap();
    for namespace in ["shop", "outlet"] {
        let roles: Api<Role> = Api::namespaced(client.clone(), namespace);
        let role = roles.get_opt("sales-flashsale-operator-sales").await.unwrap();
        assert!(role.is_some(), "{namespace}");
    }
    helm(&["uninstall", "sales"], "with").unwrap();
    assert_eq!(leases.list(&ListParams::default()).await.unwrap().items.len(), 0);
}

/// The roles of the folder `crds` are those of the chart.
#[test]
fn the_roles_for_namespaces_are_those_of_the_chart() {
    let roles = include_str!("../../../crds/flashsale-roles.yaml");
    let alone = serde_norway::Deserializer::from_str(roles)
        .map(|document| Value::deserialize(document).unwrap())
        .map(|role| role["rules"].clone());
    let objects = rendered(CHART, "sales", &["crds.enabled=false"]);
    let of_chart = of_kind(&objects, "ClusterRole");
    let aggregated = of_chart.into_iter().filter(|role| {
        let labels = &role["metadata"]["labels"];
        labels["rbac.authorization.k8s.io/aggregate-to-admin"] == "true"
    });
    let aggregated: Vec<_> = aggregated.map(|role| role["rules"].clone()).collect();
    assert_eq!(alone.collect::<Vec<_>>(), aggregated);
}
