//! One API server for all tests of this binary, and the plugin's binary.

use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use flashsale_operator::crd::{FlashSale, custom_resource_definition};
use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::NamespaceResourceScope;
use kube::runtime::wait::{await_condition, conditions};
use kube::{Api, Client, Config, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tempfile::NamedTempFile;
use testkit::{ApiServer, ApiUser, cluster_programs};
use tokio::process::{Child, Command};
use tokio::sync::OnceCell;

use crate::kubelet::Kubelet;

const DEADLINE: Duration = Duration::from_mins(1);
/// May do everything.
pub const ADMIN: &str = "admin";
/// May do nothing.
pub const NOBODY: &str = "nobody";

/// An API server with the resource definition.
pub struct Server {
    server: ApiServer,
    /// Has the logs.
    pub kubelet: Kubelet,
}

static SERVER: OnceCell<Server> = OnceCell::const_new();

/// The server of all tests.
pub async fn server() -> &'static Server {
    SERVER
        .get_or_init(|| async {
            let server = Server::bare().await;
            let crds: Api<CustomResourceDefinition> = Api::all(server.admin());
            let crd = custom_resource_definition().unwrap();
            crds.create(&PostParams::default(), &crd).await.unwrap();
            let name = "flashsales.flashsale.dev";
            let established = await_condition(crds, name, conditions::is_crd_established());
            tokio::time::timeout(DEADLINE, established).await.unwrap().unwrap();
            server
        })
        .await
}

impl Server {
    /// One that knows nothing of sales.
    pub async fn bare() -> Self {
        let users = [
            ApiUser { name: ADMIN, group: "system:masters" },
            ApiUser { name: NOBODY, group: "nobodies" },
        ];
        let server = ApiServer::start(&cluster_programs(), &users, None).unwrap();
        let server = Self { server, kubelet: Kubelet::start().await };
        let client = server.admin();
        eventually("the API server is ready", async || {
            let request = axum::http::Request::get("/readyz").body(Vec::new()).unwrap();
            client.request_text(request).await.ok()
        })
        .await;
        let nodes: Api<Node> = Api::all(client);
        let node = json!({ "metadata": { "name": "node0" } });
        nodes.create(&PostParams::default(), &from(node)).await.unwrap();
        let status = json!({ "status": {
            "addresses": [{ "type": "InternalIP", "address": "127.0.0.1" }],
            "daemonEndpoints": { "kubeletEndpoint": { "Port": server.kubelet.port } },
        } });
        nodes.patch_status("node0", &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
        server
    }

    pub fn admin(&self) -> Client {
        let mut config = Config::new(self.server.url().parse().unwrap());
        config.accept_invalid_certs = true;
        config.auth_info.token = Some(ADMIN.to_owned().into());
        Client::try_from(config).unwrap()
    }

    /// A kubeconfig for the plugin.
    pub fn kubeconfig(&self, user: &str) -> NamedTempFile {
        let file = NamedTempFile::new().unwrap();
        std::fs::write(file.path(), self.server.kubeconfig(user)).unwrap();
        file
    }
}

/// The plugin's binary.
pub fn plugin() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_kubectl-flashsale"))
}

/// A namespace of a test's own.
pub struct Shop {
    pub server: &'static Server,
    pub client: Client,
    pub namespace: &'static str,
    kubeconfig: NamedTempFile,
}

impl Shop {
    pub async fn open(namespace: &'static str) -> Self {
        let server = server().await;
        let client = server.admin();
        let namespaces: Api<Namespace> = Api::all(client.clone());
        let made = json!({ "metadata": { "name": namespace } });
        namespaces.create(&PostParams::default(), &from(made)).await.unwrap();
        Self { server, client, namespace, kubeconfig: server.kubeconfig(ADMIN) }
    }

