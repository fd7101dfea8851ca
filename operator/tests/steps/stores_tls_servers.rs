//! Redis and PostgreSQL with TLS as their pods run them: the built commands with real servers.

use std::os::unix::fs::MetadataExt;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use flashsale_operator::flash_sale::certificates::Certificates;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Probe};
use testkit::{Certificate, TlsFolder};

use crate::build::built;
use crate::certificates::first;
use crate::references;
use crate::stores_tls::MANAGED;

const PATIENCE: Duration = Duration::from_secs(30);

fn pair(of: &Certificates) -> Certificate {
    let text = |key: &str| String::from_utf8(of.data[key].0.clone()).unwrap();
    Certificate { certificate: text("tls.crt"), key: text("tls.key") }
}

fn authorities(of: &Certificates) -> String {
    String::from_utf8(of.data["ca.crt"].0.clone()).unwrap()
}

fn mounted(certificates: &Certificates) -> TlsFolder {
    TlsFolder::new(&pair(certificates), &authorities(certificates)).unwrap()
}

/// The text with this folder instead of the pod's.
fn within(folder: &TlsFolder, text: &str) -> String {
    text.replace("/etc/flashsale-stores", &folder.path("").display().to_string())
}

fn script(probe: Option<&Probe>) -> String {
    probe.unwrap().exec.clone().unwrap().command.unwrap()[2].clone()
}

fn sh(script: &str) -> Output {
    Command::new("timeout")
        .args(["--signal=KILL", "5", "sh", "-c", script])
        .env("REDIS_PASSWORD", "secret")
        .envs([("POSTGRES_USER", "postgres"), ("POSTGRES_DB", "postgres")])
        .output()
        .unwrap()
}

