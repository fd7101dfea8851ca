//! The pods of a sale: what users declare about them, where they run, what they request, and their probes.

use std::collections::BTreeSet;

use flashsale_operator::crd::custom_resource_definition;
use flashsale_operator::crd::reserved;
use flashsale_operator::flash_sale::build::{KubernetesResources, Prepared};
use flashsale_operator::flash_sale::dereference::EventSecrets;
use flashsale_operator::flash_sale::names::{DATABASE_ID, MANAGED_BY};
use flashsale_operator::flash_sale::retained::RetainedData;
use k8s_openapi::api::core::v1::{PodSpec, PodTemplateSpec};
use serde_json::{Value, json};

use crate::build::built;
use crate::{data, references};

/// The pod templates of redis, database, app and seed.
fn templates(resources: KubernetesResources<Prepared>) -> [PodTemplateSpec; 4] {
    [
        resources.redis.spec.unwrap().template,
        resources.database.unwrap().spec.unwrap().template,
        resources.app.spec.unwrap().template,
        resources.seed.spec.unwrap().template,
    ]
}

fn pods(changes: &str) -> [PodSpec; 4] {
    templates(built(changes, references())).map(|template| template.spec.unwrap())
}

fn redis(changes: &str) -> Value {
    let [redis, ..] = pods(changes);
    serde_json::to_value(redis).unwrap()
}

#[test]
fn declared_fields_reach_the_pods_of_each_part() {
    const DECLARED: &str = "
labels: {team: shop}
annotations: {sidecar.istio.io/inject: 'false'}
nodeSelector: {pool: sales}
affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [
  {matchExpressions: [{key: pool, operator: In, values: [sales]}]}]}}}
tolerations: [{key: pool, operator: Equal, value: sales, effect: NoSchedule}]
topologySpreadConstraints: [{maxSkew: 2, topologyKey: rack, whenUnsatisfiable: DoNotSchedule}]
priorityClassName: high
serviceAccountName: sale
imagePullSecrets: [{name: of-sale}, {name: of-part}]
podSecurityContext: {runAsUser: 1000, supplementalGroups: [5]}
containerSecurityContext: {capabilities: {add: [NET_BIND_SERVICE]}}
env: [{name: SSL_CERT_DIR, value: /etc/ca}]
volumes: [{name: ca, secret: {secretName: ca}}]
volumeMounts: [{name: ca, mountPath: /etc/ca, readOnly: true}]
terminationGracePeriodSeconds: 90
";
    let template: Value = serde_norway::from_str(DECLARED).unwrap();
    let part = json!({ "podTemplate": template });
    let changes = json!({
        "redis": part, "database": part, "app": part, "seed": part,
        "imagePullSecrets": [{ "name": "of-sale" }],
    });
    let before = templates(built("", references()));
    let after = templates(built(&changes.to_string(), references()));
    for (before, after) in before.into_iter().zip(after) {
        let labels = |template: &PodTemplateSpec| {
            let metadata = template.metadata.clone().unwrap();
            (metadata.labels.unwrap(), metadata.annotations.unwrap())
        };
        let (mut labels_before, mut annotations_before) = labels(&before);
        labels_before.insert("team".to_owned(), "shop".to_owned());
        annotations_before.insert("sidecar.istio.io/inject".to_owned(), "false".to_owned());
        assert_eq!(labels(&after), (labels_before, annotations_before));

        let pod = serde_json::to_value(after.spec.unwrap()).unwrap();
        let part = pod["containers"][0]["name"].clone();
        for (field, value) in [
            ("nodeSelector", &template["nodeSelector"]),
            ("tolerations", &template["tolerations"]),
            ("priorityClassName", &json!("high")),
            ("serviceAccountName", &json!("sale")),
            ("imagePullSecrets", &json!([{ "name": "of-sale" }, { "name": "of-part" }])),
            ("terminationGracePeriodSeconds", &json!(90)),
            ("automountServiceAccountToken", &json!(false)),
        ] {
            assert_eq!(pod[field], *value, "{part} {field}");
        }
        let affinity = &template["affinity"]["nodeAffinity"];
        assert_eq!(pod["affinity"]["nodeAffinity"], *affinity, "{part}");
        let racks = &pod["topologySpreadConstraints"][0];
        assert_eq!(racks["topologyKey"], "rack");
        let component = &racks["labelSelector"]["matchLabels"]["app.kubernetes.io/component"];
        assert_eq!(
            before.metadata.unwrap().labels.unwrap()["app.kubernetes.io/component"],
            *component
        );
        let security = &pod["securityContext"];
        assert_eq!(
            [&security["runAsUser"], &security["runAsNonRoot"]],
            [&json!(1000), &json!(true)]
        );
        assert_eq!(security["supplementalGroups"], json!([5]));
        let container = &pod["containers"][0];
        let capabilities = json!({ "add": ["NET_BIND_SERVICE"], "drop": ["ALL"] });
        assert_eq!(container["securityContext"]["capabilities"], capabilities, "{part}");
        assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
        let last = |list: &Value| list.as_array().unwrap().last().unwrap().clone();
        assert_eq!(last(&container["env"]), template["env"][0]);
        assert_eq!(last(&container["volumeMounts"]), template["volumeMounts"][0]);
        assert_eq!(last(&pod["volumes"]), template["volumes"][0]);
    }
}

