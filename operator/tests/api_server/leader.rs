//! One operator at a time.

use std::process::{Child, Command, ExitStatus};

use flashsale_operator::crd::{FlashSale, Phase};
use flashsale_operator::leader::{Leadership, LeaseName};
use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client};

use crate::cluster::{NAME, in_phase};
use crate::support::{
    DEADLINE, SYSTEM, admin_kubeconfig, apply, eventually, minimal, namespace, operator_kubeconfig,
    wait_for,
};

/// The Lease of the chart, which the operator has rights to.
const LEASE: &str = "flashsale-operator-leader";

#[tokio::test]
async fn the_next_one_takes_over_when_the_lease_is_released() {
    let (client, namespace) = namespace("lease").await;
    let lease = LeaseName { namespace, name: "shop".to_owned() };
    let seek = |who: &str| Leadership::start(client.clone(), lease.clone(), who.to_owned());
    let mut first = seek("first").await.unwrap();
    tokio::time::timeout(DEADLINE, first.wait_until(true)).await.unwrap().unwrap();
    let mut second = seek("second").await.unwrap();
    tokio::time::timeout(DEADLINE, second.wait_until(false)).await.unwrap().unwrap();
    first.release().await.unwrap();
    tokio::time::timeout(DEADLINE, second.wait_until(true)).await.unwrap().unwrap();
    second.release().await.unwrap();
}

/// A process of the operator; it is killed when dropped.
pub struct Replica {
    process: Child,
    pub port: u16,
    http: reqwest::Client,
    _kubeconfig: tempfile::NamedTempFile,
}

impl Replica {
    fn start(name: &str, lease: &str, watched: &str, kubeconfig: &str) -> Self {
        Self::start_with(name, lease, watched, kubeconfig, &[])
    }

    /// The same with more settings.
    pub fn start_with(
        name: &str,
        lease: &str,
        watched: &str,
        kubeconfig: &str,
        env: &[(&str, &str)],
    ) -> Self {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), kubeconfig).unwrap();
        let port = testkit::free_port().unwrap();
        let process = Command::new(env!("CARGO_BIN_EXE_flashsale-operator"))
            .args(["run", "--leader-election"])
            .env("KUBECONFIG", file.path())
            .env("RUST_LOG", "error")
            .env("POD_NAME", name)
            .env("POD_NAMESPACE", SYSTEM)
            .env("LEASE_NAME", lease)
            .env("WATCH_NAMESPACE", watched)
            .env("LISTEN", format!("127.0.0.1:{port}"))
            .envs(["APP", "REDIS", "POSTGRES"].map(|it| (format!("DEFAULT_{it}_IMAGE"), "a")))
            .envs(env.iter().copied())
            .spawn()
            .unwrap();
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { process, port, http, _kubeconfig: file }
    }

    async fn get(&self, path: &str) -> Option<String> {
        let url = format!("http://127.0.0.1:{}{path}", self.port);
        let answer = self.http.get(url).send().await.ok()?.error_for_status().ok()?;
        answer.text().await.ok()
    }

    /// Waits until the readiness probe succeeds with these words.
    async fn says(&self, words: &str) {
        eventually(words, async || self.get("/readyz").await.filter(|said| said == words)).await;
    }

    async fn leads(&self) -> bool {
        let metrics = self.get("/metrics").await.unwrap();
        metrics.lines().any(|line| line == "flashsale_operator_leader 1")
    }

    /// Sends SIGTERM and waits for the end.
    async fn stop(mut self) -> ExitStatus {
        let signal = Command::new("kill").arg(self.process.id().to_string()).status().unwrap();
        assert!(signal.success());
        let waited = tokio::time::timeout(DEADLINE, async {
            let mut tick = tokio::time::interval(std::time::Duration::from_millis(20));
            loop {
                tick.tick().await;
                if let Some(status) = self.process.try_wait().unwrap() {
                    return status;
                }
            }
        });
        waited.await.expect("it stops")
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        // It has ended unless the test failed.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

async fn holder(client: &Client) -> Option<String> {
    let leases: Api<Lease> = Api::namespaced(client.clone(), SYSTEM);
    leases.get(LEASE).await.unwrap().spec.and_then(|spec| spec.holder_identity)
}

#[tokio::test]
async fn a_standby_says_so_and_every_replica_stops_cleanly() {
    let (client, watched) = namespace("standby").await;
    let kubeconfig = operator_kubeconfig().await;
    let start = |name: &str| Replica::start(name, LEASE, &watched, &kubeconfig);
    let first = start("first");
    first.says("ok").await;
    assert!(first.leads().await);
    assert_eq!(holder(&client).await.as_deref(), Some("first"));

    let second = start("second");
    second.says("standing by for the lease flashsale-system/flashsale-operator-leader").await;
    assert!(!second.leads().await);
    assert_eq!(second.stop().await.code(), Some(0), "a standby");
    assert_eq!(holder(&client).await.as_deref(), Some("first"), "nobody else's lease is given up");

    assert_eq!(first.stop().await.code(), Some(0), "the leader");
    assert_eq!(holder(&client).await, None, "the lease is given up");
}

#[tokio::test]
async fn two_releases_in_one_namespace_both_reconcile() {
    let (client, a) = namespace("release-a").await;
    let (_, b) = namespace("release-b").await;
    let kubeconfig = admin_kubeconfig().await;
    let releases = [&a, &b].map(|watched| Replica::start("pod", watched, watched, &kubeconfig));
    for (release, watched) in releases.iter().zip([&a, &b]) {
        release.says("ok").await;
        apply(&client, watched, &minimal(NAME)).await.unwrap();
        let sales: Api<FlashSale> = Api::namespaced(client.clone(), watched);
        wait_for(&sales, NAME, in_phase(Phase::Provisioning)).await;
    }
    for release in releases {
        assert_eq!(release.stop().await.code(), Some(0));
    }
}
