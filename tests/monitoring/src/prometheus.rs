//! A Prometheus that scrapes what a test says.

use std::collections::BTreeMap;
use std::fs::File;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reqwest::{Client, Url};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::chart::Rules;
use crate::exposition::Labels;
use crate::programs::{self, Version};
use crate::wait::eventually;

/// How long a start may take on a busy machine.
const START: Duration = Duration::from_mins(1);

/// What a Prometheus scrapes, as by a `ServiceMonitor` of the chart.
#[derive(Debug, Clone)]
pub struct Target {
    /// `job`: the name of the Service.
    pub job: &'static str,
    /// Addresses, `host:port`.
    pub addresses: Vec<String>,
    /// Labels of all series.
    pub labels: Value,
}

/// A value of an instant query.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// The labels.
    pub labels: Labels,
    /// The value, which may be NaN.
    pub value: f64,
}

/// A running Prometheus that scrapes twice a second; it ends when dropped.
#[derive(Debug)]
pub struct Prometheus {
    /// Its release line. Version 3 takes native histograms.
    pub version: Version,
    child: Child,
    url: Url,
    client: Client,
    folder: TempDir,
}

impl Prometheus {
    /// Seconds between two scrapes.
    pub const SCRAPE_INTERVAL: f64 = 0.5;

    /// Starts it.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn start(version: Version, targets: &[Target], rules: &Rules) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let file = |name: &str| folder.path().join(name);
        let interval = format!("{}ms", Self::SCRAPE_INTERVAL * 1000.0);
        let jobs = targets.iter().map(|target| {
            json!({
                "job_name": target.job,
                // As the chart's ServiceMonitor of the operator.
                "honor_labels": true,
                "static_configs": [{ "targets": target.addresses, "labels": target.labels }],
            })
        });
        let configuration = json!({
            "global": { "scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval },
            "rule_files": ["rules.yaml"],
            "scrape_configs": jobs.collect::<Vec<_>>(),
        });
        std::fs::write(file("prometheus.yaml"), configuration.to_string())?;
        std::fs::write(file("rules.yaml"), rules.file())?;
        let address = format!("127.0.0.1:{}", testkit::free_port()?);
        let mut command = Command::new(programs::tool(&format!("prometheus{version}"))?);
        command
            .arg(format!("--config.file={}", file("prometheus.yaml").display()))
            .arg(format!("--storage.tsdb.path={}", file("data").display()))
            .arg(format!("--web.listen-address={address}"));
        if version == Version::Three {
            command.arg("--enable-feature=native-histograms");
        }
        let log = File::create(file("log"))?;
        let child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?;
        let client = Client::builder().no_proxy().timeout(Duration::from_secs(10)).build()?;
        let url: Url = format!("http://{address}").parse()?;
        let prometheus = Self { version, child, url, client, folder };
        let ready = eventually("Prometheus is ready", START, async || {
            let answer = prometheus.client.get(prometheus.url.join("/-/ready")?).send().await?;
            Ok(answer.error_for_status()?)
        });
        let log = prometheus.folder.path().join("log");
        ready.await.with_context(|| std::fs::read_to_string(log).unwrap_or_default())?;
        Ok(prometheus)
    }

    async fn get(&self, path: &str, query: &[(&str, &str)]) -> Result<Value> {
        let mut url = self.url.join(path)?;
        url.query_pairs_mut().extend_pairs(query);
        let answer: Value = self.client.get(url).send().await?.json().await?;
        ensure!(answer["status"] == "success", "Prometheus {}: {query:?}: {answer}", self.version);
        Ok(answer["data"].clone())
    }

    /// The result of an expression now.
    ///
    /// # Errors
    /// When Prometheus refuses the expression.
    pub async fn query(&self, expression: &str) -> Result<Vec<Sample>> {
        let data = self.get("/api/v1/query", &[("query", expression)]).await?;
        let result = data["result"].as_array().context("no vector")?;
        result.iter().map(sample).collect()
    }

    /// The only value of an expression now.
    ///
    /// # Errors
    /// When it has none, or several.
    pub async fn value(&self, expression: &str) -> Result<f64> {
        match self.query(expression).await?.as_slice() {
            [sample] => Ok(sample.value),
            other => anyhow::bail!("{expression}: {other:?}"),
        }
    }

    /// The result of an expression over the last seconds, as Prometheus's API has it.
    ///
    /// # Errors
    /// As [`Prometheus::query`].
    pub async fn range(&self, expression: &str, seconds: u32) -> Result<Value> {
        let now = std::time::UNIX_EPOCH.elapsed()?.as_secs_f64();
        let (start, end) = ((now - f64::from(seconds)).to_string(), now.to_string());
        let range = [("query", expression), ("start", &start), ("end", &end), ("step", "0.5")];
        Ok(self.get("/api/v1/query_range", &range).await?["result"].clone())
    }

    /// The values of a label among the series that a selector selects, as Grafana's `label_values` asks for them.
    ///
    /// # Errors
    /// As [`Prometheus::query`].
    pub async fn label_values(&self, selector: &str, label: &str) -> Result<Vec<String>> {
        let path = format!("/api/v1/label/{label}/values");
        Ok(serde_json::from_value(self.get(&path, &[("match[]", selector)]).await?)?)
    }

    /// The alerts that fire now: the labels of each.
    ///
    /// # Errors
    /// When Prometheus does not answer.
    pub async fn firing(&self) -> Result<Vec<Labels>> {
        let data = self.get("/api/v1/alerts", &[]).await?;
        let alerts = data["alerts"].as_array().context("no alerts")?;
        let firing = alerts.iter().filter(|alert| alert["state"] == "firing");
        firing.map(|alert| Ok(serde_json::from_value(alert["labels"].clone())?)).collect()
    }

    /// The names of the alerts that fire now.
    ///
    /// # Errors
    /// When Prometheus does not answer.
    pub async fn firing_names(&self) -> Result<Vec<String>> {
        let firing = self.firing().await?;
        let mut names: Vec<_> =
            firing.into_iter().filter_map(|mut labels| labels.remove("alertname")).collect();
        names.sort();
        names.dedup();
        Ok(names)
    }

    /// Its own version, such as `2.42.0+ds`.
    ///
    /// # Errors
    /// When Prometheus does not answer.
    pub async fn build(&self) -> Result<String> {
        let build = self.get("/api/v1/status/buildinfo", &[]).await?;
        build["version"].as_str().map(str::to_owned).context("no version")
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // Nothing can be done about a process that is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn sample(result: &Value) -> Result<Sample> {
    let labels: BTreeMap<String, String> = serde_json::from_value(result["metric"].clone())?;
    let value = result["value"][1].as_str().context("no value")?;
    Ok(Sample { labels, value: value.parse()? })
}
