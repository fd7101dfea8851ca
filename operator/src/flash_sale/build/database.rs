//! The sale's own `PostgreSQL`, if no external one is declared: one server, one volume.

use k8s_openapi::api::apps::v1::{
    StatefulSet, StatefulSetPersistentVolumeClaimRetentionPolicy, StatefulSetSpec,
    StatefulSetUpdateStrategy,
};
use k8s_openapi::api::core::v1::{
    Container, ContainerPort, ExecAction, Lifecycle, LifecycleHandler, PodSpec, PodTemplateSpec,
};

use super::metadata::metadata;
use super::pods::{self, when_deleted};
use super::{pod_template, probes, requests, stores_tls};
use crate::crd::DeletionPolicy;
use crate::crd::probes::{STORE_LIVENESS, STORE_READINESS, STORE_STARTUP};
use crate::flash_sale::names::{self, Component, DATABASE_CONTAINER, DATABASE_PORT};
use crate::flash_sale::validate::ValidatedSale;

/// The user of the usual `PostgreSQL` images.
pub(super) const USER: i64 = 999;

/// Asks the server over TCP, because during initialization the image runs a server that listens on the Unix socket only.
/// Succeeds when it accepts connections; 1: it refuses them, such as during a recovery; 2: it does not reply in this many
/// seconds.
fn responds(within: i32) -> String {
    format!("exec {}", asks(within))
}

/// Succeeds with any reply.
fn lives(within: i32) -> String {
    format!("{}; [ $? -le 1 ]", asks(within))
}

