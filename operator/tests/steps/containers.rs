//! Further containers in the pods of a sale, and the time that a replica has to end.

use flashsale_operator::flash_sale::configuration::warnings;
use flashsale_operator::flash_sale::validate::validate;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use serde_json::json;

use crate::build::{built, container, value};
use crate::{images, references, sale};

const SIDECAR: &str = "
podTemplate:
  env: [{name: SSL_CERT_DIR, value: /etc/ca}]
  volumes: [{name: logs, emptyDir: {}}]
  volumeMounts: [{name: logs, mountPath: /logs}]
  initContainers:
    - {name: forwarder, image: 'forwarder:1', restartPolicy: Always, volumeMounts: [{name: logs, mountPath: /in}]}
";

#[test]
fn declared_containers_follow_the_operator_s_own_and_get_nothing_of_it() {
    let part: serde_json::Value = serde_norway::from_str(SIDECAR).unwrap();
    let mut beside = part.clone();
    beside["podTemplate"]["containers"] = json!([{ "name": "proxy", "image": "proxy:1" }]);
    let changes = json!({ "redis": beside, "database": beside, "app": beside, "seed": part });
    let built = built(&changes.to_string(), references());
    let others = [&["proxy"][..], &["proxy"], &["proxy"], &[]];
    let templates: [PodTemplateSpec; 4] = [
        built.redis.spec.unwrap().template,
        built.database.unwrap().spec.unwrap().template,
        built.app.spec.unwrap().template,
        built.seed.spec.unwrap().template,
    ];
    for (template, others) in templates.into_iter().zip(others) {
        let pod = template.spec.unwrap();
        let names: Vec<&str> = pod.containers.iter().map(|it| it.name.as_str()).collect();
        assert_eq!(names[1..], *others);
        let sidecar = &pod.init_containers.as_ref().unwrap()[0];
        assert_eq!(sidecar.restart_policy.as_deref(), Some("Always"));
        let further = pod.containers[1..].iter().chain([sidecar]);
        assert!(further.clone().all(|it| it.env.is_none() && it.security_context.is_none()));
        let mounts = sidecar.volume_mounts.as_ref().unwrap();
        assert_eq!((mounts.len(), mounts[0].mount_path.as_str()), (1, "/in"));
        let annotations = template.metadata.unwrap().annotations.unwrap();
        assert_eq!(annotations["kubectl.kubernetes.io/default-container"], names[0]);
    }
}

#[test]
fn an_autoscaler_needs_the_cpu_request_of_each_container() {
    let of = |containers: &str| {
        let changes = format!(
            "{{app: {{autoscaling: {{maxReplicas: 9}}, resources: {{requests: {{cpu: '1'}}}}, podTemplate: {containers}}}}}"
        );
        warnings(&validate(&sale(&changes), references(), &images()).unwrap())
    };
    let said = of("{containers: [{name: proxy, image: 'proxy:1'}]}");
    assert!(said.len() == 1 && said[0].contains("container proxy has no CPU request"), "{said:?}");
    let said = of("{initContainers: [{name: proxy, image: 'proxy:1', restartPolicy: Always}]}");
    assert_eq!(said.len(), 1, "{said:?}");
    for known in [
        "{containers: [{name: proxy, image: 'proxy:1', resources: {requests: {cpu: 10m}}}]}",
        "{containers: [{name: proxy, image: 'proxy:1', resources: {limits: {cpu: 10m}}}]}",
        // It ends before the replica starts.
        "{initContainers: [{name: proxy, image: 'proxy:1'}]}",
    ] {
        assert_eq!(of(known), Vec::<String>::new(), "{known}");
    }
}

#[test]
fn a_short_grace_period_shortens_the_drain_time() {
    let drain = |app: &str| {
        let env = container(&built(&format!("app: {app}"), references())).env.unwrap();
        value(&env, "HTTP_DRAIN_SECONDS")
    };
    assert_eq!(drain("{}"), "", "the app's own default");
    assert_eq!(drain("{podTemplate: {terminationGracePeriodSeconds: 18}}"), "");
    assert_eq!(drain("{podTemplate: {terminationGracePeriodSeconds: 17}}"), "4");
    assert_eq!(drain("{podTemplate: {terminationGracePeriodSeconds: 5}}"), "0");
    assert_eq!(drain("{drainTime: 60s, podTemplate: {terminationGracePeriodSeconds: 73}}"), "60");
}
