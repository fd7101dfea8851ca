//! What running pods say: logs, and metrics through a forwarded port.

use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::LogParams;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::collected::Collected;
use super::objects::Objects;
use crate::cluster::Cluster;

/// How long one log or one replica may take.
const DEADLINE: Duration = Duration::from_secs(30);
/// Ports of replicas and of the operator that serve metrics.
const APP_PORT: u16 = 9090;
const OPERATOR_PORT: u16 = 8081;

/// Adds the logs of all containers, and those of before their last restart.
pub async fn logs(cluster: &Cluster, objects: &Objects, lines: u32, collected: &mut Collected) {
    for pod in objects.pods() {
        let (namespace, name) = (text(pod, "namespace"), text(pod, "name"));
        let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), &namespace);
        for (container, restarted) in containers(pod) {
            for previous in [false].into_iter().chain(restarted.then_some(true)) {
                let params = LogParams {
                    container: Some(container.clone()),
                    previous,
                    // The last lines; `limitBytes` would keep the first ones.
                    tail_lines: Some(i64::from(lines)),
                    timestamps: true,
                    ..LogParams::default()
                };
                let kind = if previous { ".previous" } else { "" };
                let path = format!("logs/{name}/{container}{kind}.log");
                match timeout(DEADLINE, pods.logs(&name, &params)).await {
                    Ok(Ok(log)) => collected.add(path, log),
                    Ok(Err(error)) => {
                        collected.missing.push(format!("{path}: {:#}", cluster.explain(error)));
                    }
                    Err(_) => collected.missing.push(format!("{path}: no answer")),
                }
            }
        }
    }
}

/// Containers that have started, and whether they restarted.
fn containers(pod: &Value) -> Vec<(String, bool)> {
    let kinds = ["initContainerStatuses", "containerStatuses"];
    let statuses = kinds.iter().filter_map(|kind| pod["status"][*kind].as_array()).flatten();
    let started =
        statuses.filter(|status| status["state"]["waiting"].is_null() || restarts(status));
    started
        .map(|status| (status["name"].as_str().unwrap_or_default().to_owned(), restarts(status)))
        .collect()
}

fn restarts(status: &Value) -> bool {
    status["restartCount"].as_i64().unwrap_or_default() > 0
}

/// Adds the metrics and the readiness of each running replica and of the operator.
pub async fn metrics(cluster: &Cluster, objects: &Objects, collected: &mut Collected) {
    let is_app = |pod: &&Value| pod["metadata"]["labels"]["app.kubernetes.io/component"] == "app";
    let replicas = objects.parts.iter().filter(|part| part["kind"] == "Pod").filter(is_app);
    let operators = objects.operator.iter().filter(|object| object["kind"] == "Pod");
    let pods = replicas.map(|pod| (pod, APP_PORT)).chain(operators.map(|pod| (pod, OPERATOR_PORT)));
    for (pod, port) in pods.filter(|(pod, _)| pod["status"]["phase"] == "Running") {
        let (namespace, name) = (text(pod, "namespace"), text(pod, "name"));
        for path in ["metrics", "readyz"] {
            let file = format!("{path}/{name}.txt");
            match timeout(DEADLINE, get(cluster, &namespace, &name, port, path)).await {
                Ok(Ok(body)) => collected.add(file, body),
                Ok(Err(error)) => collected.missing.push(format!("{file}: {error:#}")),
                Err(_) => collected.missing.push(format!("{file}: no answer")),
            }
        }
    }
}

