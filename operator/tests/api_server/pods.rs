//! What users declare about the pods of a sale: what the API server takes and refuses, and what the parts get.

use flashsale_operator::crd::{FlashSale, UNOBSERVED};
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use kube::api::{DynamicObject, ListParams, PostParams};
use kube::{Api, Client, CustomResourceExt};
use serde_json::{Value, json};

use crate::cluster::{NAME, condition, reconcile_once};
use crate::support::{Operator, apply, eventually, minimal, namespace};

/// A minimal sale with changes to its spec.
fn with(changes: &Value) -> Value {
    let mut sale = minimal(NAME);
    let spec = sale["spec"].as_object_mut().unwrap();
    spec.extend(changes.as_object().unwrap().clone());
    sale
}

/// The answer of the API server to a new sale, which is not stored.
async fn ask(client: &Client, namespace: &str, spec: &Value) -> Result<Value, String> {
    let sale: DynamicObject = serde_json::from_value(with(spec)).unwrap();
    let sales: Api<DynamicObject> =
        Api::namespaced_with(client.clone(), namespace, &FlashSale::api_resource());
    let params = PostParams { dry_run: true, ..PostParams::default() };
    match sales.create(&params, &sale).await {
        Ok(sale) => Ok(sale.data["spec"].clone()),
        Err(kube::Error::Api(status)) => Err(status.message.clone()),
        Err(error) => panic!("{error}"),
    }
}

/// Everything that a pod template can have.
fn template() -> Value {
    json!({
        "labels": { "team": "shop", "example.com/cost": "" },
        "annotations": { "sidecar.istio.io/inject": "false" },
        "nodeSelector": { "pool": "sales" },
        "affinity": {
            "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": [
                { "matchExpressions": [{ "key": "pool", "operator": "In", "values": ["sales"] }] },
            ] } },
        },
        "tolerations": [{ "key": "pool", "operator": "Equal", "value": "sales", "effect": "NoSchedule" }],
        "topologySpreadConstraints": [
            { "maxSkew": 1, "topologyKey": "rack", "whenUnsatisfiable": "ScheduleAnyway" },
        ],
        "serviceAccountName": "sale",
        "imagePullSecrets": [{ "name": "part" }],
        "podSecurityContext": { "supplementalGroups": [5], "fsGroupChangePolicy": "Always" },
        "containerSecurityContext": { "seccompProfile": { "type": "RuntimeDefault" } },
        "env": [
            { "name": "SSL_CERT_DIR", "value": "/etc/ca" },
            { "name": "HOST", "valueFrom": { "fieldRef": { "fieldPath": "spec.nodeName" } } },
        ],
        "volumes": [{ "name": "ca", "secret": { "secretName": "ca", "optional": true } }],
        "volumeMounts": [{ "name": "ca", "mountPath": "/etc/ca", "readOnly": true }],
        "terminationGracePeriodSeconds": 45,
    })
}

async fn templates(client: &Client, namespace: &str) -> [PodTemplateSpec; 4] {
    let sets: Api<StatefulSet> = Api::namespaced(client.clone(), namespace);
    let apps: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let jobs: Api<Job> = Api::namespaced(client.clone(), namespace);
    let redis = sets.get(&format!("{NAME}-redis")).await.unwrap().spec.unwrap().template;
    let database = sets.get(&format!("{NAME}-db")).await.unwrap().spec.unwrap().template;
    let app = apps.get(NAME).await.unwrap().spec.unwrap().template;
    let seed = jobs.list(&ListParams::default()).await.unwrap().items.remove(0);
    [redis, database, app, seed.spec.unwrap().template]
}