#[test]
fn the_operator_s_own_terms_stay_beside_declared_ones() {
    let declared = "redis: {podTemplate: {affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [
        {topologyKey: rack, labelSelector: {matchLabels: {app: other}}}]}}}}";
    let apart = &redis(declared)["affinity"]["podAntiAffinity"];
    let list = |name: &str| apart[name].as_array().unwrap().clone();
    assert_eq!(list("requiredDuringSchedulingIgnoredDuringExecution")[0]["topologyKey"], "rack");
    let own = &list("preferredDuringSchedulingIgnoredDuringExecution")[0]["podAffinityTerm"];
    assert_eq!(own["topologyKey"], "kubernetes.io/hostname");

    let keys = |changes: &str| {
        let [_, _, app, _] = pods(changes);
        let constraints = app.topology_spread_constraints.unwrap();
        constraints
            .into_iter()
            .map(|it| (it.topology_key, it.when_unsatisfiable))
            .collect::<Vec<_>>()
    };
    let constraint = |key: &str| {
        keys(&format!(
            "app: {{podTemplate: {{topologySpreadConstraints: [{{maxSkew: 1, topologyKey: {key}, whenUnsatisfiable: DoNotSchedule}}]}}}}"
        ))
    };
    let (host, soft) = ("kubernetes.io/hostname".to_owned(), "ScheduleAnyway".to_owned());
    let hard = "DoNotSchedule".to_owned();
    assert_eq!(constraint("rack"), [("rack".to_owned(), hard.clone()), (host.clone(), soft)]);
    assert_eq!(
        constraint("kubernetes.io/hostname"),
        [(host, hard)],
        "the declared one replaces it"
    );
}

#[test]
fn the_platform_may_choose_the_users() {
    for pod in pods("podUser: Platform") {
        let security = pod.security_context.unwrap();
        assert_eq!(
            (security.run_as_user, security.run_as_group, security.fs_group),
            (None, None, None)
        );
        assert_eq!(security.run_as_non_root, Some(true));
    }
    let declared = "{podUser: Platform, redis: {podTemplate: {podSecurityContext: {fsGroup: 7}}}}";
    assert_eq!(redis(declared)["securityContext"]["fsGroup"], 7);
}

#[test]
fn redis_nodes_are_spread_as_declared() {
    let spread = |value: &str| {
        let pod = redis(&format!("redis: {{spread: {value}}}"));
        let apart = &pod["affinity"]["podAntiAffinity"];
        let hosts = ["preferred", "required"]
            .into_iter()
            .find(|it| !apart[format!("{it}DuringSchedulingIgnoredDuringExecution")].is_null());
        let zones = &pod["topologySpreadConstraints"][0];
        let key = zones["topologyKey"].as_str().map(str::to_owned);
        assert!(key.is_none() || zones["maxSkew"] == 1);
        assert!(key.is_none() || key.as_deref() == Some("topology.kubernetes.io/zone"));
        (hosts, zones["whenUnsatisfiable"].as_str().map(str::to_owned))
    };
    assert_eq!(redis("redis: {spread: {hosts: Preferred, zones: Disabled}}"), redis(""));
    assert_eq!(redis("redis: {spread: {}}"), redis(""));
    assert_eq!(spread("{hosts: Disabled}"), (None, None));
    assert_eq!(
        spread("{hosts: Required, zones: Preferred}"),
        (Some("required"), Some("ScheduleAnyway".to_owned()))
    );
    assert_eq!(spread("{zones: Required}"), (Some("preferred"), Some("DoNotSchedule".to_owned())));
}

