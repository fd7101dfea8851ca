//! Several processes that share the users of a run, as the pods of a Job do.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by a panic")]

mod fake;

use std::io::Write;
use std::process::{Output, Stdio};
use std::time::Duration;

use flashsale_load::config::MetricsSource;
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use fake::{Behaviour, SCENARIO, STOCK, Sale};

/// What has not ended by then hangs.
const PATIENCE: Duration = Duration::from_mins(1);

/// The pods of a run against a fake sale.
struct Run {
    sale: Sale,
    scenario: tempfile::NamedTempFile,
    coordinator: String,
    pods: u32,
    /// Every pod has the option to write it, as the pods of a Job have.
    page: tempfile::NamedTempFile,
}

impl Run {
    async fn new(pods: u32, scenario: &str) -> Self {
        let sale = Sale::start(Behaviour::Honest).await;
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(scenario.as_bytes()).unwrap();
        let coordinator = format!("127.0.0.1:{}", testkit::free_port().unwrap());
        let page = tempfile::NamedTempFile::new().unwrap();
        Self { sale, scenario: file, coordinator, pods, page }
    }

    fn pod(&self, index: u32, jwt_secret: &str) -> Child {
        let settings = &self.sale.settings;
        let MetricsSource::Host(metrics) = &settings.metrics else { panic!("a host") };
        Command::new(env!("CARGO_BIN_EXE_flashsale-load"))
            .args(["run", "--targets", "report", "--scenario-file"])
            .arg(self.scenario.path())
            .arg("--html")
            .arg(self.page.path())
            .env("SALE_URL", &settings.sale_urls[0])
            .env("REDIS_NODES", &settings.redis_nodes[0])
            .env("DATABASE_URL", &settings.database_url)
            .env("JWT_SECRET", jwt_secret)
            .env("METRICS_HOST", metrics)
            .env("PODS", self.pods.to_string())
            .env("JOB_COMPLETION_INDEX", index.to_string())
            .env("COORDINATOR", &self.coordinator)
            .env("LISTEN", &self.coordinator)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap()
    }

    fn start(&self) -> Vec<Child> {
        (0..self.pods).map(|index| self.pod(index, &self.sale.settings.jwt_secret)).collect()
    }

    /// Waits until something is sold.
    async fn sells(&self) {
        let sells = async {
            while self.sale.redis.get("stock:1").unwrap() == Some(STOCK.to_string()) {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, sells).await.unwrap();
    }
}

async fn end(pod: Child) -> Output {
    timeout(PATIENCE, pod.wait_with_output()).await.unwrap().unwrap()
}

fn verdict(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    let last = text.lines().last().ok_or_else(|| format!("no verdict: {errors}")).unwrap();
    serde_json::from_str(last).unwrap()
}

/// The value in a row of the table.
fn measured(verdict: &Value, name: &str) -> String {
    let mut rows = verdict["checks"].as_array().unwrap().iter();
    let row = rows.find(|row| row["name"] == name).unwrap_or_else(|| panic!("no row {name:?}"));
    row["measured"].as_str().unwrap().to_owned()
}

/// One user after the other, for a long time.
fn slow() -> String {
    let rate = "users: 100000\nusers_per_second: 20\n";
    SCENARIO.replace("users: 30\n", rate)
}

#[tokio::test]
async fn pods_share_the_users_and_give_one_verdict() {
    let run = Run::new(3, SCENARIO).await;
    let mut pods = run.start();
    let first = end(pods.remove(0)).await;
    let verdict = verdict(&first);
    let report = String::from_utf8_lossy(&first.stdout);
    assert_eq!(verdict["verdict"], "PASS", "{report}");
    assert_eq!((verdict["users"].as_u64(), verdict["sold"].as_u64()), (Some(30), Some(10)));
    assert_eq!(verdict["requests"], 30);
    assert_eq!(
        (&verdict["answers"]["sold"], &verdict["answers"]["sold_out"]),
        (&10.into(), &20.into())
    );
    assert_eq!(measured(&verdict, "load pods"), "3");
    let started = measured(&verdict, "started within");
    let started: f64 = started.strip_suffix(" ms").unwrap().parse().unwrap();
    // A pod that says nothing for a minute is lost.
    assert!(started > 0.0 && started < 60_000.0, "{report}");
    let mut rows = verdict["checks"].as_array().unwrap().iter();
    let row = rows.find(|row| row["name"] == "started within").unwrap();
    assert_eq!(row["target"], "< 1000 ms", "{report}");
    assert!(first.status.success());
    for pod in pods {
        let output = end(pod).await;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(String::from_utf8_lossy(&output.stdout).starts_with("PASS; "));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("--html: only pod 0 has the users of all pods"), "{said}");
    }
    let page = std::fs::read_to_string(run.page.path()).unwrap();
    assert!(page.contains("30 users on 10 items"), "pod 0 wrote it: {page}");
    let connects = &verdict["latency_parts"]["tcp_connect"];
    assert_eq!(connects["count"], 30.0, "of all pods: {connects}");
}

