//! The load Job: started, followed, and its verdict read.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::{AsyncBufReadExt, StreamExt, TryStreamExt};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;
use kube::api::{DynamicObject, LogParams, Patch, PatchParams};
use kube::runtime::{WatchStreamExt, watcher};
use serde_json::{Value, json};

use crate::manifest::{objects, read};
use crate::shop::{SALE, Shop, Stores};
use crate::wait::{unbroken, within};

const SCENARIO: &str = "scenario";
const SUSTAINED: &str = "load/scenarios/sustained.yaml";
/// Of the samples.
const NODES: usize = 5;
/// A kubelet whose API server was away asks for its pods again after up to a minute.
const START: Duration = Duration::from_mins(3);
const RUN: Duration = Duration::from_mins(4);

/// A load Job that was started.
pub struct Load<'a> {
    pub(crate) shop: &'a Shop,
    job: String,
}

/// The last line of the Job's output.
#[derive(Clone, Debug)]
pub struct Verdict(pub(crate) Value);

impl Verdict {
    /// The verdict must be PASS.
    ///
    /// # Errors
    /// With the whole report, when it is not.
    pub fn must_pass(&self) -> Result<()> {
        ensure!(self.0["verdict"] == "PASS", "the load's verdict: {:#}", self.0);
        Ok(())
    }

    /// Everything must hold but that everybody buys: those who bought nothing were refused for good, with this code. Returns
    /// how many they were.
    ///
    /// # Errors
    /// With the whole report, when something else is wrong.
    pub fn must_refuse_the_others_with(&self, code: &str) -> Result<i64> {
        let Self(it) = self;
        let wrong = it["wrong"].as_array().context("a verdict without a list of what is wrong")?;
        let failed = it["failed"].as_object().context("a verdict without those who failed")?;
        // Both rows compare those who bought with all who came.
        let is_expected = |name: &Value| name == "sold" || name == "success rate";
        ensure!(wrong.iter().all(is_expected), "the load's verdict: {it:#}");
        ensure!(failed.keys().all(|reason| reason == code), "the load's verdict: {it:#}");
        Ok(failed.get(code).and_then(Value::as_i64).unwrap_or_default())
    }

    /// Units that the buyers were sold.
    ///
    /// # Errors
    /// When the verdict does not say it.
    pub fn sold(&self) -> Result<i64> {
        self.0["sold"].as_i64().context("a verdict without what was sold")
    }
}

impl Shop {
    /// Starts a load Job from its manifest and waits until it runs. A `scenario` file (from the checkout's
    /// root) takes the place of the one that the manifest names.
    ///
    /// # Errors
    /// When the manifest is refused or the pod does not start.
    pub async fn start_load(&self, manifest: &str, scenario: Option<&str>) -> Result<Load<'_>> {
        let mut job = read_job(manifest)?;
        if let Some(scenario) = scenario {
            self.give_scenario(&mut job, read(scenario)?).await?;
        }
        self.run_job(&job).await
    }

    /// Starts the load Job of a manifest under a name of its own.
    ///
    /// # Errors
    /// When the manifest is refused or the pod does not start.
    pub(crate) async fn start_load_as(&self, name: &str, manifest: &str) -> Result<Load<'_>> {
        let mut job = read_job(manifest)?;
        job.metadata.name = Some(name.to_owned());
        if self.stores.nodes != NODES {
            let nodes = format!("\nnodes: {}", self.stores.nodes);
            let scenario = read(SUSTAINED)?.replace(&format!("\nnodes: {NODES}"), &nodes);
            self.give_scenario(&mut job, scenario).await?;
        }
        reach(&mut job, self.stores)?;
        self.run_job(&job).await
    }

    async fn run_job(&self, job: &DynamicObject) -> Result<Load<'_>> {
        let name = job.name_any();
        let parameters = PatchParams::apply("flashsale-tests").force();
        self.api::<Job>().patch(&name, &parameters, &Patch::Apply(&job)).await?;
        let load = Load { shop: self, job: name };
        within(START, "the load to start", load.started_pod()).await?;
        Ok(load)
    }

    async fn give_scenario(&self, job: &mut DynamicObject, scenario: String) -> Result<()> {
        let map = ConfigMap {
            metadata: ObjectMeta { name: Some(SCENARIO.to_owned()), ..ObjectMeta::default() },
            data: Some([("scenario.yaml".to_owned(), scenario)].into()),
            ..ConfigMap::default()
        };
        let parameters = PatchParams::apply("flashsale-tests").force();
        self.api::<ConfigMap>().patch(SCENARIO, &parameters, &Patch::Apply(&map)).await?;
        let pod = &mut job.data["spec"]["template"]["spec"];
        pod["volumes"] = json!([{"name": "scenario", "configMap": {"name": SCENARIO}}]);
        let container = &mut pod["containers"][0];
        container["volumeMounts"] = json!([{"name": "scenario", "mountPath": "/scenario"}]);
        let file = "/scenario/scenario.yaml";
        let args = ["run", "--scenario-file", file, "--wait-seconds", "30", "--targets", "report"];
        container["args"] = json!(args);
        Ok(())
    }
}

