//! A namespace of its own for each test, and the sale in it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{Event, Namespace, Pod};
use kube::api::{
    ApiResource, AttachParams, DeleteParams, DynamicObject, EvictParams, GroupVersionKind,
    ListParams, LogParams, Patch, PatchParams, PostParams,
};
use kube::{Api, Client, Config, ResourceExt};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::wait::{self, within};

/// The sale of the samples and of the load Jobs.
pub const SALE: &str = "black-friday";
/// How long a sale may take to become ready: images are on the node already.
pub const READY: Duration = Duration::from_mins(3);
/// How long something may take that needs no pod to start or to end.
pub const SOON: Duration = Duration::from_mins(1);
/// How long something with pods may take to be gone: longer than the database has to end, a minute.
pub const GONE: Duration = Duration::from_mins(3);

/// Selects pods that have not ended: the kubelet removes a pod some time after its end.
pub(crate) const NOT_ENDED: &str = "status.phase!=Succeeded,status.phase!=Failed";

/// How Redis nodes and database of the sale are reached.
#[derive(Clone, Copy, Debug)]
pub struct Stores {
    /// The nodes that the load reads, from the first one on.
    pub nodes: usize,
    /// Whether `stores.tls` is on.
    pub tls: bool,
    /// The Secret of an external database.
    pub database: Option<&'static str>,
}

/// A namespace with a sale.
#[derive(Clone)]
pub struct Shop {
    pub(crate) client: Client,
    pub(crate) namespace: String,
    pub(crate) stores: Stores,
}

impl Shop {
    /// Makes an empty namespace, runs the test in it, and removes it. After a failure it first prints
    /// the state of the sale.
    ///
    /// # Errors
    /// The test's own, or when the cluster does not answer.
    pub async fn open(name: &str, test: impl AsyncFnOnce(&Self) -> Result<()>) -> Result<()> {
        let client = Client::try_default().await.context("no cluster: run cargo xtask test")?;
        let namespaces = Api::<Namespace>::all(client.clone());
        let wanted = json!({"metadata": {"generateName": format!("e2e-{name}-")}});
        let made =
            namespaces.create(&PostParams::default(), &serde_json::from_value(wanted)?).await?;
        let stores = Stores { nodes: 5, tls: false, database: None };
        let shop = Self { client, namespace: made.name_any(), stores };
        let result = test(&shop).await;
        if result.is_err()
            && let Err(error) = shop.explain().await
        {
            eprintln!("cannot say more: {error:#}");
        }
        let removed = shop.remove().await;
        result.and(removed)
    }

    /// The same namespace, with a sale whose stores are reached in another way.
    #[must_use]
    pub fn with_stores(&self, stores: Stores) -> Self {
        Self { stores, ..self.clone() }
    }

    /// Removes the namespace and waits until all of it is gone: otherwise its removal would keep the
    /// operator and the processors busy during the next test.
    async fn remove(&self) -> Result<()> {
        let namespaces = Api::<Namespace>::all(self.client.clone());
        namespaces.delete(&self.namespace, &DeleteParams::default()).await?;
        let gone = |namespace: Option<&Namespace>| namespace.is_none();
        let what = format!("namespace {} to be gone", self.namespace);
        within(GONE, &what, wait::condition(namespaces, &self.namespace, gone)).await
    }

    /// An API of this namespace.
    #[must_use]
    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// The sales of this namespace.
    #[must_use]
    pub fn sales(&self) -> Api<DynamicObject> {
        let kind = GroupVersionKind::gvk("flashsale.dev", "v1beta1", "FlashSale");
        let resource = ApiResource::from_gvk(&kind);
        Api::namespaced_with(self.client.clone(), &self.namespace, &resource)
    }

    /// Creates the sale and waits until it is ready.
    ///
    /// # Errors
    /// When the API server refuses it, or it takes longer than [`READY`].
    pub async fn open_sale(&self, sale: &DynamicObject) -> Result<()> {
        self.sales().create(&PostParams::default(), sale).await?;
        self.await_ready().await
    }