fn asks(within: i32) -> String {
    format!(r#"pg_isready -q -t {within} -h 127.0.0.1 -U "$POSTGRES_USER" -d "$POSTGRES_DB""#)
}

/// Seconds for which the startup probe waits for a reply. A server that starts refuses connections at once.
const STARTS_WITHIN: i32 = 4;
/// Seconds for which the liveness probe waits for a reply at most.
const LIVES_WITHIN: i32 = 5;

/// Starts the image's own entrypoint with rules that refuse connections without TLS. Inside of the container the Unix
/// socket needs no password, as in the image's own rules.
const SERVE_TLS: &str = concat!(
    r"printf '%s\n' 'local all all trust' 'hostssl all all all scram-sha-256' >/tmp/pg_hba.conf; ",
    r#"exec docker-entrypoint.sh "$@""#,
);
/// Lets the server read a renewed certificate. Connections stay open. The kubelet gives each version of the files a folder
/// of its own. The first signal after a start changes nothing.
const RELOAD: &str = concat!(
    r"t=$(readlink -f /etc/flashsale-stores/tls.crt); ",
    r#"[ "$t" = "$(cat /tmp/tls-version 2>/dev/null)" ] || { kill -HUP 1 && printf %s "$t" >/tmp/tls-version; }; "#,
);

/// Enough for 40 replicas, the maximum of a sale, with 8 connections each, and for users.
const MAX_CONNECTIONS: &str = "max_connections=400";

pub(super) fn stateful_set(sale: &ValidatedSale, image: &str, checksum: &str) -> StatefulSet {
    let name = sale.own_database.clone();
    let retained = sale.spec.database.deletion_policy == DeletionPolicy::Retain;
    let storage = sale.spec.database.storage.clone().unwrap_or_default();
    StatefulSet {
        metadata: metadata(sale, name.clone(), Component::Database),
        spec: Some(StatefulSetSpec {
            replicas: Some(i32::from(!sale.hibernates)),
            selector: names::label_selector(&sale.name, Component::Database),
            service_name: Some(name),
            pod_management_policy: Some("Parallel".to_owned()),
            update_strategy: Some(StatefulSetUpdateStrategy {
                type_: Some("RollingUpdate".to_owned()),
                rolling_update: None,
            }),
            persistent_volume_claim_retention_policy: Some(
                StatefulSetPersistentVolumeClaimRetentionPolicy {
                    when_deleted: Some(when_deleted(retained).to_owned()),
                    when_scaled: Some("Retain".to_owned()),
                },
            ),
            template: pod_template::customized(
                sale,
                Component::Database,
                PodTemplateSpec {
                    metadata: Some(pods::template_metadata(
                        &sale.name,
                        Component::Database,
                        &[("credentials", checksum)],
                    )),
                    spec: Some(PodSpec {
                        containers: vec![container(sale, image)],
                        automount_service_account_token: Some(false),
                        enable_service_links: Some(false),
                        security_context: Some(pods::pod_security(USER)),
                        termination_grace_period_seconds: Some(60),
                        volumes: Some(
                            [pods::scratch("run"), pods::scratch("tmp")]
                                .into_iter()
                                .chain(stores_tls::server_volume(sale))
                                .collect(),
                        ),
                        ..PodSpec::default()
                    }),
                },
            ),
            volume_claim_templates: Some(vec![pods::volume_claim(
                names::labels(&sale.name, Component::Database),
                &storage,
            )]),
            ..StatefulSetSpec::default()
        }),
        status: None,
    }
}

fn arguments(tls: bool) -> Vec<String> {
    let mut settings = vec![MAX_CONNECTIONS.to_owned()];
    if tls {
        settings.extend([
            "ssl=on".to_owned(),
            format!("ssl_cert_file={}", stores_tls::CERTIFICATE_FILE),
            format!("ssl_key_file={}", stores_tls::KEY_FILE),
            "hba_file=/tmp/pg_hba.conf".to_owned(),
        ]);
    }
    let settings = settings.into_iter().flat_map(|setting| ["-c".to_owned(), setting]);
    ["postgres".to_owned()].into_iter().chain(settings).collect()
}

fn container(sale: &ValidatedSale, image: &str) -> Container {
    let secret = &sale.database.secret;
    let declared = sale.spec.database.resources.as_ref();
    let resources = requests::with_defaults(Component::Database, declared);
    let tls = sale.stores_tls.is_some();
    let times = sale.spec.database.probes.as_deref().cloned().unwrap_or_default();
    let ready = responds(probes::reply_within(&STORE_READINESS, times.readiness.as_ref()));
    let ready = if tls { format!("{RELOAD}{ready}") } else { ready };
    let lives_within = probes::reply_within(&STORE_LIVENESS, times.liveness.as_ref());
    let mounts = [
        pods::mount("data", "/var/lib/postgresql/data"),
        pods::mount("run", "/var/run/postgresql"),
        pods::mount("tmp", "/tmp"),
    ];
    Container {
        command: tls.then(|| ["sh", "-c", SERVE_TLS, "sh"].map(str::to_owned).into()),
        args: Some(arguments(tls)),
        env: Some(vec![
            pods::secret_env("POSTGRES_USER", secret, "username", false),
            pods::secret_env("POSTGRES_PASSWORD", secret, "password", false),
            pods::secret_env("POSTGRES_DB", secret, "database", false),
            pods::env("PGDATA", "/var/lib/postgresql/data/pgdata"),
        ]),
        ports: Some(vec![ContainerPort {
            name: Some("postgres".to_owned()),
            container_port: DATABASE_PORT,
            ..ContainerPort::default()
        }]),
        startup_probe: Some(probes::command(
            &responds(STARTS_WITHIN),
            &STORE_STARTUP,
            times.startup.as_ref(),
        )),
        readiness_probe: Some(probes::command(&ready, &STORE_READINESS, times.readiness.as_ref())),
        liveness_probe: Some(probes::command(
            &lives(lives_within.min(LIVES_WITHIN)),
            &STORE_LIVENESS,
            times.liveness.as_ref(),
        )),
        // SIGINT is the fast shutdown; on SIGTERM the server would wait for all clients to disconnect.
        lifecycle: Some(Lifecycle {
            pre_stop: Some(LifecycleHandler {
                exec: Some(ExecAction {
                    command: Some(["sh", "-c", "kill -INT 1"].map(str::to_owned).into()),
                }),
                ..LifecycleHandler::default()
            }),
            ..Lifecycle::default()
        }),
        volume_mounts: Some(mounts.into_iter().chain(stores_tls::mount(sale)).collect()),
        termination_message_policy: pods::end_of_log(sale.images.postgres_reports_its_end),
        ..pods::container(DATABASE_CONTAINER, image, &resources)
    }
}
