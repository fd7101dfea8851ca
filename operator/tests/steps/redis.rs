//! The Redis nodes.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::build::{built, container, value};
use crate::references;

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

/// As the app has it, or the two would no longer agree about the password.
#[test]
fn a_line_end_after_the_password_is_no_part_of_it_for_redis() {
    let template = built("", references()).redis.spec.unwrap().template;
    let redis = template.spec.unwrap().containers.remove(0);
    let (port, folder) = (testkit::free_port().unwrap().to_string(), tempfile::tempdir().unwrap());
    let command = redis.command.unwrap();
    let arguments = redis.args.unwrap().into_iter().map(|argument| match argument.as_str() {
        "6379" => port.clone(),
        "/data" => folder.path().display().to_string(),
        _ => argument,
    });
    let password = [("REDIS_PASSWORD", "pass \"word\" $1\r\n"), ("REDISCLI_AUTH", "another")];
    let mut server = Command::new(&command[0])
        .args(&command[1..])
        .args(arguments)
        .envs(password)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let probe = redis.startup_probe.unwrap().exec.unwrap().command.unwrap();
    let probe = probe.join(" ").replace("redis-cli", &format!("redis-cli -p {port}"));
    let probe = probe.strip_prefix("sh -c ").unwrap();
    // As the kubelet does.
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut probing = Command::new("sh");
    probing.args(["-c", probe]).envs(password).stderr(Stdio::null());
    let cli = |password: &str, command: &[&str]| {
        let mut cli = Command::new("redis-cli");
        cli.args(["-p", &port, "-a", password, "--no-auth-warning"]).args(command);
        String::from_utf8(cli.output().unwrap().stdout).unwrap()
    };
    // As a client of the lock does.
    let admit =
        "redis.call('SET', 'redlock:admitted', redis.call('INFO', 'server'):match('run_id:(%x+)'))";
    while !probing.status().unwrap().success() {
        assert!(Instant::now() < deadline, "the probe fails");
        std::thread::sleep(Duration::from_millis(25));
        cli("pass \"word\" $1", &["EVAL", admit, "0"]);
    }
    let ping = |password: &str| cli(password, &["ping"]);
    assert_eq!(ping("pass \"word\" $1"), "PONG\n");
    assert_ne!(ping("pass \"word\" $1\r\n"), "PONG\n");
    server.kill().unwrap();
    server.wait().unwrap();
}
