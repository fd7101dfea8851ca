//! A real etcd and a real kube-apiserver, one pair for all tests of this binary, and no controller
//! of Kubernetes' own: what they would do, the tests do.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use flashsale_operator::config::DefaultImages;
use flashsale_operator::controller::{self, Scope};
use flashsale_operator::crd::{FlashSale, custom_resource_definition};
use flashsale_operator::flash_sale::context::Context;
use flashsale_operator::flash_sale::operator_pods::OperatorPods;
use flashsale_operator::metrics::Metrics;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams};
use kube::runtime::wait::{Condition, await_condition, conditions};
use kube::{Api, Client, Config, ResourceExt};
use serde::Deserialize;
use serde_json::{Value, json};
use testkit::{ApiServer, ApiUser, cluster_programs};
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

use crate::fake_app::FakeApp;

/// How long anything may take before a test fails.
pub const DEADLINE: Duration = Duration::from_secs(30);
const ADMIN: &str = "admin";
/// The service account of the chart, which has the rights that the chart gives it and no other.
const OPERATOR: &str = "system:serviceaccount:flashsale-system:flashsale-operator";

pub struct Server(ApiServer);

static SERVER: OnceCell<Server> = OnceCell::const_new();

impl Server {
    /// One that knows nothing of sales.
    pub async fn bare() -> Self {
        Self::start(None).await
    }

    /// One with the chart's rights for the operator, and with a log of its requests.
    pub async fn audited() -> Self {
        Self::start(Some(OPERATOR)).await.with_rights(&[]).await
    }

    async fn start(audited: Option<&str>) -> Self {
        let users = [
            ApiUser { name: ADMIN, group: "system:masters" },
            ApiUser { name: OPERATOR, group: "operators" },
        ];
        let server = Self(ApiServer::start(&cluster_programs(), &users, audited).unwrap());
        server.is_ready().await;
        server
    }

    async fn is_ready(&self) {
        let client = self.admin();
        eventually("the API server is ready", async || {
            let request = axum::http::Request::get("/readyz").body(Vec::new()).unwrap();
            client.request_text(request).await.ok()
        })
        .await;
    }

    /// Kills the API server, and starts it again once `meanwhile` is over.
    pub async fn is_away_during(&self, meanwhile: impl Future<Output = ()>) {
        self.0.kill().unwrap();
        meanwhile.await;
        self.0.start_again().unwrap();
        self.is_ready().await;
    }

    /// One with the resource definition, and with the chart's rights for the operator.
    pub async fn with_chart() -> Self {
        Self::bare().await.with_rights(&[]).await
    }

    /// The same with the resource definition, and with the rights of a release with these values.
    pub async fn with_rights(self, values: &[&str]) -> Self {
        let client = self.admin();
        install_crd(&client, custom_resource_definition().unwrap()).await;
        create_namespace(&client, SYSTEM).await;
        grant_rights(&client, values).await;
        self
    }