#[test]
fn every_pod_requests_cpu_and_memory() {
    let requests = |changes: &str| {
        pods(changes).map(|pod| {
            let resources = pod.containers[0].resources.clone().unwrap_or_default();
            let of = |name: &str| resources.requests.as_ref()?.get(name).map(|it| it.0.clone());
            [of("cpu"), of("memory")].map(Option::unwrap_or_default)
        })
    };
    let [redis, database, app, seed] = requests("");
    assert_eq!(redis, ["20m", "16Mi"], "the fixture declares them");
    assert_eq!(database, ["100m", "128Mi"]);
    assert_eq!(app, ["100m", "64Mi"]);
    assert_eq!(seed, ["50m", "64Mi"]);

    // What is declared counts, and a limit is also the request.
    let [_, database, app, seed] = requests(
        "{database: {resources: {limits: {memory: 1Gi}}}, app: {resources: {requests: {cpu: 1}}}}",
    );
    assert_eq!(database, ["100m", ""]);
    assert_eq!(app, ["1", "64Mi"]);
    assert_eq!(seed, ["1", "64Mi"], "as the app");
    let [_, _, app, seed] = requests(
        "{app: {resources: {requests: {cpu: 1}}}, seed: {resources: {requests: {cpu: 10m, memory: 1Gi}}}}",
    );
    assert_eq!((app, seed), (["1", "64Mi"].map(str::to_owned), ["10m", "1Gi"].map(str::to_owned)));
}

/// A name that the operator sets and the definition does not reserve could be declared twice.
#[test]
fn what_the_operator_sets_is_reserved() {
    // Everything that can be set is set.
    let mut references = references();
    let auth = [
        ("jwt-secret-accepted", "another key of the tests, long enough"),
        ("jwks-issuer", "x"),
        ("jwks-audience", "x"),
        ("invite-codes", "a-code-of-the-tests"),
        ("jwks.json", r#"{"keys": []}"#),
    ];
    references.auth.as_mut().unwrap().extend(data(&auth));
    let key = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let authorities = Some(data(&[("ca.crt", "-----BEGIN CERTIFICATE-----")]));
    references.events = EventSecrets {
        webhook_key: Some(data(&[("webhook-key", key)])),
        webhook_ca: authorities.clone(),
        nats: Some(data(&[("token", "t")])),
        nats_ca: authorities,
    };
    // The Secret of an adopted database says which one has the orders.
    let secret = json!({
        "labels": { "app.kubernetes.io/managed-by": MANAGED_BY },
        "annotations": { DATABASE_ID: "2026-11-01T00:00:00Z" },
    });
    references.retained = RetainedData {
        secret: Some(serde_json::from_value(secret).unwrap()),
        database_exists: true,
        ..RetainedData::default()
    };
    let changes = "
strategy: Atomic
holdFor: 5s
database: {adopt: autumn}
app: {trustedProxies: 1, signUp: Invited, maxConnections: 1, maxEventListeners: 1, maxEventListenersPerAddress: 1,
      cors: {allowedOrigins: ['*']}, eventKeepAlive: 5s, idleTimeout: 60s, drainTime: 9s,
      tls: {secretRef: {name: certificate}},
      tracing: {endpoint: 'http://a', headersSecretRef: {name: key}}}
endsAt: '2026-11-28T00:00:00Z'
retentionDays: 30
payments: {stripe: {secretRef: {name: stripe}}}
events:
  webhook: {url: 'http://a', secretRef: {name: events}, states: [paid], authoritiesRef: {name: ca}}
  nats: {servers: ['nats://a'], subject: a, stream: a, secretRef: {name: nats}, states: [paid], authoritiesRef: {name: ca}}
stores: {compareEvery: 1s, loadEvery: 1s, tls: {mode: Managed}}
";
    let built = built(changes, references);
    let parts = [&reserved::REDIS, &reserved::DATABASE, &reserved::APP, &reserved::SEED];
    for (template, reserved) in templates(built).into_iter().zip(parts) {
        let pod = template.spec.unwrap();
        let container = &pod.containers[0];
        assert_eq!(container.name, reserved.container);
        let set: BTreeSet<&str> =
            container.env.iter().flatten().map(|it| it.name.as_str()).collect();
        let known: BTreeSet<&str> = reserved.env().into_iter().collect();
        assert_eq!(set, known, "{}", container.name);
        let mounts = container.volume_mounts.clone().unwrap();
        assert!(mounts.iter().all(|it| reserved.volumes.contains(&it.name.as_str())), "{mounts:?}");
        let within = |path: &str| reserved.paths.iter().any(|it| path.starts_with(it));
        assert!(mounts.iter().all(|it| within(&it.mount_path)), "{mounts:?}");
        for label in template.metadata.unwrap().labels.unwrap().keys() {
            assert!(reserved::LABELS.contains(&label.as_str()), "{label}");
        }
    }
}

/// `kubectl apply` keeps a copy of the definition, which has two versions, in an annotation, and annotations are limited.
#[test]
fn the_definition_fits_into_an_annotation() {
    let json = serde_json::to_string(&custom_resource_definition().unwrap()).unwrap();
    assert!(json.len() < 262_144 * 7 / 8, "{} bytes", json.len());
}