#[tokio::test]
async fn declared_templates_reach_the_pods() {
    let (client, namespace) = namespace("pods-declared").await;
    let operator = Operator::idle().await;
    let part = json!({ "podTemplate": template() });
    let mut redis = part.clone();
    redis["spread"] = json!({ "hosts": "Required", "zones": "Required" });
    let declared = with(&json!({
        "redis": redis, "database": part, "app": part, "seed": part,
        "imagePullSecrets": [{ "name": "sale" }], "podUser": "Platform",
    }));
    apply(&client, &namespace, &declared).await.unwrap();
    reconcile_once(&operator, &client, &namespace).await;
    let sales: Api<FlashSale> = Api::namespaced(client.clone(), &namespace);
    let sale = sales.get(NAME).await.unwrap();
    assert_ne!(condition(&sale, "Ready").1, "ChangeRefused", "{:#?}", sale.status);

    for template in templates(&client, &namespace).await {
        let metadata = template.metadata.unwrap();
        assert_eq!(metadata.labels.unwrap()["team"], "shop");
        assert_eq!(metadata.annotations.unwrap()["sidecar.istio.io/inject"], "false");
        let pod = serde_json::to_value(template.spec.unwrap()).unwrap();
        let container = &pod["containers"][0];
        let name = &container["name"];
        assert_eq!(pod["nodeSelector"], json!({ "pool": "sales" }), "{name}");
        assert_eq!(pod["tolerations"].as_array().unwrap().len(), 1, "{name}");
        assert_eq!(pod["serviceAccountName"], "sale", "{name}");
        assert_eq!(
            pod["imagePullSecrets"],
            json!([{ "name": "sale" }, { "name": "part" }]),
            "{name}"
        );
        assert_eq!(pod["terminationGracePeriodSeconds"], 45, "{name}");
        let security = &pod["securityContext"];
        assert_eq!(security["supplementalGroups"], json!([5]), "{name}");
        assert_eq!([&security["runAsUser"], &security["fsGroup"]], [&Value::Null; 2], "{name}");
        assert_eq!(security["runAsNonRoot"], true, "{name}");
        let has = |list: &Value, entry: &str| {
            list.as_array().unwrap().iter().any(|it| it["name"] == entry)
        };
        assert!(has(&container["env"], "HOST") && has(&container["volumeMounts"], "ca"), "{name}");
        assert!(has(&pod["volumes"], "ca"), "{name}");
        let requests = &container["resources"]["requests"];
        assert!(requests["cpu"].is_string() && requests["memory"].is_string(), "{name}");
        let keys: Vec<&str> = pod["topologySpreadConstraints"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| it["topologyKey"].as_str().unwrap())
            .collect();
        assert!(keys.contains(&"rack"), "{name}");
        if name == "redis" {
            assert!(keys.contains(&"topology.kubernetes.io/zone"));
            let apart = &pod["affinity"]["podAntiAffinity"];
            assert!(apart["requiredDuringSchedulingIgnoredDuringExecution"][0].is_object());
        }
    }

    // What is no longer declared is gone.
    apply(&client, &namespace, &minimal(NAME)).await.unwrap();
    reconcile_once(&operator, &client, &namespace).await;
    let [redis, database, app, _] = templates(&client, &namespace).await;
    for template in [redis, database, app] {
        let pod = serde_json::to_value(template.spec.unwrap()).unwrap();
        assert_eq!(pod["imagePullSecrets"], Value::Null);
        assert!(pod["nodeSelector"].is_null() && pod["tolerations"].is_null(), "{pod}");
        assert!(!pod.to_string().contains("/etc/ca"), "{pod}");
        assert!(pod["securityContext"]["runAsUser"].is_number(), "{pod}");
    }
}

fn part(part: &str, template: &Value) -> Value {
    json!({ part: { "podTemplate": template } })
}

/// A volume at this path.
fn mount(of: &str, path: &str) -> Value {
    let volumes = json!([{ "name": "ca", "emptyDir": {} }]);
    let mounts = json!([{ "name": "ca", "mountPath": path }]);
    part(of, &json!({ "volumes": volumes, "volumeMounts": mounts }))
}

fn env(name: &str) -> Value {
    json!({ "env": [{ "name": name, "value": "x" }] })
}

fn over_zones() -> Value {
    let key = "topology.kubernetes.io/zone";
    let constraint =
        json!({ "maxSkew": 1, "topologyKey": key, "whenUnsatisfiable": "DoNotSchedule" });
    json!({ "topologySpreadConstraints": [constraint] })
}

