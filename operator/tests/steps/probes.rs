//! The probes of the servers, run against real ones as the kubelet runs them.

use std::net::TcpStream;
use std::process::{Command, Output};

use flashsale_operator::flash_sale::cause;
use flashsale_operator::flash_sale::names::Component;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, PodTemplateSpec, Probe};
use serde_json::json;
use testkit::{Postgres, RedisServer};

use crate::build::built;
use crate::references;

fn redis() -> Container {
    let template = built("", references()).redis.spec.unwrap().template;
    template.spec.unwrap().containers.remove(0)
}

fn database() -> Container {
    let template = built("", references()).database.unwrap().spec.unwrap().template;
    template.spec.unwrap().containers.remove(0)
}

/// Runs a probe for a server on this port. `timeout` stops it sooner than the kubelet would.
fn run(probe: Option<&Probe>, port: &str) -> Output {
    let exec = probe.unwrap().exec.clone().unwrap();
    let command = exec.command.unwrap().join(" ");
    let command = command.strip_prefix("sh -c ").unwrap();
    let command = command
        .replace("redis-cli", &format!("redis-cli -p {port}"))
        .replace("pg_isready", &format!("pg_isready -p {port}"))
        .replace("-t 5", "-t 1")
        .replace("-t 4", "-t 1");
    Command::new("timeout")
        .args(["--signal=KILL", "2", "sh", "-c", &command])
        .envs([("REDIS_PASSWORD", "open \"sesame\"\r\n"), ("REDISCLI_AUTH", "another")])
        .envs([("POSTGRES_USER", "postgres"), ("POSTGRES_DB", "postgres")])
        .output()
        .unwrap()
}

