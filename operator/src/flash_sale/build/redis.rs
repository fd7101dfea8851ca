//! The Redis nodes: independent servers, one volume each. They know nothing of one another.

use std::time::Duration;

use k8s_openapi::api::apps::v1::{
    StatefulSet, StatefulSetPersistentVolumeClaimRetentionPolicy, StatefulSetSpec,
    StatefulSetUpdateStrategy,
};
use k8s_openapi::api::core::v1::{Container, ContainerPort, PodSpec, PodTemplateSpec};

use super::catalog::whole_millis;
use super::metadata::metadata;
use super::pods;
use crate::crd::Strategy;
use crate::flash_sale::names::{self, Component, REDIS_PORT};
use crate::flash_sale::validate::ValidatedSale;

/// The user of the usual Redis images.
const USER: i64 = 999;

fn arguments(strategy: Strategy) -> Vec<String> {
    let fsync = match strategy {
        // A node that forgot its last second does not vote until it caught up, so no write has to
        // wait for the disk.
        Strategy::Locked => "everysec",
        // What it answered is sold.
        Strategy::Atomic => "always",
    };
    let arguments = [
        ["--port", "6379"],
        ["--dir", "/data"],
        ["--appendonly", "yes"],
        ["--appendfsync", fsync],
        ["--save", ""],
    ];
    arguments.concat().into_iter().map(str::to_owned).collect()
}

/// A shell command with the password in `$p`, without the line ends after it, which the app does
/// not take for a part of it either.
fn with_password(command: &str) -> String {
    format!(r#"p=$(printf %s "$REDIS_PASSWORD"); p=${{p%"$(printf '\r')"}}; {command}"#)
}

/// Succeeds when this process was admitted to vote, as the clients write it down in the node
/// (`docs/REDLOCK.md`): roll-outs and evictions wait for readiness, and so for the vote. After 90 s
/// it succeeds without: a client needs one longest lease (at most a minute), so there is none, and
/// the sale's condition shall name what keeps the clients away, not the nodes. A node that still
/// loads its file answers with an error.
const STARTED: &str = concat!(
    r#"REDISCLI_AUTH="$p" redis-cli EVAL "local info = redis.call('INFO', 'server') "#,
    r"local admitted = redis.pcall('GET', 'redlock:admitted') == info:match('run_id:(%x+)') ",
    r"local alone = tonumber(info:match('uptime_in_seconds:(%d+)')) >= 90 ",
    r#"return admitted or alone" 0 | grep -qx 1"#,
);
/// Between the vote of one node and the restart of the next: until all replicas know of the vote,
/// which they look for twice a second.
const REST_BETWEEN_RESTARTS: i32 = 5;

/// All nodes start at once (`Parallel`); a change restarts them one at a time, the next when the last
/// one votes, so the quorum holds.
pub(super) fn stateful_set(sale: &ValidatedSale, checksum: &str) -> StatefulSet {
    let name = names::redis(&sale.name);
    StatefulSet {
        metadata: metadata(sale, name.clone(), Component::Redis),
        spec: Some(StatefulSetSpec {
            replicas: Some(sale.spec.redis.nodes),
            selector: names::label_selector(&sale.name, Component::Redis),
            service_name: Some(name),
            pod_management_policy: Some("Parallel".to_owned()),
            min_ready_seconds: Some(REST_BETWEEN_RESTARTS),
            update_strategy: Some(StatefulSetUpdateStrategy {
                type_: Some("RollingUpdate".to_owned()),
                rolling_update: None,
            }),
            persistent_volume_claim_retention_policy: Some(
                StatefulSetPersistentVolumeClaimRetentionPolicy {
                    when_deleted: Some("Delete".to_owned()),
                    when_scaled: Some("Retain".to_owned()),
                },
            ),
            template: PodTemplateSpec {
                metadata: Some(pods::template_metadata(
                    &sale.name,
                    Component::Redis,
                    &[("password", checksum)],
                )),
                spec: Some(PodSpec {
                    containers: vec![container(sale)],
                    affinity: Some(pods::prefer_apart(&sale.name, Component::Redis)),
                    automount_service_account_token: Some(false),
                    enable_service_links: Some(false),
                    security_context: Some(pods::pod_security(USER)),
                    termination_grace_period_seconds: Some(15),
                    ..PodSpec::default()
                }),
            },
            volume_claim_templates: Some(vec![pods::volume_claim(
                names::labels(&sale.name, Component::Redis),
                &sale.spec.redis.storage,
            )]),
            ..StatefulSetSpec::default()
        }),
        status: None,
    }
}

/// The longest lease of any product, as the catalog has it. A node that restarted does not vote for so long.
pub(super) fn longest_lease(sale: &ValidatedSale) -> Duration {
    let products = sale.spec.products.iter().filter_map(|product| product.lock.as_ref());
    let leases = products.filter_map(|lock| lock.lease_time).chain([sale.spec.lock.lease_time]);
    leases.map(|lease| whole_millis(lease.into())).max().unwrap_or_default()
}

fn container(sale: &ValidatedSale) -> Container {
    let secret = &sale.redis_auth.secret;
    Container {
        command: Some(vec![
            "sh".to_owned(),
            "-c".to_owned(),
            with_password(r#"exec redis-server "$@" --requirepass "$p""#),
            "redis-server".to_owned(),
        ]),
        args: Some(arguments(sale.spec.strategy)),
        env: Some(vec![
            pods::secret_env("REDIS_PASSWORD", secret, "password", false),
            // So that `kubectl exec POD -- redis-cli GET stock:1` just works.
            pods::secret_env("REDISCLI_AUTH", secret, "password", false),
        ]),
        ports: Some(vec![ContainerPort {
            name: Some("redis".to_owned()),
            container_port: REDIS_PORT,
            ..ContainerPort::default()
        }]),
        startup_probe: Some(pods::startup_probe(&with_password(STARTED))),
        readiness_probe: Some(pods::tcp_probe(REDIS_PORT, 5, 2)),
        liveness_probe: Some(pods::tcp_probe(REDIS_PORT, 10, 6)),
        volume_mounts: Some(vec![pods::mount("data", "/data")]),
        ..pods::container("redis", &sale.images.redis, sale.spec.redis.resources.as_ref())
    }
}