/// The Job of a manifest, with the image of this run.
fn read_job(manifest: &str) -> Result<DynamicObject> {
    let mut job = objects(manifest)?.pop().context("an empty manifest")?;
    let container = &mut job.data["spec"]["template"]["spec"]["containers"][0];
    if let Ok(image) = std::env::var("FLASHSALE_LOAD_IMAGE") {
        container["image"] = image.into();
    }
    // A test judges what was sold; how fast, it only reports: machines differ.
    let args = container["args"].as_array_mut().context("the load has no args")?;
    args.extend(["--targets".into(), "report".into()]);
    Ok(job)
}

/// Lets the Job reach other stores than five nodes without TLS, as `docs/OPERATIONS.md` says.
fn reach(job: &mut DynamicObject, stores: Stores) -> Result<()> {
    let pod = &mut job.data["spec"]["template"]["spec"];
    let container = &mut pod["containers"][0];
    let env = container["env"].as_array_mut().context("the load has no env")?;
    let mut nodes = env.iter_mut().filter(|variable| variable["name"] == "REDIS_NODES");
    let nodes = nodes.next().context("the load has no REDIS_NODES")?;
    let all = nodes["value"].as_str().context("REDIS_NODES without a value")?;
    let read: Vec<&str> = all.split(',').take(stores.nodes).collect();
    nodes["value"] = read.join(",").into();
    if let Some(secret) = stores.database {
        let uri = env.iter_mut().find(|variable| variable["name"] == "DATABASE_URL");
        let uri = uri.context("the load has no DATABASE_URL")?;
        uri["valueFrom"]["secretKeyRef"]["name"] = secret.into();
    }
    if stores.tls {
        for file in ["REDIS_CA_FILE", "DATABASE_CA_FILE"] {
            env.push(json!({ "name": file, "value": "/etc/stores/ca.crt" }));
        }
        container["volumeMounts"] = json!([{ "name": "stores", "mountPath": "/etc/stores" }]);
        let authority = json!([{ "key": "ca.crt", "path": "ca.crt" }]);
        let secret = json!({ "secretName": format!("{SALE}-stores-tls"), "items": authority });
        pod["volumes"] = json!([{ "name": "stores", "secret": secret }]);
    }
    Ok(())
}

impl Load<'_> {
    pub(crate) async fn started_pod(&self) -> Result<String> {
        let ours = watcher::Config::default().labels(&format!("job-name={}", self.job));
        let mut pods = unbroken(watcher(self.shop.api::<Pod>(), ours).applied_objects());
        while let Some(pod) = pods.next().await {
            let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
            if phase.is_some_and(|phase| phase != "Pending") {
                return Ok(pod.name_any());
            }
        }
        anyhow::bail!("the watch ended")
    }

    /// Follows the Job to its end, shows what it prints, and gives its verdict.
    ///
    /// # Errors
    /// When it takes longer than some minutes or prints no verdict.
    pub async fn verdict(self) -> Result<Verdict> {
        within(RUN, "the verdict of the load", async {
            let pod = self.started_pod().await?;
            let follow = LogParams { follow: true, ..LogParams::default() };
            let mut lines = self.shop.api::<Pod>().log_stream(&pod, &follow).await?.lines();
            let mut verdict = None;
            while let Some(line) = lines.try_next().await? {
                match serde_json::from_str::<Value>(&line) {
                    Ok(json) if json["verdict"].is_string() => verdict = Some(Verdict(json)),
                    _ => println!("{line}"),
                }
            }
            verdict.context("the load printed no verdict")
        })
        .await
    }
}