#[tokio::test]
async fn a_pod_without_users_takes_part() {
    let run = Run::new(3, &SCENARIO.replace("users: 30\n", "users: 2\n")).await;
    let mut pods = run.start();
    let verdict = verdict(&end(pods.remove(0)).await);
    assert_eq!((&verdict["verdict"], &verdict["users"]), (&"PASS".into(), &2.into()), "{verdict}");
    for pod in pods {
        assert!(end(pod).await.status.success());
    }
}

#[tokio::test]
async fn a_pod_that_dies_fails_the_run_at_once_with_a_reason() {
    let run = Run::new(3, &slow()).await;
    let mut pods = run.start();
    run.sells().await;
    pods[1].kill().await.unwrap();
    let first = end(pods.remove(0)).await;
    assert_eq!(first.status.code(), Some(1));
    let verdict = verdict(&first);
    assert_eq!(verdict["verdict"], "FAIL");
    assert_eq!(verdict["wrong"][0], "load pods with a result");
    let problem = verdict["problems"][0].as_str().unwrap();
    assert!(problem.starts_with("pod 1 was lost: "), "{problem}");
    let third = end(pods.remove(1)).await;
    assert_eq!(third.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&third.stderr).contains("its log has the reason"));
}

#[tokio::test]
async fn a_pod_that_hangs_fails_the_run() {
    let run = Run::new(2, &slow()).await;
    let mut pods = run.start();
    run.sells().await;
    let hangs = pods[1].id().unwrap().to_string();
    assert!(Command::new("kill").args(["-STOP", &hangs]).status().await.unwrap().success());
    let problem = verdict(&end(pods.remove(0)).await)["problems"][0].to_string();
    assert!(problem.contains("pod 1 was silent for 15 s"), "{problem}");
}

#[tokio::test]
async fn the_end_is_told_to_all_pods() {
    let run = Run::new(2, &slow().replace("stock: 10", "stock: 1")).await;
    let mut pods = run.start();
    run.sells().await;
    let first = pods[0].id().unwrap().to_string();
    assert!(Command::new("kill").args(["-TERM", &first]).status().await.unwrap().success());
    let first = end(pods.remove(0)).await;
    let (verdict, errors) = (verdict(&first), String::from_utf8_lossy(&first.stderr));
    assert_eq!(verdict["verdict"], "PASS", "{errors}");
    assert!(errors.contains("told to stop"), "{errors}");
    assert!(end(pods.remove(0)).await.status.success());
}

#[tokio::test]
async fn a_stranger_is_no_pod() {
    let run = Run::new(2, SCENARIO).await;
    let secret = run.sale.settings.jwt_secret.clone();
    let (first, stranger) = (run.pod(0, &secret), run.pod(1, "another key, of the same length.."));
    let stranger = end(stranger).await;
    assert_eq!(stranger.status.code(), Some(2), "it is turned away");
    let pod = run.pod(1, &secret);
    assert_eq!(verdict(&end(first).await)["verdict"], "PASS");
    assert!(end(pod).await.status.success());
}

#[tokio::test]
async fn a_buyer_with_the_name_of_a_pod_is_no_pod() {
    let run = Run::new(2, SCENARIO).await;
    let secret = run.sale.settings.jwt_secret.clone();
    let first = run.pod(0, &secret);
    // As a log-in gives it.
    let exp = Timestamp::now().as_second() + 3600;
    let claims =
        json!({"sub": "load-pod-1-of-small", "exp": exp, "iss": "flashsale", "role": "buyer"});
    let key = EncodingKey::from_secret(secret.as_bytes());
    let token = encode(&Header::new(Algorithm::HS256), &claims, &key).unwrap();
    let hello = format!("{}\n", json!({"hello": {"token": token}}));
    let connects = async {
        loop {
            if let Ok(stream) = TcpStream::connect(&run.coordinator).await {
                break stream;
            }
            tokio::task::yield_now().await;
        }
    };
    let mut stream = timeout(PATIENCE, connects).await.unwrap();
    stream.write_all(hello.as_bytes()).await.unwrap();
    let mut said = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut said)).await.unwrap().unwrap();
    assert_eq!(said, "", "it is turned away");
    let pod = run.pod(1, &secret);
    assert_eq!(verdict(&end(first).await)["verdict"], "PASS");
    assert!(end(pod).await.status.success());
}
