//! What a sale consists of.

use std::collections::BTreeMap;

use flashsale_operator::flash_sale::build::credentials::Passwords;
use flashsale_operator::flash_sale::build::{KubernetesResources, Prepared, build};
use flashsale_operator::flash_sale::dereference::References;
use flashsale_operator::flash_sale::validate::validate;
use k8s_openapi::api::core::v1::{Container, EnvVar, PodTemplateSpec};
use kube::ResourceExt;
use serde_json::{Value, json};

use crate::{data, images, references, sale};

pub(super) fn built(changes: &str, references: References) -> KubernetesResources<Prepared> {
    let valid = validate(&sale(changes), references, &images()).unwrap();
    build(&valid, &Passwords::fixed()).unwrap()
}

pub(super) fn container(resources: &KubernetesResources<Prepared>) -> Container {
    let template = resources.app.spec.as_ref().unwrap().template.spec.as_ref().unwrap();
    template.containers[0].clone()
}

pub(super) fn value(env: &[EnvVar], name: &str) -> String {
    let found = env.iter().find(|variable| variable.name == name);
    found.and_then(|variable| variable.value.clone()).unwrap_or_default()
}

/// Everything that restarts pods when it changes, and everything a `StatefulSet` can't change. If
/// this test fails, an upgrade of the operator would restart or break sales that run. If that is
/// meant: `UPDATE_GOLDEN=1 cargo test -p flashsale-operator --test steps`
#[test]
fn an_upgrade_of_the_operator_restarts_nothing() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/golden.yaml");
    let expected: Value =
        serde_norway::from_str(&std::fs::read_to_string(path).unwrap_or_default()).unwrap();
    // Some changes wait until the pods restart anyway, so what exists counts.
    let existing = |part: &str| serde_json::from_value(json!({ "spec": expected[part] })).ok();
    let stateful_sets = ["redis", "database"].into_iter().filter_map(existing).collect();
    let resources = built("", References { stateful_sets, ..references() });
    let mut redis = serde_json::to_value(resources.redis.spec.unwrap()).unwrap();
    redis.as_object_mut().unwrap().remove("replicas");
    let golden = json!({
        "redis": redis,
        "database": resources.database.unwrap().spec.unwrap(),
        "app": resources.app.spec.unwrap().template,
        "seed": { "name": resources.seed.name_any(), "spec": resources.seed.spec.unwrap() },
    });
    let yaml = format!(
        "# Written by UPDATE_GOLDEN=1 cargo test -p flashsale-operator --test steps\n{}",
        serde_norway::to_string(&golden).unwrap()
    );
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(path, &yaml).unwrap();
        return;
    }
    assert_eq!(golden, expected, "sales that run would restart");
}

#[test]
fn all_parts_belong_to_the_sale_and_fit_the_restricted_standard() {
    let resources = built("", References::default());
    let owned = |owners: &[k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference]| {
        owners.len() == 1 && owners[0].name == "black-friday" && owners[0].controller == Some(true)
    };
    // The database's Secret outlives the sale, as its volume does.
    let (database, secrets): (Vec<_>, Vec<_>) =
        resources.missing_secrets.iter().partition(|it| it.name_any() == "black-friday-db");
    assert!(secrets.iter().all(|it| owned(it.owner_references())));
    assert!(database[0].owner_references().is_empty());
    let deleted = built("database: {deletionPolicy: Delete}", References::default());
    assert!(deleted.missing_secrets.iter().all(|it| owned(it.owner_references())));
    assert!(resources.services.iter().all(|it| owned(it.owner_references())));
    assert!(resources.disruption_budgets.iter().all(|it| owned(it.owner_references())));
    assert!(owned(resources.catalog.owner_references()));
    assert!(resources.network.policies.iter().all(|it| owned(it.owner_references())));
    assert!(owned(resources.seed.owner_references()));

    let templates = [
        resources.redis.spec.unwrap().template,
        resources.database.unwrap().spec.unwrap().template,
        resources.app.spec.unwrap().template,
        resources.seed.spec.unwrap().template,
    ];
    for template in templates {
        let pod = template.spec.unwrap();
        let security = pod.security_context.unwrap();
        assert_eq!(security.run_as_non_root, Some(true));
        assert_eq!(security.seccomp_profile.unwrap().type_, "RuntimeDefault");
        assert_eq!(pod.automount_service_account_token, Some(false));
        for container in pod.containers {
            let security = container.security_context.unwrap();
            assert_eq!(security.allow_privilege_escalation, Some(false));
            assert_eq!(security.read_only_root_filesystem, Some(true));
            assert_eq!(security.capabilities.unwrap().drop.unwrap(), ["ALL"]);
        }
    }
}

