//! The Redis nodes: independent servers without replication, one volume each.

use std::time::Duration;

use k8s_openapi::api::apps::v1::{
    StatefulSet, StatefulSetPersistentVolumeClaimRetentionPolicy, StatefulSetSpec,
    StatefulSetUpdateStrategy,
};
use k8s_openapi::api::core::v1::{Container, ContainerPort, PodSpec, PodTemplateSpec};

use super::catalog::whole_millis;
use super::credentials::{REDIS_ACCEPTED, REDIS_PASSWORD};
use super::metadata::metadata;
use super::pods::{self, when_deleted};
use super::{pod_template, probes, requests, spread, stores_tls};
use crate::crd::Strategy;
use crate::crd::probes::{STORE_LIVENESS, STORE_READINESS, STORE_STARTUP};
use crate::flash_sale::names::{self, Component, REDIS_CONTAINER, REDIS_PORT};
use crate::flash_sale::retained::retains_redis;
use crate::flash_sale::validate::ValidatedSale;

/// The user of the usual Redis images.
const USER: i64 = 999;

fn arguments(sale: &ValidatedSale) -> Vec<String> {
    let fsync = match sale.spec.strategy {
        // A node that lost its last second does not vote until it has caught up, so no write has to
        // wait for the disk.
        Strategy::Locked => "everysec",
        // A response is a sold unit, so it must be on the disk first.
        Strategy::Atomic => "always",
    };
    let port: &[[&str; 2]] = match sale.stores_tls {
        None => &[["--port", "6379"]],
        Some(_) => &[["--port", "0"], ["--tls-port", "6379"], ["--tls-auth-clients", "no"]],
    };
    let arguments =
        [["--dir", "/data"], ["--appendonly", "yes"], ["--appendfsync", fsync], ["--save", ""]];
    [port, &arguments].concat().concat().into_iter().map(str::to_owned).collect()
}

/// Starts the server with the password, and with the second one while it is set. Redis gets their hashes, so they are
/// not in the list of processes.
const SERVE: &str = concat!(
    r##"hash() { printf %s "$1" | sha256sum | cut -d' ' -f1; }; "##,
    r##"set -- "$@" --user default on "#$(hash "$p")"; "##,
    r##"q=$(printf %s "$REDIS_PASSWORD_ACCEPTED"); q=${q%"$(printf '\r')"}; "##,
    r##"if [ -n "$q" ]; then set -- "$@" "#$(hash "$q")"; fi; "##,
    r##"exec redis-server "$@" '~*' '&*' +@all"##,
);

