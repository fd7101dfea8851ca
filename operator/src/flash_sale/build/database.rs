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
use super::{pod_template, probes, requests};
use crate::crd::DeletionPolicy;
use crate::flash_sale::names::{self, Component, DATABASE_CONTAINER, DATABASE_PORT};
use crate::flash_sale::validate::ValidatedSale;

/// The user of the usual `PostgreSQL` images.
const USER: i64 = 999;

/// Asks the server over TCP, because during initialization the image runs a server that listens on the Unix socket only.
/// Succeeds when it accepts connections; 1: it refuses them, such as during a recovery; 2: it does not reply.
const RESPONDS: &str =
    r#"exec pg_isready -q -t 4 -h 127.0.0.1 -U "$POSTGRES_USER" -d "$POSTGRES_DB""#;
/// Succeeds with any reply.
const LIVES: &str =
    r#"pg_isready -q -t 5 -h 127.0.0.1 -U "$POSTGRES_USER" -d "$POSTGRES_DB"; [ $? -le 1 ]"#;

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
                        volumes: Some(vec![pods::scratch("run"), pods::scratch("tmp")]),
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

fn container(sale: &ValidatedSale, image: &str) -> Container {
    let secret = &sale.database.secret;
    let declared = sale.spec.database.resources.as_ref();
    let resources = requests::with_defaults(Component::Database, declared);
    Container {
        args: Some(["postgres", "-c", MAX_CONNECTIONS].map(str::to_owned).into()),
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
        startup_probe: Some(probes::startup(RESPONDS)),
        readiness_probe: Some(probes::readiness(RESPONDS)),
        liveness_probe: Some(probes::liveness(LIVES)),
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
        volume_mounts: Some(vec![
            pods::mount("data", "/var/lib/postgresql/data"),
            pods::mount("run", "/var/run/postgresql"),
            pods::mount("tmp", "/tmp"),
        ]),
        termination_message_policy: pods::end_of_log(sale.images.postgres_reports_its_end),
        ..pods::container(DATABASE_CONTAINER, image, &resources)
    }
}