/// A lease that is edited must not restart the nodes: nothing of the pods depends on it.
#[test]
fn nodes_do_not_restart_for_another_lease() {
    let set = |changes: &str| built(changes, references()).redis.spec.unwrap();
    assert_eq!(set(""), set("lock: {leaseTime: 60s}"));
}

/// The server takes its password from the Secret only when it creates its data.
#[test]
fn a_database_does_not_restart_for_another_password() {
    let first = built("", references());
    let rotated = References {
        database: Some(data(&[
            ("uri", "postgres://u:another@h/d"),
            ("username", "u"),
            ("password", "another"),
            ("database", "d"),
        ])),
        stateful_sets: first.database.iter().cloned().collect(),
        ..references()
    };
    let second = built("", rotated);
    assert_eq!(first.database, second.database);
    assert_ne!(first.app.spec.unwrap().template, second.app.spec.unwrap().template);
}

#[test]
fn the_app_is_told_everything_by_environment() {
    let env = container(&built("", references())).env.unwrap();
    let nodes: Vec<String> = (0..5)
        .map(|i| format!("black-friday-redis-{i}.black-friday-redis.shop.svc:6379"))
        .collect();
    assert_eq!(value(&env, "REDIS_NODES"), nodes.join(","));
    assert_eq!(value(&env, "SALE_NAME"), "shop/black-friday");
    assert_eq!(value(&env, "USE_REDLOCK"), "true");
    assert_eq!(value(&env, "LOCK_TIMEOUT_SECONDS"), "5");
    assert_eq!(value(&env, "LOCK_WAIT_SECONDS"), "2");
    assert_eq!(value(&env, "LOCK_NODE_TIMEOUT_SECONDS"), "0.05");
    assert_eq!(value(&env, "LOCK_ORDER"), "Fair");
    assert_eq!(value(&env, "STRATEGY"), "", "Locked is the app's default");
    assert_eq!(value(&env, "SALE_STARTS_AT"), "2026-11-27T00:00:00Z");
    assert_eq!(value(&env, "SALE_ENDS_AT"), "2026-11-28T00:00:00Z");
    assert!(env.iter().any(|variable| variable.name == "DATABASE_URL"));

    let env = container(&built("redis: {nodes: 1}", references())).env.unwrap();
    assert_eq!(value(&env, "USE_REDLOCK"), "false");
}

#[test]
fn bounds_reach_the_app_where_they_are_declared() {
    let names = [
        "TRUSTED_PROXIES",
        "HTTP_MAX_CONNECTIONS",
        "EVENT_LISTENERS",
        "EVENT_LISTENERS_PER_ADDRESS",
        "EVENT_KEEP_ALIVE_SECONDS",
        "HTTP_IDLE_TIMEOUT_SECONDS",
        "CORS_ALLOWED_ORIGINS",
        "HOLD_SECONDS",
        "COMPARE_SECONDS",
        "LOAD_SECONDS",
    ];
    let values = |changes: &str| {
        let env = container(&built(changes, references())).env.unwrap();
        names.map(|name| value(&env, name))
    };
    assert_eq!(values(""), [""; 10], "the app has defaults of its own");
    let declared = "app: {trustedProxies: 1, maxConnections: 20000, maxEventListeners: 0, \
                    maxEventListenersPerAddress: 7, eventKeepAlive: 20s, idleTimeout: 2m, \
                    cors: {allowedOrigins: [\"https://shop.example\", \"http://localhost:3000\"]}}\n\
                    holdFor: 90s\n\
                    stores: {compareEvery: 500ms, loadEvery: 2m}";
    let origins = "https://shop.example,http://localhost:3000";
    assert_eq!(
        values(declared),
        ["1", "20000", "0", "7", "20", "120", origins, "90", "0.5", "120"]
    );
}