    /// Changes the sale's spec by a merge patch.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub async fn change_spec(&self, spec: Value) -> Result<DynamicObject> {
        let patch = Patch::Merge(json!({ "spec": spec }));
        Ok(self.sales().patch(SALE, &PatchParams::default(), &patch).await?)
    }

    /// Waits until the sale's status is as wanted, for the generation that is declared now.
    ///
    /// # Errors
    /// When that takes longer than `deadline`.
    pub async fn await_status(
        &self,
        what: &str,
        deadline: Duration,
        wanted: impl Fn(&Value) -> bool,
    ) -> Result<()> {
        let met = |sale: Option<&DynamicObject>| {
            sale.is_some_and(|sale| {
                let status = &sale.data["status"];
                status["observedGeneration"].as_i64() == sale.metadata.generation && wanted(status)
            })
        };
        within(deadline, what, wait::condition(self.sales(), SALE, met)).await
    }

    /// Waits until the sale is ready.
    ///
    /// # Errors
    /// When that takes longer than [`READY`].
    pub async fn await_ready(&self) -> Result<()> {
        self.await_ready_within(READY).await
    }

    /// The same after a roll-out that takes longer.
    ///
    /// # Errors
    /// When it takes longer than `deadline`.
    pub async fn await_ready_within(&self, deadline: Duration) -> Result<()> {
        self.await_status("the sale to be ready", deadline, |status| holds(status, "Ready")).await
    }

    /// `GET stock:1`, asked by `redis-cli` in the pod of a Redis node.
    ///
    /// # Errors
    /// When the pod does not run or has no such key.
    pub async fn stock_on_node(&self, node: usize) -> Result<i64> {
        let answer = self.redis_cli(node, &["GET", "stock:1"]).await?;
        answer.trim().parse().with_context(|| format!("node {node}: GET stock:1 says {answer:?}"))
    }

    /// Whether a Redis node was admitted to vote since it started, asked in its pod.
    ///
    /// # Errors
    /// When the pod does not run.
    pub async fn votes(&self, node: usize) -> Result<bool> {
        let admitted = self.redis_cli(node, &["GET", "redlock:admitted"]).await?;
        let server = self.redis_cli(node, &["INFO", "server"]).await?;
        let run_id = server.lines().find_map(|line| line.trim().strip_prefix("run_id:"));
        Ok(run_id == Some(admitted.trim()))
    }

    async fn redis_cli(&self, node: usize, command: &[&str]) -> Result<String> {
        let tls: &[&str] = if self.stores.tls { &["--tls", "--insecure"] } else { &[] };
        let command = [&["redis-cli"], tls, command].concat();
        self.exec(&format!("{SALE}-redis-{node}"), &command).await
    }

    /// Evicts a pod as a drain does: asks again until the disruption budget lets it go.
    ///
    /// # Errors
    /// When it may not go within `deadline`.
    pub async fn evict(&self, pod: &str, deadline: Duration) -> Result<()> {
        let mut config = Config::infer().await?;
        // A refusal is an answer 429, which the client would repeat after ten seconds on its own.
        config.default_retry = false;
        let pods: Api<Pod> = Api::namespaced(Client::try_from(config)?, &self.namespace);
        within(deadline, &format!("{pod} to be evicted"), async {
            loop {
                match pods.evict(pod, &EvictParams::default()).await {
                    Err(kube::Error::Api(status)) if status.code == 429 => {}
                    answer => return Ok(answer.map(drop)?),
                }
            }
        })
        .await
    }

    /// Runs a command in the first container of a pod, and returns what it printed.
    ///
    /// # Errors
    /// When the pod does not run, or the command fails.
    pub async fn exec(&self, pod: &str, command: &[&str]) -> Result<String> {
        self.exec_with_input(pod, command, "").await
    }

    /// The same, and gives the command this input.
    ///
    /// # Errors
    /// When the pod does not run, or the command fails.
    pub async fn exec_with_input(
        &self,
        pod: &str,
        command: &[&str],
        input: &str,
    ) -> Result<String> {
        let parameters = AttachParams::default().stdin(!input.is_empty()).stderr(false);
        // A connection of its own: the API server closes one on which it refused to run a command, and the pool of
        // `self.client` would give it to the next request.
        let pods = Api::<Pod>::namespaced(Client::try_default().await?, &self.namespace);
        let mut process = pods.exec(pod, command.iter().copied(), &parameters).await?;
        // Beside the output: a command that prints before it has read all, or ends before, would be waited for without end.
        let sending = process.stdin().map(|mut stdin| {
            let input = input.to_owned();
            tokio::spawn(async move {
                stdin.write_all(input.as_bytes()).await?;
                stdin.shutdown().await
            })
        });
        let mut output = String::new();
        process.stdout().context("exec without stdout")?.read_to_string(&mut output).await?;
        if let Some(sending) = sending {
            sending.abort();
        }
        let status = process.take_status();
        process.join().await?;
        if let Some(status) = status
            && let Some(status) = status.await
        {
            let failed = status.status.as_deref() == Some("Failure");
            ensure!(
                !failed,
                "{command:?} in {pod}: {output}{}",
                status.message.unwrap_or_default()
            );
        }
        Ok(output)
    }

    /// Names of the pods of one component of the sale.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub async fn pods(&self, component: &str) -> Result<Vec<String>> {
        self.pods_with(component, "").await
    }

    /// Of these, those that have not ended.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub async fn running_pods(&self, component: &str) -> Result<Vec<String>> {
        self.pods_with(component, NOT_ENDED).await
    }

    async fn pods_with(&self, component: &str, fields: &str) -> Result<Vec<String>> {
        let labels =
            format!("app.kubernetes.io/instance={SALE},app.kubernetes.io/component={component}");
        let pods = ListParams::default().labels(&labels).fields(fields);
        let pods = self.api::<Pod>().list(&pods).await?;
        Ok(pods.iter().map(ResourceExt::name_any).collect())
    }

    /// Kills a pod as a failing machine would: without time to say good-bye.
    ///
    /// # Errors
    /// When there is no such pod.
    pub async fn kill(&self, pod: &str) -> Result<()> {
        let at_once = DeleteParams::default().grace_period(0);
        self.api::<Pod>().delete(pod, &at_once).await?;
        Ok(())
    }

    /// Prints the sale, the pods and the events.
    async fn explain(&self) -> Result<()> {
        for sale in self.sales().list(&ListParams::default()).await? {
            eprintln!("{}: {:#}", sale.name_any(), sale.data["status"]);
        }
        for pod in self.api::<Pod>().list(&ListParams::default()).await? {
            let status = serde_json::to_value(&pod.status)?;
            eprintln!("{}: {} {}", pod.name_any(), status["phase"], status["containerStatuses"]);
            if status["phase"] == "Failed" {
                let log = self.api::<Pod>().logs(&pod.name_any(), &LogParams::default()).await;
                eprintln!(
                    "log of {}: {}",
                    pod.name_any(),
                    log.unwrap_or_else(|error| error.to_string())
                );
            }
        }
        for event in self.api::<Event>().list(&ListParams::default()).await? {
            let about = event.involved_object.name.unwrap_or_default();
            eprintln!("{about}: {}", event.message.unwrap_or_default());
        }
        Ok(())
    }
}

/// Whether a condition of a status is true.
#[must_use]
pub fn holds(status: &Value, condition: &str) -> bool {
    status["conditions"].as_array().is_some_and(|conditions| {
        conditions.iter().any(|c| c["type"] == condition && c["status"] == "True")
    })
}
