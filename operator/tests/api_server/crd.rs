//! Values that the API server itself refuses, and its messages.

use flashsale_operator::crd::FlashSale;
use kube::api::{DynamicObject, PostParams};
use kube::{Api, Client, CustomResourceExt};
use serde_json::{Value, json};

use crate::support::{admin_kubeconfig, apply, minimal, namespace, run_program};

/// What the message about an external database names.
const OF_OWN_DATABASE: &str =
    "image, resources, storage, probes, podTemplate and backup must be absent";

/// Sets the value at `path` (JSON pointer below spec) of a minimal sale.
fn with(path: &str, value: Value) -> Value {
    let mut sale = minimal("black-friday");
    set(&mut sale, path, value);
    sale
}

fn set(sale: &mut Value, path: &str, value: Value) {
    let mut at = &mut sale["spec"];
    for key in path.split('/') {
        at = match key.parse::<usize>() {
            Ok(index) => &mut at[index],
            Err(_) => &mut at[key],
        };
    }
    *at = value;
}

/// Every sale must be refused with a message that contains all its fragments. New sales are created
/// (what `kubectl apply` does), for later ones it is a server-side apply.
async fn assert_refused(client: &Client, namespace: &str, cases: Vec<(Value, &[&str])>) {
    let api: Api<DynamicObject> =
        Api::namespaced_with(client.clone(), namespace, &FlashSale::api_resource());
    let mut wrong = Vec::new();
    for (sale, fragments) in cases {
        let name = sale["metadata"]["name"].as_str().unwrap();
        let answer = if api.get_opt(name).await.unwrap().is_some() {
            apply(client, namespace, &sale).await.map(|_| ())
        } else {
            let sale: DynamicObject = serde_json::from_value(sale.clone()).unwrap();
            api.create(&PostParams::default(), &sale).await.map(|_| ())
        };
        match answer {
            Err(kube::Error::Api(status)) => {
                let missing = fragments.iter().filter(|it| !status.message.contains(**it));
                let message = &status.message;
                wrong.extend(missing.map(|it| format!("{sale}\n  {message}\n  lacks {it:?}")));
            }
            other => wrong.push(format!("{sale} was not refused: {other:?}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn invalid_sales_are_refused_with_field_and_rule() {
    let (client, namespace) = namespace("crd-invalid").await;
    let product = |id: &str| json!({ "id": id, "stock": 1 });
    let mut ends_before_start = with("startsAt", json!("2026-11-28T00:00:00Z"));
    set(&mut ends_before_start, "endsAt", json!("2026-11-27T00:00:00Z"));
    let cases: Vec<(Value, &[&str])> = vec![
        (with("redis/nodes", json!(2)), &["spec.redis.nodes", "supported values: \"1\", \"5\""]),
        (
            with("products/0/stock", json!(-1)),
            &["spec.products[0].stock", "greater than or equal to 0"],
        ),
        (
            with("products", json!([product("1"), product("1")])),
            &["spec.products[1]", "Duplicate value", r#""id":"1""#],
        ),
        (with("products", json!([])), &["spec.products", "at least 1 item"]),
        (with("products", json!([{ "stock": 1 }])), &["spec.products[0].id", "Required"]),
        (with("products/0/id", json!("a b")), &["spec.products[0].id", "should match"]),
        (with("products/0/id", json!("x".repeat(64))), &["spec.products[0].id", "63"]),
        (
            with("products/0/maxPerBuyer", json!(0)),
            &["spec.products[0].maxPerBuyer", "greater than or equal to 1"],
        ),
        (
            with("lock", json!({ "waitTimeout": "0s" })),
            &["spec.lock.waitTimeout", "waitTimeout must be from 1ms to 60s"],
        ),
        (with("lock", json!({ "waitTimeout": 0 })), &["spec.lock.waitTimeout", "string"]),
        (with("lock", json!({ "waitTimeout": "0" })), &["spec.lock.waitTimeout", "should match"]),
        (with("lock", json!({ "leaseTime": "2h" })), &["spec.lock.leaseTime", "should match"]),
        (with("lock", json!({ "leaseTime": "90s" })), &["spec.lock.leaseTime", "from 1ms to 60s"]),
        (
            with("lock", json!({ "leaseTime": "1s", "nodeTimeout": "1s" })),
            &[
                "spec.lock.leaseTime",
                "must be more than twice lock.nodeTimeout (50ms unless it is set)",
            ],
        ),
        (with("lock", json!({ "order": "Random" })), &["spec.lock.order", "supported values"]),
        (
            with("products/0/lock", json!({ "leaseTime": "50ms" })),
            &["products[].lock.leaseTime must be more than twice lock.nodeTimeout"],
        ),
        (
            with("products/0/lock", json!({ "waitTimeout": "0ms" })),
            &["spec.products[0].lock.waitTimeout", "must be from 1ms"],
        ),
        (with("strategy", json!("Optimistic")), &["spec.strategy", "supported values"]),
        (
            with("strategy", json!("Atomic")),
            &["spec.strategy", "strategy Atomic needs redis.nodes: 1, the one node that decides"],
        ),
        (ends_before_start, &["spec.endsAt", "endsAt must be after startsAt"]),
        (with("startsAt", json!("tomorrow")), &["spec.startsAt"]),
        (with("startsAt", json!("2026-11-27T00:00:00")), &["spec.startsAt", "should match"]),
        (with("app", json!({ "replicas": 0 })), &["spec.app.replicas", "greater than"]),
        (
            with("app", json!({ "replicas": 3, "autoscaling": { "maxReplicas": 2 } })),
            &["spec.app.autoscaling", "must be at least app.replicas"],
        ),
        (
            with("app", json!({ "trustedProxies": -1 })),
            &["spec.app.trustedProxies", "greater than"],
        ),
        (with("app", json!({ "maxConnections": 0 })), &["spec.app.maxConnections", "greater than"]),
        (
            with("app", json!({ "maxEventListeners": "all" })),
            &["spec.app.maxEventListeners", "integer"],
        ),
        (
            with("app", json!({ "cors": { "allowedOrigins": ["https://shop.example/"] } })),
            &["spec.app.cors.allowedOrigins[0]", "should match"],
        ),
        (with("app", json!({ "tls": {} })), &["spec.app.tls.secretRef", "Required"]),
        (
            with("app", json!({ "tls": { "secretRef": { "name": "Shop" } } })),
            &["spec.app.tls.secretRef.name", "should match"],
        ),
        (
            with("stores", json!({ "compareEvery": "0.5ms" })),
            &["spec.stores.compareEvery", "compareEvery must be from 1ms to 60m"],
        ),
        (
            with("stores", json!({ "loadEvery": "61m" })),
            &["spec.stores.loadEvery", "loadEvery must be from 1ms to 60m"],
        ),
        (
            with("app", json!({ "resources": { "requests": { "cpu": "lots" } } })),
            &["spec.app.resources.requests.cpu", "should match"],
        ),
        (
            with("database", json!({ "secretRef": { "name": "db" }, "image": "postgres" })),
            &["spec.database", OF_OWN_DATABASE],
        ),
        (with("redis/storage", json!({ "size": "big" })), &["spec.redis.storage.size"]),
        (minimal("black.friday"), &["metadata.name must be at most 40 characters"]),
        (minimal(&"x".repeat(41)), &["metadata.name must be at most 40 characters"]),
    ];
    assert_refused(&client, &namespace, cases).await;
}

#[tokio::test]
async fn the_rule_stands_in_the_message_where_a_pattern_says_little() {
    let (client, namespace) = namespace("crd-words").await;
    let cases: Vec<(Value, &[&str])> = vec![
        (
            with("endsAt", json!("9999-12-31T23:59:59Z")),
            &["spec.endsAt", "to 9999-12-30T22:00:00Z; leave it out for no limit"],
        ),
        (
            with("endsAt", json!("2026-11-28T00:00:00+26:00")),
            &["spec.endsAt", "endsAt must be an RFC 3339 time", "an offset below 24:00"],
        ),
        (
            with("products/0/name", json!("Console\n")),
            &["spec.products[0].name", "no control characters such as tabs and line ends"],
        ),
        (
            with("app", json!({ "prewarm": { "replicas": 5 } })),
            &["spec.app.prewarm", "app.prewarm needs startsAt: replicas are started before"],
        ),
        (
            with(
                "app",
                json!({ "autoscaling": { "maxReplicas": 4 }, "prewarm": { "replicas": 5 } }),
            ),
            &["spec.app.autoscaling", "must be at least app.prewarm.replicas"],
        ),
    ];
    assert_refused(&client, &namespace, cases).await;
}

#[tokio::test]
async fn what_can_t_change_is_refused_on_update() {
    let (client, namespace) = namespace("crd-immutable").await;
    let sale = minimal("black-friday");
    apply(&client, &namespace, &sale).await.unwrap();
    let two = json!([{ "id": "1", "stock": 100 }, { "id": "2", "stock": 1 }]);
    apply(&client, &namespace, &with("products", two)).await.unwrap();

    let cases: Vec<(Value, &[&str])> = vec![
        (with("unknown", json!(1)), &["field not declared in schema"]),
        (
            with("products", json!([{ "id": "1", "stock": 99 }, { "id": "2", "stock": 1 }])),
            &["spec.products", "stock can only be raised"],
        ),
        (sale, &["spec.products", "products can't be removed from a sale"]),
    ];
    assert_refused(&client, &namespace, cases).await;

    apply(&client, &namespace, &minimal("frozen")).await.unwrap();
    let cases: Vec<(&str, Value, &[&str])> = vec![
        ("strategy", json!("Atomic"), &["spec.strategy", "strategy can't be changed"]),
        (
            "database",
            json!({ "secretRef": { "name": "db" } }),
            &["spec.database", "database.secretRef can't be added or removed"],
        ),
    ];
    let change = |(path, value, fragments): (&str, Value, _)| {
        let mut sale = minimal("frozen");
        set(&mut sale, path, value);
        (sale, fragments)
    };
    assert_refused(&client, &namespace, cases.into_iter().map(change).collect()).await;
}

#[tokio::test]
async fn defaults_are_filled_in_by_the_api_server() {
    let (client, namespace) = namespace("crd-defaults").await;
    let sale = apply(&client, &namespace, &minimal("black-friday")).await.unwrap();
    let spec = serde_json::to_value(&sale.spec).unwrap();
    assert_eq!(spec["redis"], json!({ "nodes": 5, "storage": { "size": "1Gi" } }));
    assert_eq!(spec["app"], json!({ "replicas": 3 }));
    assert_eq!(
        spec["lock"],
        json!({
            "order": "Unordered", "waitTimeout": "2s", "leaseTime": "5s", "nodeTimeout": "50ms"
        })
    );
}

#[tokio::test]
async fn the_samples_are_valid_sales() {
    let samples = concat!(env!("CARGO_MANIFEST_DIR"), "/../manifests/samples");
    for file in std::fs::read_dir(samples).unwrap() {
        let path = file.unwrap().path();
        let sample: Value = serde_norway::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let name = path.file_stem().unwrap().to_string_lossy();
        let (client, namespace) = namespace(&format!("sample-{name}")).await;
        let applied = apply(&client, &namespace, &sample).await;
        assert!(applied.is_ok(), "{}: {applied:?}", path.display());
    }
}

#[tokio::test]
async fn the_load_manifests_are_accepted_as_they_stand() {
    let (_, namespace) = namespace("load-manifests").await;
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = folder.path().join("kubeconfig");
    std::fs::write(&kubeconfig, admin_kubeconfig().await).unwrap();
    let kubeconfig = kubeconfig.display().to_string();
    let manifests = concat!(env!("CARGO_MANIFEST_DIR"), "/../manifests/load");
    let accepted = run_program(
        "kubectl",
        &[
            "create",
            "--dry-run=server",
            "--validate=strict",
            "--output=name",
            "--kubeconfig",
            &kubeconfig,
            "--namespace",
            &namespace,
            "--filename",
            manifests,
        ],
    );
    let accepted = accepted.unwrap_or_else(|error| panic!("{error}"));
    let accepted = String::from_utf8(accepted).unwrap();
    let mut objects = 0;
    for file in std::fs::read_dir(manifests).unwrap() {
        let path = file.unwrap().path();
        let job = format!("job.batch/load-{}", path.file_stem().unwrap().to_string_lossy());
        assert!(accepted.lines().any(|line| line == job), "no {job}: {accepted}");
        let text = std::fs::read_to_string(&path).unwrap();
        objects += text.lines().filter(|line| line.starts_with("kind: ")).count();
    }
    assert_eq!(accepted.lines().count(), objects, "{accepted}");
}