#[test]
fn a_frozen_node_is_not_ready() {
    let server = RedisServer::start().unwrap();
    let address = server.address();
    let (_, port) = address.split_once(':').unwrap();
    server.command(r#"CONFIG SET requirepass "open \"sesame\"""#).unwrap();
    let container = redis();
    let ready = || run(container.readiness_probe.as_ref(), port).status.success();
    let lives = || run(container.liveness_probe.as_ref(), port).status.success();
    assert!(ready() && lives(), "{:?}", run(container.readiness_probe.as_ref(), port));
    server.pause().unwrap();
    assert!(TcpStream::connect(&address).is_ok(), "a connection is no reply");
    assert!(!ready() && !lives());
    server.resume().unwrap();
    assert!(ready() && lives());
}

#[test]
fn a_node_that_replies_with_an_error_lives_and_is_not_ready() {
    let server = RedisServer::start().unwrap();
    let address = server.address();
    let (_, port) = address.split_once(':').unwrap();
    // Another password than that of the pod.
    server.command("ACL SETUSER default resetpass >changed").unwrap();
    let container = redis();
    assert!(!run(container.readiness_probe.as_ref(), port).status.success());
    assert!(run(container.liveness_probe.as_ref(), port).status.success());
}

#[test]
fn a_frozen_database_is_not_ready() {
    let server = Postgres::start().unwrap();
    let url = server.create_database("probes").unwrap();
    let address = url.split(['@', '/']).find(|part| part.starts_with("127.0.0.1:")).unwrap();
    let (_, port) = address.split_once(':').unwrap();
    let container = database();
    let ready = || run(container.readiness_probe.as_ref(), port).status.success();
    let lives = || run(container.liveness_probe.as_ref(), port).status.success();
    assert!(ready() && lives());
    server.pause().unwrap();
    assert!(TcpStream::connect(address).is_ok(), "a connection is no reply");
    assert!(!ready() && !lives());
    server.resume().unwrap();
    assert!(ready() && lives());
}

/// The kubelet kills the probe's process alone: after `exec` it is the client itself, and nothing stays behind.
#[test]
fn a_probe_that_is_killed_leaves_no_process_behind() {
    let server = RedisServer::start().unwrap();
    let address = server.address();
    let (_, port) = address.split_once(':').unwrap();
    server.pause().unwrap();
    for probe in [redis().readiness_probe, redis().liveness_probe] {
        let command = probe.unwrap().exec.unwrap().command.unwrap()[2]
            .replace("redis-cli", &format!("redis-cli -p {port}"));
        let mut process = Command::new("sh").args(["-c", &command]).spawn().unwrap();
        let clients = || {
            // Programs of another Debian suite run by its loader (`cargo xtask test --matrix`).
            let client = format!("^(redis-cli|[^ ]*ld-linux.*(redis|valkey)-cli\\.real) -p {port}");
            let listed = Command::new("pgrep").args(["-f", &client]).output();
            String::from_utf8(listed.unwrap().stdout).unwrap()
        };
        while clients().is_empty() {
            assert!(process.try_wait().unwrap().is_none(), "it ended by itself");
        }
        assert_eq!(clients().trim(), process.id().to_string());
        process.kill().unwrap();
        process.wait().unwrap();
        assert_eq!(clients(), "");
    }
    server.resume().unwrap();
}

#[test]
fn declared_times_reach_the_probes_and_their_commands() {
    let changes = "
redis: {probes: {startup: {failureThreshold: 600}, readiness: {periodSeconds: 5}}}
database: {probes: {readiness: {timeoutSeconds: 3}, liveness: {timeoutSeconds: 4, periodSeconds: 60}}}
app: {probes: {readiness: {failureThreshold: 5}, liveness: {timeoutSeconds: 10}}}
";
    let times = |probe: Option<&Probe>| {
        let probe = probe.unwrap();
        [probe.period_seconds, probe.timeout_seconds, probe.failure_threshold].map(Option::unwrap)
    };
    let first = |template: PodTemplateSpec| template.spec.unwrap().containers.remove(0);
    let built = built(changes, references());
    let redis = first(built.redis.spec.unwrap().template);
    assert_eq!(times(redis.startup_probe.as_ref()), [1, 2, 600]);
    assert_eq!(times(redis.readiness_probe.as_ref()), [5, 5, 3]);
    assert_eq!(times(redis.liveness_probe.as_ref()), [30, 10, 6]);
    let database = first(built.database.unwrap().spec.unwrap().template);
    assert_eq!(times(database.readiness_probe.as_ref()), [10, 3, 3]);
    assert_eq!(times(database.liveness_probe.as_ref()), [60, 4, 6]);
    // A command that outlived its probe would stay in the container.
    let command = |probe: Option<Probe>| probe.unwrap().exec.unwrap().command.unwrap().remove(2);
    assert!(command(database.readiness_probe).contains(" -t 2 "));
    assert!(command(database.liveness_probe).contains(" -t 3 "));
    let app = first(built.app.spec.unwrap().template);
    assert_eq!(times(app.readiness_probe.as_ref()), [2, 2, 5]);
    assert_eq!(times(app.liveness_probe.as_ref()), [10, 10, 6]);
}

#[test]
fn a_server_that_runs_and_does_not_reply_is_named() {
    let pod = |component: &str, started: bool, ready: bool| -> Pod {
        serde_json::from_value(json!({
            "metadata": {
                "name": format!("black-friday-{component}-0"),
                "labels": { "app.kubernetes.io/component": component },
            },
            "status": {
                "conditions": [{ "type": "Ready", "status": if ready { "True" } else { "False" } }],
                "containerStatuses": [{
                    "name": component, "image": "i", "imageID": "", "restartCount": 0,
                    "ready": ready, "started": started,
                    "state": { "running": { "startedAt": "2026-11-27T00:00:00Z" } },
                }],
            },
        }))
        .unwrap()
    };
    let found = |component, pod| cause::find(component, &[pod], &[], Timestamp::now());
    let frozen = found(Component::Redis, pod("redis", true, false)).unwrap();
    assert_eq!(frozen.reason, "Unresponsive");
    let message =
        "pod black-friday-redis-0: container redis runs, but does not answer its readiness probe";
    assert_eq!(frozen.message, message);
    assert!(found(Component::Redis, pod("redis", false, false)).is_none(), "it is starting");
    assert!(found(Component::Redis, pod("redis", true, true)).is_none());
    assert!(found(Component::Database, pod("database", true, false)).is_some());
    assert!(
        found(Component::App, pod("app", true, false)).is_none(),
        "replicas say why themselves"
    );
}