/// Every spec must be refused with a message that contains all its fragments.
pub async fn assert_refused(client: &Client, namespace: &str, cases: &[(Value, &[&str])]) {
    let mut wrong = Vec::new();
    for (spec, fragments) in cases {
        match ask(client, namespace, spec).await {
            Ok(_) => wrong.push(format!("{spec} was taken")),
            Err(message) => {
                let missing = fragments.iter().filter(|it| !message.contains(**it));
                wrong.extend(missing.map(|it| format!("{spec}\n  {message}\n  lacks {it:?}")));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn what_belongs_to_the_operator_is_refused_with_field_and_rule() {
    let (client, namespace) = namespace("pods-reserved").await;
    let cases: [(Value, &[&str]); 15] = [
        (
            part("redis", &json!({ "labels": { "app.kubernetes.io/name": "x" } })),
            &["spec.redis.podTemplate.labels", "app.kubernetes.io/name", "the operator sets them"],
        ),
        (
            part("app", &json!({ "labels": { "flashsale.dev/x": "x" } })),
            &["spec.app.podTemplate.labels", "flashsale.dev/"],
        ),
        (
            part("seed", &json!({ "annotations": { "flashsale.dev/auth-checksum": "x" } })),
            &["spec.seed.podTemplate.annotations", "can't begin with flashsale.dev/"],
        ),
        (
            part("redis", &env("REDISCLI_AUTH")),
            &["spec.redis.podTemplate.env[0].name", "the operator sets REDISCLI_AUTH"],
        ),
        (part("app", &env("STRATEGY")), &["spec.app.podTemplate.env", "sets STRATEGY"]),
        (part("database", &env("PGDATA")), &["spec.database.podTemplate.env", "sets PGDATA"]),
        (part("seed", &env("DATABASE_ID")), &["spec.seed.podTemplate.env", "sets DATABASE_ID"]),
        (part("seed", &env("TAKE_OVER_DATABASE")), &["spec.seed.podTemplate.env"]),
        (
            part("database", &json!({ "volumes": [{ "name": "tmp", "emptyDir": {} }] })),
            &["spec.database.podTemplate.volumes", "can't be named data, run, tmp"],
        ),
        (mount("redis", "/data"), &["spec.redis.podTemplate.volumeMounts", "inside /data"]),
        (mount("redis", "/data/ca"), &["spec.redis.podTemplate.volumeMounts", "inside /data"]),
        (
            mount("database", "/var/lib/postgresql"),
            &["spec.database.podTemplate.volumeMounts", "/var/lib/postgresql/data"],
        ),
        (mount("app", "/etc/flashsale/auth"), &["spec.app.podTemplate.volumeMounts"]),
        (
            json!({ "redis": { "spread": { "zones": "Required" }, "podTemplate": over_zones() } }),
            &["spec.redis.podTemplate", "unless redis.spread.zones is Disabled"],
        ),
        (
            json!({ "database": { "secretRef": { "name": "db" }, "podTemplate": {} } }),
            &["spec.database", "podTemplate and backup must be absent"],
        ),
    ];
    assert_refused(&client, &namespace, &cases).await;

    // Right beside what is refused.
    for spec in [
        mount("redis", "/data2"),
        mount("app", "/etc/flashsale-ca"),
        part("redis", &env("JWT_SECRET")),
        part("redis", &over_zones()),
        part("app", &json!({ "labels": { "app.kubernetes.io/part-of": "shop" } })),
    ] {
        let answer = ask(&client, &namespace, &spec).await;
        assert!(answer.is_ok(), "{spec} was refused: {answer:?}");
    }
}

#[tokio::test]
async fn malformed_pod_templates_are_refused_with_field_and_rule() {
    let (client, namespace) = namespace("pods-malformed").await;
    let cases: [(Value, &[&str]); 15] = [
        (
            part("app", &env("DATABASE_MAX_CONNECTIONS")),
            &["DATABASE_MAX_CONNECTIONS must be a whole number from 1 to 10000"],
        ),
        (
            part("seed", &env("SEED_TIMEOUT_SECONDS")),
            &["spec.seed.podTemplate.env[0].value", "SEED_TIMEOUT_SECONDS", "from 0.001 to 3600"],
        ),
        (part("app", &env("1 A")), &["spec.app.podTemplate.env[0].name", "should match"]),
        (
            part("app", &json!({ "env": [{ "name": "A", "value": "", "valueFrom": {} }] })),
            &["spec.app.podTemplate.env[0]", "a value or a valueFrom, not both"],
        ),
        (
            part("app", &json!({ "env": [{ "name": "A" }, { "name": "A" }] })),
            &["spec.app.podTemplate.env[1]", "Duplicate value"],
        ),
        (
            part("app", &json!({ "volumeMounts": [{ "name": "ca", "mountPath": "/etc/ca" }] })),
            &["spec.app.podTemplate.volumeMounts", "must name one of volumes"],
        ),
        (mount("app", "/x/../etc/flashsale"), &["volumeMounts[0].mountPath", "should match"]),
        (mount("app", "ca"), &["spec.app.podTemplate.volumeMounts[0].mountPath", "should match"]),
        (
            part("redis", &json!({ "tolerations": [{ "operator": "Equals" }] })),
            &["spec.redis.podTemplate.tolerations[0].operator", "supported values"],
        ),
        (
            part("redis", &json!({ "terminationGracePeriodSeconds": 0 })),
            &["spec.redis.podTemplate.terminationGracePeriodSeconds", "greater than or equal to 5"],
        ),
        (
            part("redis", &json!({ "priorityClassName": "High" })),
            &["spec.redis.podTemplate.priorityClassName", "should match"],
        ),
        (
            part("redis", &json!({ "nodeSelector": { "pool": "a b" } })),
            &["spec.redis.podTemplate.nodeSelector.pool", "should match"],
        ),
        (
            json!({ "redis": { "spread": { "zones": "Maybe" } } }),
            &["spec.redis.spread.zones", "supported values"],
        ),
        (json!({ "imagePullSecrets": [{ "name": "A" }] }), &["spec.imagePullSecrets[0].name"]),
        (json!({ "podUser": "Root" }), &["spec.podUser", "supported values"]),
    ];
    assert_refused(&client, &namespace, &cases).await;
}

#[tokio::test]
async fn a_field_that_kubernetes_does_not_know_is_named() {
    let (client, namespace) = namespace("pods-unreadable").await;
    let _operator = Operator::start(&namespace).await;
    let said = async |name: &str| {
        let sales: Api<DynamicObject> =
            Api::namespaced_with(client.clone(), &namespace, &FlashSale::api_resource());
        eventually("a condition", async || {
            let status = sales.get(name).await.unwrap().data["status"].take();
            let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
            let ready = conditions.into_iter().find(|it| it["type"] == "Ready")?;
            // What the API server writes before the operator.
            let seen = status["observedGeneration"] != UNOBSERVED;
            let ready = seen.then_some(ready)?;
            Some((ready["reason"].clone(), ready["message"].as_str()?.to_owned()))
        })
        .await
    };
    let sales: Api<DynamicObject> =
        Api::namespaced_with(client.clone(), &namespace, &FlashSale::api_resource());
    let cases = [
        (
            "misspelled",
            json!({ "affinity": { "nodeAffinity": { "preferred": [] } } }),
            "spec.redis.podTemplate.affinity: nodeAffinity.preferred: unknown field",
        ),
        (
            "mistyped",
            json!({ "podSecurityContext": { "runAsUser": "root" } }),
            "spec.redis.podTemplate.podSecurityContext: runAsUser: invalid type",
        ),
        (
            "container",
            json!({ "containers": [{ "name": "proxy", "image": "i:1", "comand": ["true"] }] }),
            "spec.redis.podTemplate.containers[0]: comand: unknown field",
        ),
        (
            "null",
            json!({ "podSecurityContext": { "runAsUser": null } }),
            "spec.redis.podTemplate.podSecurityContext: runAsUser: null has no effect",
        ),
    ];
    for (name, template, message) in cases {
        let mut sale = minimal(name);
        sale["spec"]["redis"] = json!({ "podTemplate": template });
        let sale: DynamicObject = serde_json::from_value(sale).unwrap();
        sales.create(&PostParams::default(), &sale).await.unwrap();
        let (reason, found) = said(name).await;
        assert_eq!(reason, "Unreadable", "{name}: {found}");
        assert!(found.starts_with(message), "{name}: {found}");
    }

    // What only the API server knows about pods.
    let mut sale = minimal("no-value");
    sale["spec"]["app"] = json!({ "podTemplate": { "env": [{ "name": "A", "valueFrom": {} }] } });
    apply(&client, &namespace, &sale).await.unwrap();
    let (reason, found) = said("no-value").await;
    assert_eq!(reason, "ChangeRefused", "{found}");
    assert!(found.contains("Deployment no-value was refused"), "{found}");
    assert!(found.contains("valueFrom: Invalid value"), "{found}");
}

#[tokio::test]
async fn the_examples_of_the_documentation_are_taken() {
    let (client, namespace) = namespace("pods-documented").await;
    let page = include_str!("../../../docs/OPERATIONS.md");
    let section = page.split("\n## ").find(|section| section.starts_with("Pods\n")).unwrap();
    let examples: Vec<&str> =
        section.split("```").filter_map(|it| it.strip_prefix("yaml\n")).collect();
    assert!(examples.len() >= 5, "{examples:?}");
    for example in examples {
        let example: Value = serde_norway::from_str(example).unwrap();
        let answer = ask(&client, &namespace, &example["spec"]).await;
        assert!(answer.is_ok(), "{example} was refused: {answer:?}");
        let read = serde_json::from_value::<FlashSale>(with(&example["spec"]));
        assert!(read.is_ok(), "{example} cannot be read: {read:?}");
    }
}
