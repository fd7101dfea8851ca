//! `flashsale-operator check`, which `helm test` runs, and the operator's metrics over TLS.

use std::path::Path;
use std::process::{Command, Output};

use kube::Client;
use serde_json::{Value, json};

use crate::leader::Replica;
use crate::support::{
    DEADLINE, Server, admin_kubeconfig, eventually, namespace, operator_kubeconfig,
};

/// Runs the check as the pod of `helm test` does.
fn check(operator: &str, kubeconfig: &str, timeout_seconds: u32) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("kubeconfig");
    // A pod knows an authority: that of the API server.
    certificate(folder.path());
    let mut config: Value = serde_json::from_str(kubeconfig).unwrap();
    config["clusters"][0]["cluster"]["certificate-authority"] = json!("tls.crt");
    std::fs::write(&file, config.to_string()).unwrap();
    Command::new(env!("CARGO_BIN_EXE_flashsale-operator"))
        .args(["check", "--operator", operator])
        .args(["--timeout-seconds", &timeout_seconds.to_string()])
        .env("KUBECONFIG", &file)
        .env("WATCH_NAMESPACE", "default,shop")
        // The image has no roots of public authorities either.
        .envs([("SSL_CERT_FILE", "/dev/null"), ("SSL_CERT_DIR", "/nowhere")])
        .output()
        .unwrap()
}

fn text(output: &[u8]) -> String {
    String::from_utf8_lossy(output).into_owned()
}

/// Writes a certificate for `localhost` and its key, as cert-manager's Secret has them; gives it as DER.
fn certificate(folder: &Path) -> Vec<u8> {
    let file = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let (chain, key) = (file("tls.crt"), file("tls.key"));
    let new =
        ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    let name = ["-subj", "/CN=operator", "-addext", "subjectAltName=DNS:localhost", "-days", "1"];
    let leaf = ["-addext", "basicConstraints=critical,CA:FALSE"];
    let files = ["-out", &chain, "-keyout", &key];
    let made =
        Command::new("openssl").args(new).args(name).args(leaf).args(files).output().unwrap();
    assert!(made.status.success(), "{}", text(&made.stderr));
    let der = Command::new("openssl").args(["x509", "-outform", "DER", "-in", &chain]).output();
    der.unwrap().stdout
}

/// What a client says that trusts this certificate only.
async fn metrics(port: u16, root: &[u8]) -> Result<String, String> {
    let mut config = kube::Config::new(format!("https://localhost:{port}").parse().unwrap());
    config.root_cert = Some(vec![root.to_vec()]);
    let client = Client::try_from(config).unwrap();
    let request = axum::http::Request::get("/metrics").body(Vec::new()).unwrap();
    client.request_text(request).await.map_err(|error| format!("{error:?}"))
}

#[tokio::test]
async fn a_release_is_checked_over_http_and_over_tls_and_a_renewed_certificate_is_used() {
    let (_, namespace) = namespace("check").await;
    let kubeconfig = operator_kubeconfig().await;
    let folder = tempfile::tempdir().unwrap();
    let first = certificate(folder.path());
    let admin = admin_kubeconfig().await;
    let start = |lease: &str, env: &[(&str, &str)]| {
        Replica::start_with("check", lease, &namespace, &admin, env)
    };
    let plain = start("check-plain", &[]);
    let over_tls = start("check-tls", &[("TLS_CERT_DIR", folder.path().to_str().unwrap())]);
    for (scheme, replica) in [("http", &plain), ("https", &over_tls)] {
        let operator = format!("{scheme}://localhost:{}", replica.port);
        let checked = check(&operator, &kubeconfig, 30);
        assert!(checked.status.success(), "{operator}: {}", text(&checked.stderr));
        assert!(text(&checked.stdout).contains("is ready: "), "{}", text(&checked.stdout));
    }

    let said = metrics(over_tls.port, &first).await.unwrap();
    assert!(said.contains("flashsale_operator_leader"), "{said}");
    let renewed = certificate(folder.path());
    eventually("the renewed certificate", async || metrics(over_tls.port, &renewed).await.ok())
        .await;
    let refused = metrics(over_tls.port, &first).await.unwrap_err();
    assert!(refused.contains("InvalidCertificate"), "{refused}");

    // Clients that say nothing delay no other: one after the other, they would take 40 s.
    let silent = (0..4).map(|_| tokio::net::TcpStream::connect(("127.0.0.1", over_tls.port)));
    let _silent = futures::future::try_join_all(silent).await.unwrap();
    let answer = tokio::time::timeout(DEADLINE, metrics(over_tls.port, &renewed)).await;
    answer.expect("others are not waited for").unwrap();
}

#[tokio::test]
async fn the_check_fails_with_the_reason() {
    let kubeconfig = operator_kubeconfig().await;
    let nobody = format!("http://127.0.0.1:{}", testkit::free_port().unwrap());
    let checked = check(&nobody, &kubeconfig, 1);
    assert_eq!(checked.status.code(), Some(1));
    let said = text(&checked.stderr);
    assert!(said.contains("the operator is not ready"), "{said}");

    // An API server without the definition.
    let (_, namespace) = namespace("check-without-crd").await;
    let admin = admin_kubeconfig().await;
    let replica = Replica::start_with("check", "check-without-crd", &namespace, &admin, &[]);
    let bare = Server::bare().await;
    let operator = format!("http://127.0.0.1:{}", replica.port);
    eventually("the operator is ready", async || {
        check(&operator, &kubeconfig, 1).status.success().then_some(())
    })
    .await;
    let checked = check(&operator, &bare.kubeconfig(), 1);
    assert_eq!(checked.status.code(), Some(1));
    let said = text(&checked.stderr);
    assert!(said.contains("cannot list FlashSale objects"), "{said}");
}

/// OLM writes an empty annotation for an `OperatorGroup` of all namespaces, so the variable that holds it is set and empty.
#[test]
fn only_the_variable_of_olm_may_be_empty() {
    for (variable, code) in [("OLM_TARGET_NAMESPACES", 1), ("WATCH_NAMESPACE", 2)] {
        let mut check = Command::new(env!("CARGO_BIN_EXE_flashsale-operator"));
        check.args(["check", "--operator", "http://localhost:1"]).env("KUBECONFIG", "/not/there");
        let ended = check.env(variable, "").output().unwrap();
        assert_eq!(ended.status.code(), Some(code), "{variable}: {}", text(&ended.stderr));
    }
}

#[test]
fn a_definition_that_nobody_reads_is_an_error() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut crd = Command::new(env!("CARGO_BIN_EXE_flashsale-operator"));
    let ended = crd.arg("crd").stdout(writer).output().unwrap();
    let said = text(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(said.starts_with("cannot write to stdout"), "{said}");
}
