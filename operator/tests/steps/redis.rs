//! The Redis nodes.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use flashsale_operator::flash_sale::dereference::References;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use tempfile::TempDir;

use crate::build::{built, container, value};
use crate::{data, references};

#[test]
fn a_node_that_decides_has_its_answers_on_its_disk() {
    let fsync = |changes: &str| {
        let template = built(changes, references()).redis.spec.unwrap().template;
        let arguments = template.spec.unwrap().containers[0].args.clone().unwrap();
        let at = arguments.iter().position(|argument| argument == "--appendfsync").unwrap();
        arguments[at + 1].clone()
    };
    assert_eq!(fsync(""), "everysec");
    let atomic = "{strategy: Atomic, redis: {nodes: 1}}";
    assert_eq!(fsync(atomic), "always");
    let env = container(&built(atomic, references())).env.unwrap();
    assert_eq!(value(&env, "STRATEGY"), "Atomic");
}

/// A node as its pod runs it, admitted to vote; ends with this value.
struct Node {
    server: Child,
    port: String,
    _folder: TempDir,
}

impl Node {
    fn start(environment: &[(&str, &str)], password: &str) -> Self {
        let template = built("", references()).redis.spec.unwrap().template;
        let redis = template.spec.unwrap().containers.remove(0);
        let port = testkit::free_port().unwrap().to_string();
        let folder = tempfile::tempdir().unwrap();
        let command = redis.command.unwrap();
        let arguments = redis.args.unwrap().into_iter().map(|argument| match argument.as_str() {
            "6379" => port.clone(),
            "/data" => folder.path().display().to_string(),
            _ => argument,
        });
        let server = Command::new(&command[0])
            .args(&command[1..])
            .args(arguments)
            .envs(environment.iter().copied())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let probe = redis.startup_probe.unwrap().exec.unwrap().command.unwrap();
        let probe = probe.join(" ").replace("redis-cli", &format!("redis-cli -p {port}"));
        // As the kubelet does.
        let mut probing = Command::new("sh");
        probing.args(["-c", probe.strip_prefix("sh -c ").unwrap()]);
        probing.envs(environment.iter().copied()).stderr(Stdio::null());
        let deadline = Instant::now() + Duration::from_secs(30);
        let node = Self { server, port, _folder: folder };
        // As a client of the lock does.
        let admit = "redis.call('SET', 'redlock:admitted', redis.call('INFO', 'server'):match('run_id:(%x+)'))";
        while !probing.status().unwrap().success() {
            assert!(Instant::now() < deadline, "the probe fails");
            std::thread::sleep(Duration::from_millis(25));
            node.cli(password, &["EVAL", admit, "0"]);
        }
        node
    }

    fn cli(&self, password: &str, command: &[&str]) -> String {
        let mut cli = Command::new("redis-cli");
        cli.args(["-p", &self.port, "-a", password, "--no-auth-warning"]).args(command);
        String::from_utf8(cli.output().unwrap().stdout).unwrap()
    }

    fn accepts(&self, password: &str) -> bool {
        self.cli(password, &["ping"]) == "PONG\n"
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// As the app has it, or the two would no longer agree about the password.
#[test]
fn a_line_end_after_the_password_is_no_part_of_it_for_redis() {
    let password = [("REDIS_PASSWORD", "pass \"word\" $1\r\n"), ("REDISCLI_AUTH", "another")];
    let node = Node::start(&password, "pass \"word\" $1");
    assert!(node.accepts("pass \"word\" $1"));
    assert!(!node.accepts("pass \"word\" $1\r\n"));
}

#[test]
fn a_node_accepts_two_passwords_while_one_is_changed() {
    let passwords = [("REDIS_PASSWORD", "first"), ("REDIS_PASSWORD_ACCEPTED", "second one\n")];
    let node = Node::start(&passwords, "first");
    assert!(node.accepts("first") && node.accepts("second one"));
    assert!(!node.accepts("") && !node.accepts("third"));
    let processes = std::fs::read(format!("/proc/{}/cmdline", node.server.id())).unwrap();
    let processes = String::from_utf8_lossy(&processes).into_owned();
    assert!(processes.contains("redis-server"), "{processes}");
    assert!(!processes.contains("first") && !processes.contains("second"), "{processes}");

    let one = Node::start(&passwords[..1], "first");
    assert!(one.accepts("first") && !one.accepts("second one") && !one.accepts(""));
}

#[test]
fn nodes_restart_when_they_accept_other_passwords_and_the_app_when_it_uses_another() {
    let checksums = |entries: &[(&str, &str)]| {
        let resources = built("", References { redis: Some(data(entries)), ..references() });
        let annotation = |template: PodTemplateSpec, name: &str| {
            template.metadata.unwrap().annotations.unwrap()[name].clone()
        };
        (
            annotation(resources.redis.spec.unwrap().template, "flashsale.dev/password-checksum"),
            annotation(resources.app.spec.unwrap().template, "flashsale.dev/redis-checksum"),
        )
    };
    let before = checksums(&[("password", "old")]);
    let both = checksums(&[("password", "old"), ("password-accepted", "new")]);
    assert!(both.0 != before.0 && both.1 == before.1, "the nodes restart, the app doesn't");
    let exchanged = checksums(&[("password", "new"), ("password-accepted", "old")]);
    assert!(exchanged.0 == both.0 && exchanged.1 != both.1, "the app restarts, the nodes don't");
    let after = checksums(&[("password", "new")]);
    assert!(after.0 != exchanged.0 && after.1 == exchanged.1, "the nodes restart, the app doesn't");
    assert_eq!(after, checksums(&[("password", "new"), ("password-accepted", "")]));
}
