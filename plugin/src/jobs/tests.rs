//! The Job and its policy, and what pods say.

use k8s_openapi::api::core::v1::EnvVar;
use serde_json::json;

use super::build::{COMMAND, load_image};
use super::*;

fn sale(spec: &Value) -> FlashSale {
    let mut sale = json!({
        "apiVersion": "flashsale.dev/v1beta1", "kind": "FlashSale",
        "metadata": { "name": "black-friday", "namespace": "shop", "uid": "u1" },
        "spec": { "products": [{ "id": "1", "stock": 100 }] },
    });
    sale["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    serde_json::from_value(sale).unwrap()
}

/// As the operator makes it, with TLS to the stores and a declared volume.
fn deployment() -> Deployment {
    let secret = |name: &str, key: &str| json!({ "secretKeyRef": { "name": name, "key": key } });
    serde_json::from_value(json!({ "spec": { "selector": {}, "template": { "spec": {
        "containers": [
            { "name": "proxy", "image": "proxy:1" },
            {
                "name": "app", "image": "registry.example:5000/shop/flashsale-app:0.1.0", "args": ["serve"],
                "env": [
                    { "name": "DATABASE_URL", "valueFrom": secret("black-friday-db", "uri") },
                    { "name": "REDIS_NODES", "value": "a:6379,b:6379" },
                    { "name": "REDIS_PASSWORD", "valueFrom": secret("black-friday-redis", "password") },
                    { "name": "REDIS_CA_FILE", "value": "/etc/flashsale-stores/ca.crt" },
                    { "name": "DATABASE_CA_FILE", "value": "/etc/flashsale-stores/ca.crt" },
                    { "name": "SALE_NAME", "value": "shop/black-friday" },
                    { "name": "JWT_SECRET", "valueFrom": secret("black-friday-auth", "jwt-secret") },
                    { "name": "OPERATOR_TOKEN", "valueFrom": secret("black-friday-operator", "token") },
                    { "name": "PGSSLMODE", "value": "verify-full" },
                ],
                "volumeMounts": [
                    { "name": "tls", "mountPath": "/etc/flashsale/tls" },
                    { "name": "stores-tls", "mountPath": "/etc/flashsale-stores" },
                    { "name": "ca", "mountPath": "/etc/ca" },
                ],
                "readinessProbe": { "httpGet": { "port": 9090 } },
                "securityContext": { "readOnlyRootFilesystem": true },
            },
        ],
        "volumes": [
            { "name": "tls", "secret": { "secretName": "t" } },
            { "name": "stores-tls", "secret": { "secretName": "s" } },
            { "name": "ca", "configMap": { "name": "c" } },
        ],
        "imagePullSecrets": [{ "name": "registry" }],
        "nodeSelector": { "pool": "sales" },
        "securityContext": { "runAsNonRoot": true },
    } } } }))
    .unwrap()
}

fn declared() -> Value {
    json!({ "app": { "podTemplate": {
        "env": [{ "name": "PGSSLMODE", "value": "verify-full" }],
        "volumes": [{ "name": "ca", "configMap": { "name": "c" } }],
        "volumeMounts": [{ "name": "ca", "mountPath": "/etc/ca" }],
    } } })
}

fn made(tool: &Tool<'_>) -> Job {
    build::job(&sale(&declared()), &deployment(), tool).unwrap()
}

fn names(env: &[EnvVar]) -> Vec<&str> {
    env.iter().map(|variable| variable.name.as_str()).collect()
}

#[test]
fn the_job_knows_the_stores_as_the_replicas_do_and_nothing_else() {
    let tool = Tool { command: "verify", arguments: vec!["verify".to_owned()], ..Tool::default() };
    let job = made(&tool);
    assert!(job.name_any().starts_with("black-friday-verify-"));
    let owner = &job.metadata.owner_references.as_ref().unwrap()[0];
    assert_eq!(
        (owner.kind.as_str(), owner.uid.as_str(), owner.controller),
        ("FlashSale", "u1", None)
    );
    let spec = job.spec.unwrap();
    let labels = spec.template.metadata.unwrap().labels.unwrap();
    assert_eq!(
        (labels["app.kubernetes.io/component"].as_str(), labels[COMMAND].as_str()),
        ("load", "verify")
    );
    // The operator counts pods with its own label.
    assert!(!labels.contains_key("app.kubernetes.io/managed-by"));
    let pod = spec.template.spec.unwrap();
    let container = &pod.containers[0];
    let env = container.env.as_ref().unwrap();
    assert_eq!(
        names(env),
        [
            "DATABASE_URL",
            "REDIS_NODES",
            "REDIS_PASSWORD",
            "REDIS_CA_FILE",
            "DATABASE_CA_FILE",
            "SALE_NAME",
            "PGSSLMODE"
        ]
    );
    assert_eq!(container.image.as_deref(), Some("registry.example:5000/shop/flashsale-load:0.1.0"));
    assert!(container.readiness_probe.is_none() && container.security_context.is_some());
    let mounts: Vec<_> =
        container.volume_mounts.iter().flatten().map(|it| it.name.as_str()).collect();
    let volumes: Vec<_> = pod.volumes.iter().flatten().map(|it| it.name.as_str()).collect();
    assert_eq!((mounts, volumes), (vec!["stores-tls", "ca"], vec!["stores-tls", "ca"]));
    assert_eq!(pod.image_pull_secrets.unwrap()[0].name, "registry");
    assert_eq!(pod.node_selector.unwrap()["pool"], "sales");
}

#[test]
fn only_buyers_get_the_signing_key() {
    let tool = Tool {
        command: "load",
        signs_tokens: true,
        without: &["REDIS_NODES"],
        environment: vec![("SALE_URL".to_owned(), "http://x".to_owned())],
        image: Some("mine"),
        ..Tool::default()
    };
    let container = made(&tool).spec.unwrap().template.spec.unwrap().containers.remove(0);
    let env = container.env.unwrap();
    let names = names(&env);
    assert!(names.contains(&"JWT_SECRET") && names.contains(&"SALE_URL"), "{names:?}");
    assert!(!names.contains(&"REDIS_NODES") && !names.contains(&"OPERATOR_TOKEN"), "{names:?}");
    assert_eq!(container.image.as_deref(), Some("mine"));
}

#[test]
fn several_pods_share_the_work_and_find_each_other_by_name() {
    let mut job = made(&Tool { command: "load", pods: 3, memory: Some("1Gi"), ..Tool::default() });
    job.metadata.uid = Some("j1".to_owned());
    let name = job.name_any();
    let service = json!(build::service(&job).unwrap());
    assert_eq!(service["metadata"]["name"], json!(name));
    assert_eq!(service["metadata"]["ownerReferences"][0]["uid"], "j1");
    assert_eq!(
        (&service["spec"]["clusterIP"], &service["spec"]["publishNotReadyAddresses"]),
        (&json!("None"), &json!(true))
    );
    assert_eq!(service["spec"]["selector"]["batch.kubernetes.io/job-name"], json!(name));
    let spec = json!(job.spec.unwrap());
    assert_eq!(
        (&spec["completionMode"], &spec["completions"], &spec["parallelism"]),
        (&json!("Indexed"), &json!(3), &json!(3))
    );
    assert_eq!((&spec["backoffLimitPerIndex"], &spec["backoffLimit"]), (&json!(0), &json!(null)));
    let pod = &spec["template"]["spec"];
    assert_eq!(pod["subdomain"], json!(name));
    assert_eq!(pod["containers"][0]["resources"]["limits"]["memory"], "1Gi");
    let env = pod["containers"][0]["env"].as_array().unwrap();
    let value = |name: &str| env.iter().find(|it| it["name"] == name).unwrap()["value"].clone();
    assert_eq!(value("PODS"), "3");
    assert_eq!(value("COORDINATOR"), json!(format!("{name}-0.{name}:7070")));
    assert!(build::service(&made(&Tool { pods: 1, ..Tool::default() })).is_none());
}

#[test]
fn the_load_image_lies_beside_that_of_the_replicas() {
    assert_eq!(load_image("localhost/flashsale-app:dev").unwrap(), "localhost/flashsale-load:dev");
    assert_eq!(load_image("flashsale-app").unwrap(), "flashsale-load");
    for underivable in ["shop/api:1", "flashsale-app@sha256:00", ""] {
        let error = load_image(underivable).unwrap_err().to_string();
        assert!(error.contains("--image"), "{error}");
    }
}

#[test]
fn a_policy_opens_the_stores_for_this_job_only_and_only_if_it_is_needed() {
    let mut job = made(&Tool { command: "verify", ..Tool::default() });
    job.metadata.uid = Some("j1".to_owned());
    let policy = policy::opening(&sale(&json!({})), &job, false).unwrap();
    assert_eq!(policy.metadata.owner_references.as_ref().unwrap()[0].uid, "j1");
    let spec = json!(policy.spec.unwrap());
    let from = &spec["ingress"][0]["from"][0]["podSelector"]["matchLabels"];
    assert_eq!(from["batch.kubernetes.io/job-name"], json!(job.name_any()));
    let ports = |spec: &Value| {
        let ports = spec["ingress"][0]["ports"].as_array().unwrap();
        ports.iter().map(|port| port["port"].as_i64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(ports(&spec), [6379, 5432]);
    let buying = policy::opening(&sale(&json!({})), &job, true).unwrap();
    assert_eq!(ports(&json!(buying.spec.unwrap())), [6379, 5432, 8080, 9090]);

    let load =
        json!([{ "podSelector": { "matchLabels": { "app.kubernetes.io/component": "load" } } }]);
    let open = |policies: Value, buys| {
        policy::opening(&sale(&json!({ "networkPolicy": policies })), &job, buys)
    };
    assert!(open(json!({ "enabled": false }), true).is_none());
    assert!(open(json!({ "storesFrom": load }), false).is_none());
    assert!(open(json!({ "storesFrom": load }), true).is_some());
    assert!(open(json!({ "storesFrom": load, "metricsFrom": load }), true).is_none());
    let other = json!([{ "podSelector": { "matchLabels": { "app": "backup" } } }]);
    assert!(open(json!({ "storesFrom": other }), false).is_some());
    let elsewhere = json!([{ "namespaceSelector": { "matchLabels": { "a": "b" } } }]);
    assert!(open(json!({ "storesFrom": elsewhere }), false).is_some());
}

fn pod(status: &Value) -> Pod {
    serde_json::from_value(json!({ "metadata": { "name": "p" }, "status": status })).unwrap()
}

#[test]
fn a_pod_that_does_not_start_says_why() {
    let waiting = |status| failure::waiting(&pod(&status));
    let image = waiting(json!({ "phase": "Pending", "containerStatuses": [{
        "name": "load", "image": "", "imageID": "", "ready": false, "restartCount": 0,
        "state": { "waiting": { "reason": "ImagePullBackOff", "message": "no such image" } },
    }] }));
    let image = image.unwrap();
    assert!(image.is_final && image.message.contains("--image"), "{image:?}");
    let unscheduled = waiting(json!({ "phase": "Pending", "conditions": [
        { "type": "PodScheduled", "status": "False", "message": "0/1 nodes are available" },
    ] }));
    assert_eq!(unscheduled.unwrap(), failure::Waiting::new("0/1 nodes are available".to_owned()));
    assert!(waiting(json!({ "phase": "Running" })).is_none());
}

#[test]
fn the_end_of_a_pod_is_its_tools_exit_status_or_a_reason() {
    let ended = |terminated: Value| {
        failure::ended(&pod(&json!({ "phase": "Failed", "containerStatuses": [{
            "name": "load", "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": { "terminated": terminated },
        }] })))
    };
    assert_eq!(
        ended(json!({ "exitCode": 1, "reason": "Error" })),
        Some((Some(1), "Error".to_owned()))
    );
    assert_eq!(
        ended(json!({ "exitCode": 137, "reason": "OOMKilled" })),
        Some((None, "OOMKilled".to_owned()))
    );
    let evicted = failure::ended(&pod(&json!({ "phase": "Failed", "reason": "Evicted" })));
    assert_eq!(evicted, Some((None, "Evicted".to_owned())));
    assert_eq!(failure::ended(&pod(&json!({ "phase": "Running" }))), None);
}

#[test]
fn the_report_is_the_line_with_a_verdict() {
    assert!(verdict(r#"{"verdict":"PASS","sold":1}"#).is_some());
    for other in ["PASS", r#"{"sold":1}"#, "{", r#"{"verdict":1}"#] {
        assert!(verdict(other).is_none(), "{other}");
    }
}