#[test]
fn the_catalog_is_what_the_seed_reads() {
    let catalog = built("", references()).catalog.data.unwrap();
    let catalog: Value = serde_json::from_str(&catalog["catalog.json"]).unwrap();
    let expected = json!({ "products": [
        {
            "id": "1", "name": "Console", "stock": 100, "max_per_buyer": 1,
            "wait_timeout_ms": 1500, "lease_time_ms": 3000
        },
        { "id": "B", "name": "B", "stock": 90 },
    ] });
    assert_eq!(catalog, expected);
}

#[test]
fn the_seed_job_is_named_after_what_it_does() {
    let name = |changes: &str| built(changes, references()).seed.name_any();
    let products = |stock| format!("products: [{{id: '1', stock: {stock}}}]");
    assert_eq!(name(&products(100)), name(&products(100)));
    assert_ne!(name(&products(100)), name(&products(101)));
    // Nothing to seed again, so no other Job.
    assert_eq!(name(""), name("app: {image: another, replicas: 9}"));
    assert_eq!(name(""), name("endsAt: '2026-11-29T00:00:00Z'"));
}

#[test]
fn secrets_are_made_only_where_there_is_none() {
    let names = |resources: KubernetesResources<Prepared>| -> Vec<String> {
        resources.missing_secrets.iter().map(ResourceExt::name_any).collect()
    };
    assert_eq!(
        names(built("", References::default())),
        ["black-friday-auth", "black-friday-redis", "black-friday-db", "black-friday-operator"]
    );
    assert!(names(built("", references())).is_empty());
    let password = built("", References { redis: None, ..references() }).missing_secrets;
    assert_eq!(
        names(built("", References { redis: None, ..references() })),
        ["black-friday-redis"]
    );
    assert!(password[0].data.as_ref().unwrap()["password"].0.len() >= 32);
    assert_ne!(format!("{:?}", Passwords::generate()), format!("{:?}", Passwords::generate()));
}