    /// The operator's requests, as the API server logged them.
    pub fn audit_log(&self) -> Vec<Value> {
        let log = std::fs::read_to_string(self.0.audit_log()).unwrap();
        log.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// A kubeconfig that may do everything, for other programs.
    pub fn kubeconfig(&self) -> String {
        self.kubeconfig_of(ADMIN)
    }

    /// The same in a file of this folder.
    pub fn kubeconfig_in(&self, folder: &Path) -> PathBuf {
        let file = folder.join("kubeconfig");
        std::fs::write(&file, self.kubeconfig()).unwrap();
        file
    }

    fn kubeconfig_of(&self, token: &str) -> String {
        self.0.kubeconfig(token)
    }

    /// A client that may do everything.
    pub fn admin(&self) -> Client {
        self.client(ADMIN)
    }

    /// A client with the rights of the chart's service account.
    pub fn operator(&self) -> Client {
        self.client(OPERATOR)
    }

    /// The same, and it hands on that the server wants to be asked later.
    pub fn admin_without_retries(&self) -> Client {
        let mut config = self.config(ADMIN);
        config.default_retry = false;
        Client::try_from(config).unwrap()
    }

    fn client(&self, token: &str) -> Client {
        Client::try_from(self.config(token)).unwrap()
    }

    fn config(&self, token: &str) -> Config {
        let mut config = Config::new(self.0.url().parse().unwrap());
        config.accept_invalid_certs = true;
        config.auth_info.token = Some(token.to_owned().into());
        config
    }
}

/// Installs the definition and waits until the API server serves it.
pub async fn install_crd(client: &Client, crd: CustomResourceDefinition) {
    let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
    let name = crd.name_any();
    let applied = crds.patch(&name, &PatchParams::apply("test"), &Patch::Apply(crd)).await;
    applied.expect("the API server takes the resource definition");
    wait_for(&crds, &name, conditions::is_crd_established()).await;
}

/// The chart.
pub const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/flashsale-operator");

/// Runs helm, and returns what it printed.
pub fn helm(arguments: &[&str]) -> Vec<u8> {
    run_helm(arguments).unwrap_or_else(|error| panic!("{error}"))
}

/// Runs helm, which may fail, and returns what it printed.
pub fn run_helm(arguments: &[&str]) -> Result<Vec<u8>, String> {
    run_program("helm", arguments)
}

/// Runs helm or helm3, which may fail, and returns what it printed.
pub fn run_program(name: &str, arguments: &[&str]) -> Result<Vec<u8>, String> {
    let own = cluster_programs().join(name);
    let helm = if own.exists() { own } else { PathBuf::from(name) };
    let output = Command::new(helm).args(arguments).output().expect("helm runs");
    let error = || String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() { Ok(output.stdout) } else { Err(error()) }
}

/// The rights in the chart, as helm renders them.
async fn grant_rights(client: &Client, values: &[&str]) {
    let template = ["template", "flashsale-operator", CHART, "--namespace", SYSTEM];
    let rbac = ["--show-only", "templates/rbac.yaml"];
    let set = values.iter().flat_map(|value| ["--set", value]).collect::<Vec<_>>();
    let rendered = helm(&[template.as_slice(), &rbac, &set].concat());
    for document in serde_norway::Deserializer::from_slice(&rendered) {
        let object = DynamicObject::deserialize(document).unwrap();
        let types = object.types.clone().unwrap();
        let kind = ApiResource::from_gvk(&GroupVersionKind::try_from(&types).unwrap());
        let api: Api<DynamicObject> = match object.namespace() {
            Some(namespace) => Api::namespaced_with(client.clone(), &namespace, &kind),
            None => Api::all_with(client.clone(), &kind),
        };
        let params = PatchParams::apply("test");
        api.patch(&object.name_any(), &params, &Patch::Apply(&object)).await.unwrap();
    }
}

/// The operator's own namespace.
pub const SYSTEM: &str = "flashsale-system";

/// A client with the rights of the chart's service account.
pub async fn operator_client() -> Client {
    SERVER.get_or_init(Server::with_chart).await.operator()
}

/// A kubeconfig with the rights of the chart's service account.
pub async fn operator_kubeconfig() -> String {
    SERVER.get_or_init(Server::with_chart).await.kubeconfig_of(OPERATOR)
}

/// A kubeconfig that may do everything.
pub async fn admin_kubeconfig() -> String {
    SERVER.get_or_init(Server::with_chart).await.kubeconfig()
}

/// A client as administrator, and a namespace of this test's own.
pub async fn namespace(name: &str) -> (Client, String) {
    let client = SERVER.get_or_init(Server::with_chart).await.admin();
    create_namespace(&client, name).await;
    (client, name.to_owned())
}

/// Makes a namespace.
pub async fn create_namespace(client: &Client, name: &str) {
    let namespace = Namespace {
        metadata: kube::api::ObjectMeta {
            name: Some(name.to_owned()),
            ..kube::api::ObjectMeta::default()
        },
        ..Namespace::default()
    };
    let namespaces: Api<Namespace> = Api::all(client.clone());
    namespaces.create(&PostParams::default(), &namespace).await.unwrap();
}

/// The smallest sale that is valid.
pub fn minimal(name: &str) -> Value {
    json!({
        "apiVersion": "flashsale.dev/v1beta1",
        "kind": "FlashSale",
        "metadata": { "name": name },
        "spec": { "products": [{ "id": "1", "stock": 100 }] },
    })
}

/// Images of sales that name none.
pub fn images() -> DefaultImages {
    DefaultImages {
        app: Some("app:test".to_owned()),
        redis: Some("redis:test".to_owned()),
        postgres: Some("postgres:test".to_owned()),
    }
}

/// Applies `sale` as a user would.
pub async fn apply(client: &Client, namespace: &str, sale: &Value) -> kube::Result<FlashSale> {
    let api: Api<FlashSale> = Api::namespaced(client.clone(), namespace);
    let name = sale["metadata"]["name"].as_str().unwrap();
    let params = PatchParams::apply("kubectl").validation_strict();
    api.patch(name, &params, &Patch::Apply(sale)).await
}

/// Waits until the object fulfils `condition`, and returns it.
pub async fn wait_for<K>(api: &Api<K>, name: &str, condition: impl Condition<K>) -> K
where
    K: kube::Resource + Clone + std::fmt::Debug + Send + serde::de::DeserializeOwned + 'static,
{
    let found = tokio::time::timeout(DEADLINE, await_condition(api.clone(), name, condition)).await;
    let Ok(found) = found else {
        panic!("{name} did not get there: {:#?}", api.get_opt(name).await);
    };
    found.unwrap().unwrap_or_else(|| panic!("{name} is gone"))
}

/// Asks until there is an answer.
pub async fn eventually<T>(what: &str, ask: impl AsyncFn() -> Option<T>) -> T {
    let answer = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            // Not an interval: a slow question would leave the other tasks of this thread no time.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let answer = tokio::time::timeout(DEADLINE, answer).await;
    answer.unwrap_or_else(|_| panic!("not within {DEADLINE:?}: {what}"))
}

/// An operator with the permissions of the chart only; it stops when dropped.
pub struct Operator {
    pub metrics: Metrics,
    pub app: Arc<FakeApp>,
    pub context: Arc<Context>,
    shutdown: CancellationToken,
}

impl Operator {
    /// An operator that does not run: the test calls its steps.
    pub async fn idle() -> Self {
        Self::new(operator_client().await)
    }