fn wait_until(what: &str, so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !so() {
        assert!(Instant::now() < deadline, "timed out waiting until {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The certificate that a server on this port gives to a client that trusts these authorities.
fn served(mounted: &TlsFolder, port: &str, more: &[&str]) -> String {
    let shown = Command::new("openssl")
        .args(["s_client", "-connect", &format!("localhost:{port}"), "-verify_return_error"])
        .args(["-verify_hostname", "localhost", "-CAfile"])
        .arg(mounted.path("ca.crt"))
        .args(more)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    let begin = shown.find("-----BEGIN CERTIFICATE-----").unwrap_or(shown.len());
    let end = shown.find("-----END CERTIFICATE-----").unwrap_or(shown.len());
    format!("{}-----END CERTIFICATE-----\n", &shown[begin..end])
}

fn certificate(of: &Certificates) -> String {
    String::from_utf8(of.data["tls.crt"].0.clone()).unwrap()
}

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-QUIT", &self.0.id().to_string()]).status();
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_node_speaks_tls_only_and_its_probe_lets_it_read_a_renewed_certificate() {
    let old = first(Timestamp::now());
    let mounted = mounted(&old);
    let template = built(MANAGED, references()).redis.spec.unwrap().template;
    let redis: Container = template.spec.unwrap().containers.remove(0);
    let port = testkit::free_port().unwrap().to_string();
    let data = tempfile::tempdir().unwrap();
    let command: Vec<String> =
        redis.command.unwrap().iter().map(|part| within(&mounted, part)).collect();
    let arguments = redis.args.unwrap().into_iter().map(|argument| match argument.as_str() {
        "6379" => port.clone(),
        "/data" => data.path().display().to_string(),
        _ => argument,
    });
    let mut server = Command::new(&command[0]);
    server.args(&command[1..]).args(arguments).env("REDIS_PASSWORD", "secret");
    let _server = Server(server.stdout(Stdio::null()).spawn().unwrap());
    let on_port = |script: String| {
        within(&mounted, &script).replace("redis-cli", &format!("redis-cli -p {port}"))
    };
    let ready = on_port(script(redis.readiness_probe.as_ref()));
    let lives = on_port(script(redis.liveness_probe.as_ref()));
    wait_until("the node replies", || sh(&lives).status.success());
    assert!(sh(&ready).status.success());
    assert_eq!(served(&mounted, &port, &[]), certificate(&old));
    let cli = |arguments: &str| {
        let done =
            sh(&format!("REDISCLI_AUTH=secret redis-cli -h localhost -p {port} {arguments}"));
        String::from_utf8_lossy(&done.stdout).into_owned()
    };
    let verified = format!("--tls --cacert {} PING", mounted.path("ca.crt").display());
    assert_eq!(cli(&verified), "PONG\n");
    assert!(!cli("PING").contains("PONG"), "plain text is refused");

    let renewed = first(Timestamp::now());
    mounted.replace(&pair(&renewed), &authorities(&renewed)).unwrap();
    assert_ne!(served(&mounted, &port, &[]), certificate(&renewed), "it has not read it yet");
    assert!(sh(&ready).status.success());
    assert_eq!(served(&mounted, &port, &[]), certificate(&renewed));
    let reloads = || {
        let statistics = cli("--tls --insecure INFO commandstats");
        let line = statistics.lines().find_map(|it| it.strip_prefix("cmdstat_config|set:calls="));
        line.map(|line| line.split(',').next().unwrap().to_owned())
    };
    assert!(sh(&ready).status.success());
    assert_eq!(reloads().as_deref(), Some("1"), "a certificate is read once");

    // A certificate that cannot be used does not make the node unready.
    let broken = Certificate { key: pair(&old).key, ..pair(&renewed) };
    mounted.replace(&broken, &authorities(&renewed)).unwrap();
    assert!(sh(&ready).status.success());
    assert_eq!(cli("--tls --insecure PING"), "PONG\n");
}

#[test]
fn the_database_speaks_tls_only_and_its_probe_lets_it_read_a_renewed_certificate() {
    let root = std::fs::metadata("/proc/self").is_ok_and(|it| it.uid() == 0);
    let old = first(Timestamp::now());
    let mounted = mounted(&old);
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().display().to_string();
    let port = testkit::free_port().unwrap().to_string();
    let user = if root { "setpriv --reuid=postgres --regid=postgres --clear-groups" } else { "" };
    if root {
        assert!(sh(&format!("chown postgres:postgres {home}")).status.success());
    }
    // In the image's place: it makes the tables and starts the server.
    let entrypoint = format!(
        "#!/bin/sh\nset -e\ninitdb --auth=trust --username=postgres --no-sync -D {home}/data >/dev/null\n\
         exec \"$@\" -D {home}/data -c port={port} -c listen_addresses=localhost -c unix_socket_directories={home}\n"
    );
    std::fs::write(folder.path().join("docker-entrypoint.sh"), entrypoint).unwrap();
    assert!(sh(&format!("chmod 755 {home}/docker-entrypoint.sh")).status.success());

    let template = built(MANAGED, references()).database.unwrap().spec.unwrap().template;
    let database: Container = template.spec.unwrap().containers.remove(0);
    let in_folder = |text: &str| within(&mounted, &text.replace("/tmp/", &format!("{home}/")));
    let words = database.command.unwrap().into_iter().chain(database.args.unwrap());
    let words: Vec<String> = words.map(|word| in_folder(&word)).collect();
    let binaries = std::fs::read_dir("/usr/lib/postgresql").unwrap().next().unwrap().unwrap();
    let path =
        format!("{home}:{}/bin:{}", binaries.path().display(), std::env::var("PATH").unwrap());
    let mut start = user.split_whitespace().map(str::to_owned).chain(words);
    let mut command = Command::new(start.next().unwrap());
    command.args(start).env("PATH", &path).current_dir("/");
    let server = Server(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    let pid = server.0.id();
    let on_port = |script: String| {
        in_folder(&script)
            .replace("pg_isready", &format!("pg_isready -p {port}"))
            .replace("kill -HUP 1", &format!("kill -HUP {pid}"))
    };
    let starts = on_port(script(database.startup_probe.as_ref()));
    let ready = on_port(script(database.readiness_probe.as_ref()));
    let lives = on_port(script(database.liveness_probe.as_ref()));
    wait_until("the database accepts connections", || sh(&starts).status.success());
    assert!(sh(&ready).status.success() && sh(&lives).status.success());

    let password =
        format!("psql -h {home} -p {port} -U postgres -c \"ALTER ROLE postgres PASSWORD 'p'\"");
    assert!(sh(&password).status.success(), "inside, the socket needs no password");
    let psql = |parameters: &str| {
        let target = format!("host=localhost port={port} user=postgres password=p {parameters}");
        let done = sh(&format!(
            "psql '{target}' -tAc 'SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()'"
        ));
        String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned()
    };
    let verified = format!("sslmode=verify-full sslrootcert={}", mounted.path("ca.crt").display());
    assert_eq!(psql(&verified), "t\n");
    let refused = psql("sslmode=disable");
    assert!(
        refused.contains("no pg_hba.conf entry") && refused.contains("no encryption"),
        "{refused}"
    );
    assert!(psql(&format!("{verified} password=q")).contains("password authentication failed"));

    let starttls = ["-starttls", "postgres"];
    assert_eq!(served(&mounted, &port, &starttls), certificate(&old));
    let renewed = first(Timestamp::now());
    mounted.replace(&pair(&renewed), &authorities(&renewed)).unwrap();
    assert!(sh(&ready).status.success());
    wait_until("the new certificate is in use", || {
        served(&mounted, &port, &starttls) == certificate(&renewed)
    });
    assert_eq!(psql(&verified), "t\n");
}