    /// The plugin's user is `NOBODY`, who has these rights in the namespace; `list` on sales is one of them.
    pub async fn with_rights(mut self, rules: Value) -> Self {
        self.create::<Role>(json!({ "metadata": { "name": NOBODY }, "rules": rules })).await;
        let group = "rbac.authorization.k8s.io";
        self.create::<RoleBinding>(json!({
            "metadata": { "name": NOBODY },
            "roleRef": { "apiGroup": group, "kind": "Role", "name": NOBODY },
            "subjects": [{ "apiGroup": group, "kind": "User", "name": NOBODY }],
        }))
        .await;
        self.kubeconfig = self.server.kubeconfig(NOBODY);
        eventually("the rights count", async || {
            (self.run(&["status"]).await.code == Some(0)).then_some(())
        })
        .await;
        self
    }

    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), self.namespace)
    }

    /// Creates an object, with its status.
    pub async fn create<K>(&self, object: Value) -> K
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + DeserializeOwned
            + Serialize
            + Clone
            + std::fmt::Debug,
    {
        let api: Api<K> = self.api();
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        let status = object["status"].clone();
        let made = api.create(&PostParams::default(), &from(object)).await.unwrap();
        if status.is_null() {
            return made;
        }
        let patch = Patch::Merge(json!({ "status": status }));
        api.patch_status(&name, &PatchParams::default(), &patch).await.unwrap()
    }

    /// A sale with one product that is open and has sold 60 of 100.
    pub async fn open_sale(&self, name: &str) -> FlashSale {
        self.create(json!({
            "apiVersion": "flashsale.dev/v1beta1", "kind": "FlashSale", "metadata": { "name": name },
            "spec": { "products": [{ "id": "1", "name": "Console", "stock": 100, "maxPerBuyer": 1 }] },
            "status": {
                "observedGeneration": 1, "phase": "Open",
                "conditions": [
                    condition("StockSeeded", "True", "Seeded", ""), condition("Ready", "True", "AllReady", ""),
                ],
                "redis": { "ready": 5, "nodes": 5, "quorum": true, "summary": "5/5" },
                "app": { "ready": 3, "replicas": 3, "summary": "3/3" },
                "products": [{ "id": "1", "stock": 100, "sold": 60, "remaining": 40 }],
                "totals": { "stock": 100, "sold": 60, "remaining": 40 },
            },
        }))
        .await
    }

    /// A pod on the only node that runs, with this label as component.
    pub async fn pod(&self, sale: &str, name: &str, component: &str, container: &str) -> Pod {
        self.create(json!({
            "metadata": { "name": name, "labels": {
                "app.kubernetes.io/name": "flashsale", "app.kubernetes.io/instance": sale,
                "app.kubernetes.io/component": component,
            } },
            "spec": { "nodeName": "node0", "containers": [{ "name": container, "image": "x:1" }] },
            "status": { "phase": "Running", "containerStatuses": [running(container, 0)] },
        }))
        .await
    }

    /// Changes the status of a sale for its present generation.
    pub async fn report(&self, sale: &str, mut status: Value) {
        let sales: Api<FlashSale> = self.api();
        status["observedGeneration"] = json!(sales.get(sale).await.unwrap().metadata.generation);
        let patch = Patch::Merge(json!({ "status": status }));
        sales.patch_status(sale, &PatchParams::default(), &patch).await.unwrap();
    }

    /// The plugin in this namespace.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(plugin());
        command.args(arguments).args(["-n", self.namespace, "--kubeconfig"]);
        command.arg(self.kubeconfig.path()).kill_on_drop(true);
        command.stdin(Stdio::null());
        command
    }

    /// Runs the plugin to its end.
    pub async fn run(&self, arguments: &[&str]) -> Ran {
        Ran::of(
            &tokio::time::timeout(DEADLINE, self.command(arguments).output())
                .await
                .unwrap()
                .unwrap(),
        )
    }

    /// Starts the plugin.
    pub fn start(&self, arguments: &[&str]) -> Child {
        let mut command = self.command(arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Starts the plugin in a terminal, and has what the terminal gets as the child's stdout.
    pub fn start_in_terminal(&self, arguments: &[&str]) -> Child {
        let command = self.command(arguments);
        let command = command.as_std();
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let words: Vec<_> = words.map(|word| word.to_str().unwrap()).collect();
        let mut script = Command::new("script");
        script.args(["--quiet", "--return", "--command", &words.join(" "), "/dev/null"]);
        script.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        script.kill_on_drop(true).spawn().unwrap()
    }
}

/// Sends a signal, such as `-INT`, to a started plugin.
pub async fn send_signal(child: &Child, signal: &str) {
    let process = child.id().unwrap().to_string();
    let sent = Command::new("kill").args([signal, &process]).status().await.unwrap();
    assert!(sent.success(), "{sent}");
}

/// What the plugin printed.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Ran {
    pub fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
    }

    /// Waits for a started plugin.
    pub async fn ended(child: Child) -> Self {
        let output = tokio::time::timeout(DEADLINE, child.wait_with_output()).await;
        Self::of(&output.unwrap().unwrap())
    }
}

/// A condition of now.
pub fn condition(kind: &str, status: &str, reason: &str, message: &str) -> Value {
    json!({
        "type": kind, "status": status, "reason": reason, "message": message,
        "lastTransitionTime": "2026-11-27T00:00:00Z",
    })
}

/// The status of a container that runs.
pub fn running(name: &str, restarts: i32) -> Value {
    json!({
        "name": name, "image": "x:1", "imageID": "x", "ready": true, "restartCount": restarts,
        "state": { "running": {} },
    })
}

/// An object from JSON.
pub fn from<K: DeserializeOwned>(object: Value) -> K {
    serde_json::from_value(object).unwrap()
}

/// Asks until there is an answer.
pub async fn eventually<T>(what: &str, ask: impl AsyncFn() -> Option<T>) -> T {
    let answer = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let answer = tokio::time::timeout(DEADLINE, answer).await;
    answer.unwrap_or_else(|_| panic!("not within {DEADLINE:?}: {what}"))
}