    /// An operator that does not run, with these rights.
    pub fn new(client: Client) -> Self {
        let metrics = Metrics::new().unwrap();
        let app = Arc::new(FakeApp::default());
        let context =
            Context::new(client, images(), app.clone(), metrics.clone(), "test".to_owned());
        let context = Arc::new(context.with_operator_pods(Some(OperatorPods {
            namespace: SYSTEM.to_owned(),
            labels: [("app".to_owned(), "operator".to_owned())].into(),
        })));
        Self { metrics, app, context, shutdown: CancellationToken::new() }
    }

    /// A running operator.
    pub async fn start(namespace: &str) -> Self {
        Self::run(operator_client().await, Scope::of([namespace]))
    }

    /// A running operator on another server.
    pub fn run(client: Client, scope: Scope) -> Self {
        let operator = Self::new(client);
        let (context, shutdown) = (operator.context.clone(), operator.shutdown.clone());
        tokio::spawn(async move { controller::run(context, &scope, shutdown).await });
        operator
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// The seed Job, without the end of its name.
pub const SEED: &str = "Job black-friday-seed";

/// Everything that a sale with its own database consists of, by kind and name.
pub const PARTS: [&str; 17] = [
    "ConfigMap black-friday-catalog",
    "Deployment black-friday",
    SEED,
    "NetworkPolicy black-friday",
    "NetworkPolicy black-friday-db",
    "NetworkPolicy black-friday-redis",
    "PodDisruptionBudget black-friday",
    "PodDisruptionBudget black-friday-redis",
    "Secret black-friday-auth",
    "Secret black-friday-operator",
    "Secret black-friday-redis",
    "Service black-friday",
    "Service black-friday-db",
    "Service black-friday-pods",
    "Service black-friday-redis",
    "StatefulSet black-friday-db",
    "StatefulSet black-friday-redis",
];