/// Asks a port of a pod through the API server and the kubelet, which network policies do not restrict.
async fn get(
    cluster: &Cluster,
    namespace: &str,
    pod: &str,
    port: u16,
    path: &str,
) -> Result<String> {
    let pods: Api<Pod> = Api::namespaced(cluster.upgrading()?, namespace);
    let connected = pods.portforward(pod, &[port]).await.map_err(|error| match error {
        // The kubelet's refusals have no text.
        kube::Error::Api(status) if status.message.is_empty() => {
            anyhow!("the API server answers {}", status.code)
        }
        error => error.into(),
    });
    let mut forwarder = connected.context("cannot forward a port")?;
    let mut stream = forwarder.take_stream(port).context("no stream")?;
    let request = format!("GET /{path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    body(&String::from_utf8_lossy(&answer))
}

/// The body of an HTTP answer.
fn body(answer: &str) -> Result<String> {
    let Some((head, body)) = answer.split_once("\r\n\r\n") else { bail!("no HTTP answer") };
    let chunked = head.to_lowercase().contains("transfer-encoding: chunked");
    if !chunked {
        return Ok(body.to_owned());
    }
    let (mut rest, mut whole) = (body, String::new());
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size.split(';').next().unwrap_or_default().trim(), 16)?;
        if size == 0 {
            break;
        }
        whole.push_str(after.get(..size).context("a cut answer")?);
        rest = after.get(size..).unwrap_or_default().trim_start_matches("\r\n");
    }
    Ok(whole)
}

fn text(object: &Value, field: &str) -> String {
    object["metadata"][field].as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::cluster::Target;

    /// An API server that refuses each upgrade, and closes such a connection at the next request.
    async fn refuses_upgrades(mut connection: TcpStream) {
        let (mut refused, mut request) = (false, String::new());
        let mut bytes = [0; 4096];
        while let Ok(read @ 1..) = connection.read(&mut bytes).await {
            request.push_str(&String::from_utf8_lossy(&bytes[..read]));
            let Some((head, _)) = request.split_once("\r\n\r\n") else { continue };
            if refused {
                return;
            }
            refused = head.to_lowercase().contains("upgrade: websocket");
            let (code, body) = if refused {
                ("404 Not Found", String::new())
            } else {
                let fields = ["major", "minor", "gitVersion", "gitCommit", "gitTreeState"];
                let more = ["buildDate", "goVersion", "compiler", "platform"];
                let fields = fields.into_iter().chain(more).map(|field| (field, "1"));
                ("200 OK", json!(fields.collect::<std::collections::BTreeMap<_, _>>()).to_string())
            };
            let answer = format!("HTTP/1.1 {code}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            connection.write_all(answer.as_bytes()).await.unwrap();
            request.clear();
        }
    }

    #[tokio::test]
    async fn a_refused_port_does_not_fail_the_next_request() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                tokio::spawn(refuses_upgrades(connection));
            }
        });
        let kubeconfig = tempfile::NamedTempFile::new().unwrap();
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "a",
            "clusters": [{ "name": "a", "cluster": { "server": url } }],
            "contexts": [{ "name": "a", "context": { "cluster": "a", "user": "a" } }],
            "users": [{ "name": "a", "user": {} }],
        });
        std::fs::write(kubeconfig.path(), config.to_string()).unwrap();
        let target = Target { kubeconfig: Some(kubeconfig.path().into()), ..Target::default() };
        let cluster = Cluster::of(&target).await.unwrap();
        for _ in 0..2 {
            cluster.client.apiserver_version().await.unwrap();
            let refused = get(&cluster, "shop", "black-friday-1", APP_PORT, "metrics").await;
            let refused = format!("{:#}", refused.unwrap_err());
            assert_eq!(refused, "cannot forward a port: the API server answers 404");
        }
    }

    #[test]
    fn bodies_are_read_whole_and_in_chunks() {
        assert_eq!(body("HTTP/1.1 200 OK\r\n\r\na\n").unwrap(), "a\n");
        let chunked =
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\na\n\r\n1\r\nb\r\n0\r\n\r\n";
        assert_eq!(body(chunked).unwrap(), "a\nb");
        assert!(body("nothing").is_err());
    }

    #[test]
    fn containers_that_never_started_have_no_log() {
        let pod = json!({ "status": {
            "initContainerStatuses": [{ "name": "init", "restartCount": 0, "state": { "terminated": {} } }],
            "containerStatuses": [
                { "name": "app", "restartCount": 2, "state": { "waiting": { "reason": "CrashLoopBackOff" } } },
                { "name": "new", "restartCount": 0, "state": { "waiting": { "reason": "ContainerCreating" } } },
            ],
        } });
        let expected = [("init".to_owned(), false), ("app".to_owned(), true)];
        assert_eq!(containers(&pod), expected);
    }
}
