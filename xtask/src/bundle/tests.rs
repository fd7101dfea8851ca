use super::*;
use crate::fakes::Fakes;

/// A helm that renders a small chart.
const HELM: &str = "cat <<'EOF'
kind: ClusterRole
metadata: {name: flashsale-operator}
rules: [{apiGroups: [gateway.networking.k8s.io], resources: [httproutes], verbs: [get, create]}]
---
kind: ClusterRole
metadata: {name: flashsale-operator-view, labels: {app: sales, helm.sh/chart: sales-1}}
---
kind: Role
metadata: {name: flashsale-operator-lease, namespace: sales}
rules: [{apiGroups: [coordination.k8s.io], resources: [leases], verbs: [create]}]
---
kind: Deployment
metadata: {name: flashsale-operator, namespace: sales}
spec:
  template:
    spec:
      serviceAccountName: operator
      containers:
        - image: registry/operator:1
          env: [{name: DEFAULT_APP_IMAGE, value: 'registry/app:1'}]
---
kind: Pod
metadata: {name: flashsale-operator-test}
spec: {containers: [{image: registry/scorecard}]}
---
# Rendered to nothing.
---
kind: NetworkPolicy
metadata: {name: flashsale-operator}
EOF";
const CRD: &str = "
metadata: {name: flashsales.flashsale.dev}
spec:
  group: flashsale.dev
  names: {kind: FlashSale}
  versions:
    - {name: v1, storage: false}
    - name: v2
      storage: true
      schema:
        openAPIV3Schema:
          properties:
            spec: {properties: {networkPolicy: {description: Who may connect.}}}
            status: {properties: {conditions: {description: Of the parts.}}}
";

fn document(files: &[(String, String)], path: &str) -> Value {
    let file = files.iter().find(|(written, _)| written == path);
    serde_norway::from_str(&file.unwrap().1).unwrap()
}

#[test]
fn olm_installs_what_the_chart_renders() {
    let fakes = Fakes::start(&[("helm", HELM)]);
    let files = files(CRD, &["imageRegistry=registry".to_owned()]).unwrap();
    let calls = fakes.calls();
    assert!(calls[0].ends_with("--set imageRegistry=registry"), "{calls:?}");
    let paths: Vec<&str> = files.iter().map(|(path, _)| path.as_str()).collect();
    let expected = [
        "Dockerfile",
        "metadata/annotations.yaml",
        "tests/scorecard/config.yaml",
        "manifests/flashsale.customresourcedefinition.yaml",
        "manifests/flashsale-operator.clusterserviceversion.yaml",
        "manifests/flashsale-operator-view.clusterrole.yaml",
    ];
    assert_eq!(paths, expected);

    let version = document(&files, expected[4]);
    let spec = &version["spec"];
    let install = &spec["install"]["spec"];
    let permissions = &install["permissions"][0];
    assert_eq!(permissions["serviceAccountName"], "operator");
    assert_eq!(permissions["rules"].as_array().map(Vec::len), Some(2), "{permissions}");
    let deployed = &install["deployments"][0]["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(deployed["env"][1]["name"], "OLM_TARGET_NAMESPACES");
    let operator = json!({"name": "operator", "image": "registry/operator:1"});
    let app = json!({"name": "app", "image": "registry/app:1"});
    assert_eq!(spec["relatedImages"], json!([operator, app]));
    let role = document(&files, expected[5]);
    assert_eq!(role["metadata"]["labels"], json!({"app": "sales"}));
    let scorecard = document(&files, expected[2]);
    assert_eq!(scorecard["stages"][0]["tests"][0]["image"], "registry/scorecard");
}

#[test]
fn a_catalog_shows_what_the_definition_says() {
    let _fakes = Fakes::start(&[("helm", HELM)]);
    let files = files(CRD, &[]).unwrap();
    let version = document(&files, "manifests/flashsale-operator.clusterserviceversion.yaml");
    let owned = &version["spec"]["customresourcedefinitions"]["owned"][0];
    assert_eq!(owned["version"], "v2");
    let name = "httproutes.gateway.networking.k8s.io";
    let route = json!({"name": name, "kind": "HTTPRoute", "version": "v1"});
    assert_eq!(owned["resources"], json!([route]));
    let field = &owned["specDescriptors"][0];
    assert_eq!(field["displayName"], "Network policy");
    assert_eq!(field["description"], "Who may connect.");
    let drawn = &owned["statusDescriptors"][0]["x-descriptors"];
    assert_eq!(drawn, &json!(["urn:alm:descriptor:io.kubernetes.conditions"]));
}

#[test]
fn what_is_missing_is_named() {
    for (rendered, missing) in [
        (HELM.replace("httproutes", "widgets"), "the kind of widgets is not known"),
        (HELM.replace("kind: ClusterRole", "kind: Role"), "no ClusterRole flashsale-operator"),
    ] {
        let _fakes = Fakes::start(&[("helm", rendered.as_str())]);
        let error = files(CRD, &[]).unwrap_err().to_string();
        assert!(error.contains(missing), "{error}");
    }
}

#[test]
fn a_finding_is_a_failure_although_the_program_succeeds() {
    let notice = "echo 'level=warning msg=\"this validator is deprecated\"' >&2";
    {
        let _fakes = Fakes::start(&[("operator-verify", notice)]);
        verify(Path::new(FOLDER)).unwrap();
    }
    let finding = format!("{notice}; echo 'level=error msg=\"no provider\"' >&2");
    let _fakes = Fakes::start(&[("operator-verify", finding.as_str())]);
    let error = verify(Path::new(FOLDER)).unwrap_err().to_string();
    assert!(error.contains("no provider") && !error.contains("deprecated"), "{error}");
}