/// Starts the server with the present certificate, by the path of its version: the kubelet gives each version a folder of
/// its own, so `CONFIG GET tls-cert-file` returns the version that the server has read.
fn serve(tls: bool) -> String {
    let certificate = if tls {
        format!(r#"{VERSION} set -- "$@" --tls-cert-file "$t" --tls-key-file "${{t%crt}}key"; "#)
    } else {
        String::new()
    };
    with_password(&format!("{certificate}{SERVE}"), false)
}

/// The certificate's version in `$t`.
const VERSION: &str = "t=$(readlink -f /etc/flashsale-stores/tls.crt);";

/// Lets the server read a renewed certificate, then probes it. Connections stay open. A server that does not reply ends the
/// command after a second, and then fails the probe.
fn reload_and(probe: &str) -> String {
    format!(
        r#"{VERSION} export REDISCLI_AUTH="$p"; g=$(timeout 1 redis-cli CONFIG GET tls-cert-file | tail -n 1); \
         [ -z "$g" ] || [ "$g" = "$t" ] || timeout 1 redis-cli CONFIG SET tls-cert-file "$t" tls-key-file "${{t%crt}}key" >/dev/null; {probe}"#
    )
}

/// A shell command with the password in `$p`, without trailing line ends, as in the app. With TLS, `redis-cli` does not
/// verify the certificate: it connects to its own container.
fn with_password(command: &str, tls: bool) -> String {
    let command = if tls {
        command.replace("redis-cli", "redis-cli --tls --insecure")
    } else {
        command.to_owned()
    };
    format!(r#"p=$(printf %s "$REDIS_PASSWORD"); p=${{p%"$(printf '\r')"}}; {command}"#)
}

/// Succeeds when this process is admitted to vote, which the clients record in the node
/// (`docs/REDLOCK.md`): rollouts and evictions wait for readiness, and so for the vote. After 90 s it
/// succeeds without an admission: clients admit a node within one longest lease (at most a minute), so
/// no client is running, and the sale's condition should name the cause of that instead of the nodes. A
/// node that is still loading its file returns an error.
const STARTED: &str = concat!(
    r#"REDISCLI_AUTH="$p" redis-cli EVAL "local info = redis.call('INFO', 'server') "#,
    r"local admitted = redis.pcall('GET', 'redlock:admitted') == info:match('run_id:(%x+)') ",
    r"local alone = tonumber(info:match('uptime_in_seconds:(%d+)')) >= 90 ",
    r#"return admitted or alone" 0 | grep -qx 1"#,
);
/// Succeeds with a reply that is no error. `-e` turns an error into a failure.
const RESPONDS: &str = r#"REDISCLI_AUTH="$p"; exec redis-cli -e PING"#;
/// Succeeds with any reply, such as an error while the node loads its file.
const LIVES: &str = r#"REDISCLI_AUTH="$p"; exec redis-cli PING"#;
/// Seconds between the vote of one node and the restart of the next, until all replicas know of the vote. They
/// check it every 25 ms.
const REST_BETWEEN_RESTARTS: i32 = 5;

/// All nodes start at once (`Parallel`). A change restarts them one at a time, each after the previous one
/// votes, so the quorum holds.
pub(super) fn stateful_set(sale: &ValidatedSale, checksum: &str) -> StatefulSet {
    let name = names::redis(&sale.name);
    let spread = sale.spec.redis.spread.clone().unwrap_or_default();
    StatefulSet {
        metadata: metadata(sale, name.clone(), Component::Redis),
        spec: Some(StatefulSetSpec {
            replicas: Some(if sale.hibernates { 0 } else { sale.nodes.pods }),
            selector: names::label_selector(&sale.name, Component::Redis),
            service_name: Some(name),
            pod_management_policy: Some("Parallel".to_owned()),
            min_ready_seconds: Some(REST_BETWEEN_RESTARTS),
            update_strategy: Some(StatefulSetUpdateStrategy {
                type_: Some("RollingUpdate".to_owned()),
                // Without it, Kubernetes takes one ready node at a time, and a node that is lost during a rollout comes
                // back with the old template.
                rolling_update: None,
            }),
            persistent_volume_claim_retention_policy: Some(
                StatefulSetPersistentVolumeClaimRetentionPolicy {
                    when_deleted: Some(when_deleted(retains_redis(&sale.spec)).to_owned()),
                    when_scaled: Some(when_scaled(sale).to_owned()),
                },
            ),
            template: pod_template::customized(
                sale,
                Component::Redis,
                PodTemplateSpec {
                    metadata: Some(pods::template_metadata(
                        &sale.name,
                        Component::Redis,
                        &[("password", checksum)],
                    )),
                    spec: Some(PodSpec {
                        containers: vec![container(sale)],
                        affinity: spread::over_hosts(&sale.name, &spread),
                        topology_spread_constraints: spread::over_zones(&sale.name, &spread),
                        automount_service_account_token: Some(false),
                        enable_service_links: Some(false),
                        security_context: Some(pods::pod_security(USER)),
                        termination_grace_period_seconds: Some(15),
                        volumes: stores_tls::server_volume(sale).map(|volume| vec![volume]),
                        ..PodSpec::default()
                    }),
                },
            ),
            volume_claim_templates: Some(vec![pods::volume_claim(
                names::labels(&sale.name, Component::Redis),
                &sale.spec.redis.storage,
            )]),
            ..StatefulSetSpec::default()
        }),
        status: None,
    }
}

/// A hibernating sale keeps its volumes. A node that leaves the lock needs none: if it joins again, it is quicker
/// without former data, because it need not wait for the end of leases that it may have forgotten.
fn when_scaled(sale: &ValidatedSale) -> &'static str {
    if sale.nodes.removes && !sale.hibernates { "Delete" } else { "Retain" }
}

/// The longest lease of any product, rounded as in the catalog. A restarted node does not vote for this time.
pub(super) fn longest_lease(sale: &ValidatedSale) -> Duration {
    let products = sale.spec.products.iter().filter_map(|product| product.lock.as_ref());
    let leases = products.filter_map(|lock| lock.lease_time).chain([sale.spec.lock.lease_time]);
    leases.map(|lease| whole_millis(lease.into())).max().unwrap_or_default()
}

fn container(sale: &ValidatedSale) -> Container {
    let secret = &sale.redis_auth.secret;
    let declared = sale.spec.redis.resources.as_ref();
    let resources = requests::with_defaults(Component::Redis, declared);
    let declared_probes = sale.spec.redis.probes.as_deref().cloned().unwrap_or_default();
    let tls = sale.stores_tls.is_some();
    let ready = if tls { reload_and(RESPONDS) } else { RESPONDS.to_owned() };
    let mounts = [pods::mount("data", "/data")].into_iter().chain(stores_tls::mount(sale));
    Container {
        command: Some(vec![
            "sh".to_owned(),
            "-c".to_owned(),
            serve(tls),
            "redis-server".to_owned(),
        ]),
        args: Some(arguments(sale)),
        env: Some(vec![
            pods::secret_env("REDIS_PASSWORD", secret, REDIS_PASSWORD, false),
            pods::secret_env("REDIS_PASSWORD_ACCEPTED", secret, REDIS_ACCEPTED, true),
            // For `kubectl exec POD -- redis-cli GET stock:1`.
            pods::secret_env("REDISCLI_AUTH", secret, REDIS_PASSWORD, false),
        ]),
        ports: Some(vec![ContainerPort {
            name: Some("redis".to_owned()),
            container_port: REDIS_PORT,
            ..ContainerPort::default()
        }]),
        startup_probe: Some(probes::command(
            &with_password(STARTED, tls),
            &STORE_STARTUP,
            declared_probes.startup.as_ref(),
        )),
        readiness_probe: Some(probes::command(
            &with_password(&ready, tls),
            &STORE_READINESS,
            declared_probes.readiness.as_ref(),
        )),
        liveness_probe: Some(probes::command(
            &with_password(LIVES, tls),
            &STORE_LIVENESS,
            declared_probes.liveness.as_ref(),
        )),
        volume_mounts: Some(mounts.collect()),
        termination_message_policy: pods::end_of_log(sale.images.redis_reports_its_end),
        ..pods::container(REDIS_CONTAINER, &sale.images.redis, &resources)
    }
}
