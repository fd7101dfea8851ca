//! The purchase API: a Deployment, and an autoscaler if one is declared.

use std::time::Duration;

use k8s_openapi::api::apps::v1::{
    Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment,
};
use k8s_openapi::api::autoscaling::v2::{
    CrossVersionObjectReference, HorizontalPodAutoscaler, HorizontalPodAutoscalerSpec, MetricSpec,
    MetricTarget, ResourceMetricSource,
};
use k8s_openapi::api::core::v1::{
    Container, ContainerPort, EnvVar, KeyToPath, Lifecycle, LifecycleHandler, PodSpec,
    PodTemplateSpec, SecretVolumeSource, SleepAction, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::credentials::{AUTH_SETTINGS, JWKS, Secrets};
use super::metadata::metadata;
use super::{
    events, payments, pod_template, pods, probes, redis, requests, spread, stores_tls, tls, tracing,
};
use crate::crd::probes::{APP_LIVENESS, APP_READINESS};
use crate::crd::{App, QueueDiscipline, Strategy};
use crate::flash_sale::names::{self, Component, HTTP_PORT, METRICS_PORT};
use crate::flash_sale::secrets::OPERATOR_TOKEN;
use crate::flash_sale::validate::ValidatedSale;

/// The user that the project's own images run as.
pub(super) const USER: i64 = 65532;
const JWKS_FOLDER: &str = "/etc/flashsale/auth";
/// Seconds from the request to stop until the signal.
const PRE_STOP: i64 = 3;
/// Seconds that the app gives requests under way after its drain time.
const FINISH: i64 = 10;
/// The app's default of its drain time, in seconds.
const DEFAULT_DRAIN: i64 = 5;

pub(super) fn deployment(sale: &ValidatedSale, secrets: &Secrets) -> Deployment {
    let app = &sale.spec.app;
    // With an autoscaler, its last decision is kept within the declared bounds.
    let replicas = match (&app.autoscaling, sale.autoscaled_replicas) {
        (Some(autoscaling), Some(now)) => now.clamp(app.replicas, autoscaling.max_replicas),
        _ => app.replicas,
    };
    // An autoscaler leaves a Deployment without replicas alone.
    let replicas = if sale.hibernates { 0 } else { replicas };
    Deployment {
        metadata: metadata(sale, sale.name.clone(), Component::App),
        spec: Some(DeploymentSpec {
            replicas: Some(replicas),
            selector: names::label_selector(&sale.name, Component::App),
            // A rollout never has fewer replicas than declared.
            strategy: Some(DeploymentStrategy {
                type_: Some("RollingUpdate".to_owned()),
                rolling_update: Some(RollingUpdateDeployment {
                    max_surge: Some(IntOrString::Int(1)),
                    max_unavailable: Some(IntOrString::Int(0)),
                }),
            }),
            template: pod_template::customized(
                sale,
                Component::App,
                PodTemplateSpec {
                    metadata: Some(pods::template_metadata(
                        &sale.name,
                        Component::App,
                        &checksums(secrets),
                    )),
                    spec: Some(PodSpec {
                        containers: vec![container(sale)],
                        volumes: volumes(sale),
                        automount_service_account_token: Some(false),
                        enable_service_links: Some(false),
                        security_context: Some(pods::pod_security(USER)),
                        termination_grace_period_seconds: Some(30),
                        topology_spread_constraints: Some(spread::replicas(&sale.name)),
                        ..PodSpec::default()
                    }),
                },
            ),
            ..DeploymentSpec::default()
        }),
        status: None,
    }
}

/// What restarts the replicas when it changes.
fn checksums(secrets: &Secrets) -> Vec<(&'static str, &str)> {
    let mut checksums = vec![
        ("auth", secrets.auth_checksum.as_str()),
        ("database", &secrets.database_checksum),
        ("operator", &secrets.operator_checksum),
        ("redis", &secrets.redis_checksum),
    ];
    checksums.extend(secrets.events_checksum.iter().map(|checksum| ("events", checksum.as_str())));
    checksums
}

fn volumes(sale: &ValidatedSale) -> Option<Vec<Volume>> {
    let jwks = sale.auth.has(JWKS).then(|| jwks_volume(sale));
    let files = tls::volume(&sale.spec.app).into_iter().chain(payments::volume(&sale.spec));
    let files = files.chain(stores_tls::client_volume(sale)).chain(events::volumes(sale));
    let volumes: Vec<_> = jwks.into_iter().chain(files).collect();
    (!volumes.is_empty()).then_some(volumes)
}

/// Mounts the public keys only, not the rest of the Secret.
fn jwks_volume(sale: &ValidatedSale) -> Volume {
    Volume {
        name: "jwks".to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(sale.auth.secret.clone()),
            items: Some(vec![KeyToPath {
                key: JWKS.to_owned(),
                path: JWKS.to_owned(),
                ..KeyToPath::default()
            }]),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    }
}

fn container(sale: &ValidatedSale) -> Container {
    let port = |name: &str, port| ContainerPort {
        name: Some(name.to_owned()),
        container_port: port,
        ..ContainerPort::default()
    };
    let mut env = environment(sale);
    env.push(pods::secret_env("JWT_SECRET", &sale.auth.secret, "jwt-secret", false));
    let token =
        pods::secret_env("OPERATOR_TOKEN", &sale.operator_auth.secret, OPERATOR_TOKEN, false);
    env.push(token);
    env.extend(
        AUTH_SETTINGS
            .into_iter()
            .filter(|(_, key)| sale.auth.has(key))
            .map(|(name, key)| pods::secret_env(name, &sale.auth.secret, key, false)),
    );
    let mut mounts = Vec::new();
    if sale.auth.has(JWKS) {
        mounts.push(VolumeMount {
            name: "jwks".to_owned(),
            mount_path: JWKS_FOLDER.to_owned(),
            read_only: Some(true),
            ..VolumeMount::default()
        });
        env.push(pods::env("JWKS_FILE", format!("{JWKS_FOLDER}/{JWKS}")));
    }
    mounts.extend(tls::mount(&sale.spec.app));
    mounts.extend(payments::mount(&sale.spec));
    mounts.extend(stores_tls::mount(sale));
    mounts.extend(events::mounts(sale));
    env.extend([
        pods::env("LISTEN", format!("[::]:{HTTP_PORT}")),
        pods::env("METRICS_LISTEN", format!("[::]:{METRICS_PORT}")),
    ]);
    env.extend(bounds(sale));
    env.extend(tls::environment(&sale.spec.app));
    env.extend(payments::environment(&sale.spec));
    env.extend(tracing::environment(&sale.spec.app));
    env.extend(events::environment(sale));
    let resources = requests::with_defaults(Component::App, sale.spec.app.resources.as_ref());
    let times = sale.spec.app.probes.as_deref().cloned().unwrap_or_default();
    Container {
        args: Some(vec!["serve".to_owned()]),
        env: Some(env),
        ports: Some(vec![
            port(names::scheme(&sale.spec.app), HTTP_PORT),
            port("metrics", METRICS_PORT),
        ]),
        // A replica that became ready without nodes or database would refuse every purchase.
        readiness_probe: Some(probes::http("/readyz", &APP_READINESS, times.readiness.as_ref())),
        liveness_probe: Some(probes::http("/livez", &APP_LIVENESS, times.liveness.as_ref())),
        // Services stop sending requests before the server stops accepting them.
        lifecycle: Some(Lifecycle {
            pre_stop: Some(LifecycleHandler {
                sleep: Some(SleepAction { seconds: PRE_STOP }),
                ..LifecycleHandler::default()
            }),
            ..Lifecycle::default()
        }),
        termination_message_policy: pods::end_of_log(true),
        volume_mounts: (!mounts.is_empty()).then_some(mounts),
        ..pods::container("app", &sale.images.app, &resources)
    }
}

/// Declared settings that override the app's defaults.
fn bounds(sale: &ValidatedSale) -> impl Iterator<Item = EnvVar> {
    let (app, stores) = (&sale.spec.app, &sale.spec.stores);
    let number = |number: Option<i32>| number.map(|number| number.to_string());
    let settings = [
        ("TRUSTED_PROXIES", number(app.trusted_proxies)),
        ("SIGN_UP", app.sign_up.map(|mode| mode.as_str().to_owned())),
        ("RETENTION_DAYS", number(sale.spec.retention_days)),
        ("HTTP_MAX_CONNECTIONS", number(app.max_connections)),
        ("EVENT_LISTENERS", number(app.max_event_listeners)),
        ("EVENT_LISTENERS_PER_ADDRESS", number(app.max_event_listeners_per_address)),
        ("EVENT_KEEP_ALIVE_SECONDS", app.event_keep_alive.map(seconds)),
        ("HTTP_IDLE_TIMEOUT_SECONDS", app.idle_timeout.map(seconds)),
        ("HTTP_DRAIN_SECONDS", drain_time(app)),
        ("CORS_ALLOWED_ORIGINS", app.cors.as_ref().map(|cors| cors.allowed_origins.join(","))),
        ("HOLD_SECONDS", sale.spec.hold_for.map(seconds)),
        ("COMPARE_SECONDS", stores.compare_every.map(seconds)),
        ("LOAD_SECONDS", stores.load_every.map(seconds)),
    ];
    settings.into_iter().filter_map(|(name, value)| Some(pods::env(name, value?)))
}

/// The declared time, or what a short grace period leaves of the app's default.
fn drain_time(app: &App) -> Option<String> {
    let template = app.pod_template.as_ref();
    let grace = template.and_then(|template| template.termination_grace_period_seconds);
    let left = grace.map(|grace| (grace - PRE_STOP - FINISH).max(0));
    let short = left.filter(|left| *left < DEFAULT_DRAIN).map(|left| left.to_string());
    app.drain_time.map(seconds).or(short)
}

fn seconds(duration: kube::core::Duration) -> String {
    Duration::from(duration).as_secs_f64().to_string()
}

/// Environment that the app and the seed Job share: the stores and the lock.
pub(super) fn environment(sale: &ValidatedSale) -> Vec<EnvVar> {
    let spec = &sale.spec;
    let uri = spec.database.secret_ref.as_ref().map_or("uri", |secret| &secret.key);
    let order = match spec.lock.order {
        QueueDiscipline::Unordered => "Unordered",
        QueueDiscipline::Fair => "Fair",
    };
    let nodes = sale.nodes.configured;
    let mut env = vec![
        pods::secret_env("DATABASE_URL", &sale.database.secret, uri, false),
        pods::env("SALE_NAME", names::sale_name(&sale.namespace, &sale.name)),
        pods::env("USE_REDLOCK", (nodes > 1).to_string()),
        pods::env("REDIS_NODES", names::redis_nodes(&sale.namespace, &sale.name, nodes)),
        pods::secret_env("REDIS_PASSWORD", &sale.redis_auth.secret, "password", false),
        pods::env("LOCK_TIMEOUT_SECONDS", seconds(spec.lock.lease_time)),
        pods::env(
            "LOCK_LONGEST_LEASE_SECONDS",
            redis::longest_lease(sale).as_secs_f64().to_string(),
        ),
        pods::env("LOCK_WAIT_SECONDS", seconds(spec.lock.wait_timeout)),
        pods::env("LOCK_NODE_TIMEOUT_SECONDS", seconds(spec.lock.node_timeout)),
        pods::env("LOCK_ORDER", order),
        pods::env("LOG_FORMAT", "json"),
    ];
    // Omitted for the default, so that running sales are not restarted.
    if spec.strategy == Strategy::Atomic {
        env.push(pods::env("STRATEGY", "Atomic"));
    }
    env.extend(stores_tls::environment(sale));
    let moments = [("SALE_STARTS_AT", spec.starts_at), ("SALE_ENDS_AT", spec.ends_at)];
    env.extend(
        moments.into_iter().filter_map(|(name, moment)| Some(pods::env(name, moment?.to_string()))),
    );
    env
}

pub(super) fn autoscaler(sale: &ValidatedSale) -> Option<HorizontalPodAutoscaler> {
    let autoscaling = sale.spec.app.autoscaling.as_ref()?;
    Some(HorizontalPodAutoscaler {
        metadata: metadata(sale, sale.name.clone(), Component::App),
        spec: Some(HorizontalPodAutoscalerSpec {
            min_replicas: Some(sale.spec.app.replicas),
            max_replicas: autoscaling.max_replicas,
            scale_target_ref: CrossVersionObjectReference {
                api_version: Some("apps/v1".to_owned()),
                kind: "Deployment".to_owned(),
                name: sale.name.clone(),
            },
            metrics: Some(vec![MetricSpec {
                type_: "Resource".to_owned(),
                resource: Some(ResourceMetricSource {
                    name: "cpu".to_owned(),
                    target: MetricTarget {
                        type_: "Utilization".to_owned(),
                        average_utilization: Some(autoscaling.target_cpu_percent),
                        ..MetricTarget::default()
                    },
                }),
                ..MetricSpec::default()
            }]),
            ..HorizontalPodAutoscalerSpec::default()
        }),
        status: None,
    })
}