#[test]
fn a_second_key_and_an_identity_provider_reach_the_app() {
    let with = |entries: &[(&str, &str)]| {
        let mut auth = references().auth.unwrap();
        auth.extend(data(entries));
        built("", References { auth: Some(auth), ..references() })
    };
    let checksum = |resources: &KubernetesResources<Prepared>| {
        let template = resources.app.spec.clone().unwrap().template.metadata.unwrap();
        template.annotations.unwrap()["flashsale.dev/auth-checksum"].clone()
    };
    let key_of = |resources: &KubernetesResources<Prepared>, name: &str| {
        let env = container(resources).env.unwrap();
        let variable = env.into_iter().find(|variable| variable.name == name)?;
        Some(variable.value_from?.secret_key_ref?.key)
    };
    let plain = with(&[]);
    let changing = with(&[("jwt-secret-accepted", "the last one, as long as a key has to be")]);
    assert_eq!(key_of(&plain, "JWT_ACCEPTED_SECRET"), None);
    assert_eq!(key_of(&changing, "JWT_ACCEPTED_SECRET").unwrap(), "jwt-secret-accepted");
    assert_ne!(checksum(&plain), checksum(&changing), "the app restarts with it");
    let other = with(&[("jwt-secret-accepted", "another one, as long as a key has to be")]);
    assert_ne!(checksum(&changing), checksum(&other));

    let trusting = |keys| with(&[("jwks.json", keys), ("jwks-issuer", "https://id.example")]);
    let provider = trusting(r#"{"keys": []}"#);
    assert_eq!(key_of(&provider, "JWKS_ISSUER").unwrap(), "jwks-issuer");
    let app = container(&provider);
    assert_eq!(value(&app.env.unwrap(), "JWKS_FILE"), "/etc/flashsale/auth/jwks.json");
    assert_eq!(app.volume_mounts.unwrap()[0].mount_path, "/etc/flashsale/auth");
    let pod = provider.app.spec.clone().unwrap().template.spec.unwrap();
    let volume = pod.volumes.unwrap()[0].secret.clone().unwrap();
    let keys: Vec<String> = volume.items.unwrap().into_iter().map(|item| item.key).collect();
    assert_eq!(keys, ["jwks.json"], "no secret is in a file");
    assert_eq!(
        checksum(&provider),
        checksum(&trusting(r#"{ "keys": [] }"#)),
        "new keys need no restart"
    );
}

/// More users can read pod templates than Secrets.
#[test]
fn checksums_say_nothing_about_a_weak_password() {
    let annotations = |key: &str| {
        let operator = Some(data(&[
            ("token", "the operator's token, thirty-two bytes or more"),
            ("checksum-key", key),
        ]));
        let resources = built("", References { operator, ..references() });
        let template = |template: PodTemplateSpec| template.metadata.unwrap().annotations.unwrap();
        [
            template(resources.app.spec.unwrap().template),
            template(resources.redis.spec.unwrap().template),
            template(resources.database.unwrap().spec.unwrap().template),
        ]
        .into_iter()
        .flatten()
        .collect::<BTreeMap<_, _>>()
    };
    let (one, another) = (annotations("one key"), annotations("another key"));
    assert_eq!(one.len(), 6);
    for (name, checksum) in &one {
        assert_ne!(checksum, &another[name], "{name} can be computed from the value alone");
    }
}

#[test]
fn an_external_database_brings_no_parts() {
    let resources = built("database: {secretRef: {name: shop-db, key: uri}}", references());
    assert!(resources.database.is_none());
    assert!(!resources.services.iter().any(|service| service.name_any() == "black-friday-db"));
    let env = container(&resources).env.unwrap();
    let url = env.iter().find(|variable| variable.name == "DATABASE_URL").unwrap();
    let source = url.value_from.clone().unwrap().secret_key_ref.unwrap();
    assert_eq!((source.name.as_str(), source.key.as_str()), ("shop-db", "uri"));
}

#[test]
fn an_autoscaler_keeps_its_replicas_within_the_bounds() {
    let changes = "app: {replicas: 3, autoscaling: {maxReplicas: 8, targetCpuPercent: 70}}";
    let replicas = |now| {
        let resources = built(changes, References { app_replicas: now, ..references() });
        assert!(resources.autoscaler.is_some());
        resources.app.spec.unwrap().replicas.unwrap()
    };
    assert_eq!(
        [replicas(None), replicas(Some(1)), replicas(Some(5)), replicas(Some(20))],
        [3, 3, 5, 8]
    );
    let fixed = built("", References { app_replicas: Some(5), ..references() });
    assert_eq!(fixed.app.spec.unwrap().replicas, Some(3), "without one, the declared number");
}

/// Percent are of a request: without one the autoscaler reads `<unknown>` for ever.
#[test]
fn with_an_autoscaler_each_replica_requests_cpu() {
    let request = |changes: &str| {
        let resources = container(&built(changes, references())).resources.unwrap_or_default();
        resources.requests.and_then(|requests| Some(requests.get("cpu")?.0.clone()))
    };
    let autoscaling = "autoscaling: {maxReplicas: 8, targetCpuPercent: 70}";
    let with =
        |resources: &str| request(&format!("app: {{{autoscaling}, resources: {resources}}}"));
    assert_eq!(request(&format!("app: {{{autoscaling}}}")).as_deref(), Some("100m"));
    assert_eq!(with("{requests: {memory: 32Mi}}").as_deref(), Some("100m"));
    assert_eq!(with("{requests: {cpu: 0.5}}").as_deref(), Some("0.5"));
    assert_eq!(with("{limits: {cpu: 2}}"), None, "Kubernetes requests as much as the limit");
}
