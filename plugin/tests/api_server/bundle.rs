//! `support-bundle`: everything is in it, and no secret.

use std::path::Path;
use std::process::Command;

use flashsale_operator::crd::FlashSale;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Event, Pod, Secret};
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::support::{Shop, running};

const PASSWORD: &str = "Tr0ub4dor-and-3";
const LITERAL: &str = "literal-in-a-variable";
const TOKEN: &str = "0123456789abcdef0123456789abcdef";
/// Base64 of the password and of the token.
const ENCODED: [&str; 2] = ["VHIwdWI0ZG9yLWFuZC0z", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY"];

/// A sale whose objects, annotations, events and logs are full of secrets.
async fn careless(shop: &Shop) {
    shop.open_sale("black-friday").await;
    let secret = |name: &str, data: serde_json::Value| {
        json!({ "metadata": { "name": name, "annotations": {
            "kubectl.kubernetes.io/last-applied-configuration": format!("{{\"password\":\"{PASSWORD}\"}}"),
        } }, "stringData": data })
    };
    let uri = format!("postgres://flashsale:{PASSWORD}@black-friday-db:5432/flashsale");
    shop.create::<Secret>(secret("black-friday-db", json!({ "uri": uri, "password": PASSWORD })))
        .await;
    shop.create::<Secret>(secret("black-friday-auth", json!({ "jwt-secret": TOKEN }))).await;
    let labels = json!({
        "app.kubernetes.io/name": "flashsale", "app.kubernetes.io/instance": "black-friday",
        "app.kubernetes.io/component": "app",
    });
    let env = json!([
        { "name": "SHOP_TOKEN", "value": LITERAL },
        { "name": "DATABASE_URL", "valueFrom": { "secretKeyRef": { "name": "black-friday-db", "key": "uri" } } },
        { "name": "JWT_SECRET", "valueFrom": { "secretKeyRef": { "name": "black-friday-auth", "key": "jwt-secret" } } },
    ]);
    let container =
        json!({ "name": "app", "image": "x:1", "env": env, "args": [format!("--x={LITERAL}")] });
    shop.create::<Pod>(json!({
        "metadata": { "name": "black-friday-1", "labels": labels, "annotations": {
            "note": format!("password {PASSWORD}"), "encoded": ENCODED[0],
        } },
        "spec": { "nodeName": "node0", "containers": [container.clone()] },
        "status": { "phase": "Running", "containerStatuses": [running("app", 2)] },
    }))
    .await;
    shop.create::<StatefulSet>(json!({
        "metadata": { "name": "black-friday-redis", "labels": labels },
        "spec": { "serviceName": "x", "selector": { "matchLabels": { "a": "b" } }, "template": {
            "metadata": { "labels": { "a": "b" } }, "spec": { "containers": [container] },
        } },
    }))
    .await;
    let sales: Api<FlashSale> = shop.api();
    let patch =
        json!({ "metadata": { "annotations": { "note": format!("{uri} {}", ENCODED[1]) } } });
    sales.patch("black-friday", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    shop.create::<Event>(json!({
        "metadata": { "name": "e1" }, "reason": "Failed", "message": format!("cannot use {uri}"),
        "involvedObject": { "kind": "Pod", "name": "black-friday-1", "namespace": shop.namespace },
    }))
    .await;
    let log = format!(
        "2026-11-27T00:00:01Z connects to {uri}\n2026-11-27T00:00:02Z shop {LITERAL}\n\
         2026-11-27T00:00:03Z Authorization: Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJib2IifQ.c2lnbmF0dXJl\n\
         2026-11-27T00:00:04Z redis://default:never-in-a-secret@redis:6379 is away\n"
    );
    let kubelet = &shop.server.kubelet;
    kubelet.set(shop.namespace, "black-friday-1", "app", false, &log);
    kubelet.set(
        shop.namespace,
        "black-friday-1",
        "app",
        true,
        &format!("2026-11-27T00:00:00Z key {TOKEN}\n"),
    );
}

/// The operator, whose log has a secret of the sale.
async fn careless_operator(shop: &Shop) {
    let labels = json!({ "app.kubernetes.io/name": "flashsale-operator" });
    shop.create::<Pod>(json!({
        "metadata": { "name": "operator-1", "labels": labels },
        "spec": { "nodeName": "node0", "containers": [{ "name": "operator", "image": "x:1" }] },
        "status": { "phase": "Running", "containerStatuses": [running("operator", 0)] },
    }))
    .await;
    let log = format!("2026-11-27T00:00:01Z the app knows {PASSWORD}\n");
    shop.server.kubelet.set(shop.namespace, "operator-1", "operator", false, &log);
}

/// The files of a bundle, by path.
fn unpack(bundle: &Path) -> Vec<(String, String)> {
    let folder = tempfile::tempdir().unwrap();
    let tar = Command::new("tar").arg("-xzf").arg(bundle).arg("-C").arg(folder.path()).status();
    assert!(tar.unwrap().success());
    let mut files = Vec::new();
    let mut folders = vec![folder.path().to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.strip_prefix(folder.path()).unwrap().to_str().unwrap().to_owned();
            files.push((name, std::fs::read_to_string(path).unwrap()));
        }
    }
    files.sort();
    files
}

#[tokio::test]
async fn a_bundle_has_what_a_maintainer_asks_for_and_no_secret() {
    let shop = Shop::open("bundle").await;
    careless(&shop).await;
    let folder = tempfile::tempdir().unwrap();
    let bundle = folder.path().join("b.tar.gz");
    let ran = shop.run(&["support-bundle", "black-friday", "-o", bundle.to_str().unwrap()]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let files = unpack(&bundle);
    let file = |end: &str| {
        let found =
            files.iter().find(|(name, _)| name == &format!("flashsale-support-black-friday/{end}"));
        let names: Vec<_> = files.iter().map(|(name, _)| name).collect();
        &found.unwrap_or_else(|| panic!("{end} is not in {names:?}")).1
    };
    let secrets = [PASSWORD, LITERAL, TOKEN, ENCODED[0], ENCODED[1], "never-in-a-secret", "eyJ"];
    for (name, text) in &files {
        for secret in secrets {
            assert!(!text.contains(secret), "{secret} is in {name}:\n{text}");
        }
    }
    assert!(!ran.err.contains(PASSWORD) && !ran.out.contains(PASSWORD), "{ran:?}");

    assert!(file("flashsale-black-friday.yaml").contains("phase: Open"));
    let pod = file("objects/pod-black-friday-1.yaml");
    for kept in ["SHOP_TOKEN", "secretKeyRef", "black-friday-db", "phase: Running"] {
        assert!(pod.contains(kept), "{kept}: {pod}");
    }
    file("objects/statefulset-black-friday-redis.yaml");
    assert!(file("events.yaml").contains("cannot use <redacted black-friday-db/uri>"));
    let log = file("logs/black-friday-1/app.log");
    assert!(log.contains("connects to") && log.contains("<redacted black-friday-db/uri>"), "{log}");
    assert!(log.contains("redis://default:<redacted>@redis:6379 is away"), "{log}");
    assert!(
        file("logs/black-friday-1/app.previous.log")
            .contains("key <redacted black-friday-auth/jwt-secret>")
    );
    assert!(file("secrets.json").contains("jwt-secret"));
    let versions = file("versions.json");
    assert!(versions.contains("gitVersion"), "{versions}\n{}", file("README.txt"));
    let about = file("README.txt");
    assert!(
        about.contains("the operator was not found")
            && about.contains("metrics/black-friday-1.txt"),
        "{about}"
    );

    careless_operator(&shop).await;
    let bundle = folder.path().join("with-operator.tar.gz");
    let ran = shop.run(&["support-bundle", "black-friday", "-o", bundle.to_str().unwrap()]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let files = unpack(&bundle);
    let text = |end: &str| {
        let path = format!("flashsale-support-black-friday/{end}");
        let found = files.iter().find(|(name, _)| *name == path);
        &found.unwrap_or_else(|| panic!("{end} is missing")).1
    };
    assert!(text("operator/pod-operator-1.yaml").contains("phase: Running"));
    let log = text("logs/operator-1/operator.log");
    assert!(log.contains("the app knows <redacted ") && !log.contains(PASSWORD), "{log}");
    let about = text("README.txt");
    assert!(!about.contains("the operator was not found"), "{about}");
    assert!(about.contains("metrics/operator-1.txt"), "{about}");
}
