//! The chart's dashboards: every query of every panel, and what its unit says about the result.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::programs::repository;
use crate::prometheus::{Prometheus, Sample};

/// The smallest step of each query: the chart replaces it with `monitoring.interval`, from which Grafana computes
/// `$__rate_interval`.
const STEP: &str = "15s";
/// Points of a graph, from which Grafana computes `$__interval`.
const POINTS: f64 = 900.0;
/// Seconds that a request, an acquisition or a reconcile may take.
const SECONDS: std::ops::Range<f64> = 0.0..60.0;
/// Bytes that a process of the project has in memory.
const BYTES: std::ops::Range<f64> = 1e6..1e11;
/// Events a second.
const RATE: std::ops::Range<f64> = 0.0..1e6;
/// Processors that a replica can use.
const PROCESSORS: std::ops::RangeInclusive<f64> = 0.0..=64.0;

/// A dashboard.
#[derive(Debug)]
pub struct Dashboard {
    /// The name of its file.
    pub name: String,
    /// The document.
    pub document: Value,
    /// Its panels, without the headings of rows.
    pub panels: Vec<Panel>,
}

/// A panel.
#[derive(Debug)]
pub struct Panel {
    /// The title.
    pub title: String,
    /// Grafana's name of the unit.
    pub unit: String,
    /// The queries.
    pub targets: Vec<Target>,
}

/// A query of a panel.
#[derive(Debug)]
pub struct Target {
    /// In `PromQL`, with Grafana's variables.
    pub expr: String,
    /// How a series is named.
    pub legend: String,
}

/// What the variables of a dashboard are replaced with: pairs of `$name` and value.
#[derive(Debug, Clone)]
pub struct Variables(Vec<(String, String)>);

impl Variables {
    /// The expression that Grafana sends.
    #[must_use]
    pub fn fill(&self, expr: &str) -> String {
        self.0.iter().fold(expr.to_owned(), |expr, (name, value)| expr.replace(name, value))
    }
}

impl Dashboard {
    /// All dashboards of the chart.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn all() -> Result<Vec<Self>> {
        let folder = repository().join("charts/flashsale-operator/dashboards");
        let mut paths: Vec<_> =
            std::fs::read_dir(folder)?.map(|file| Ok(file?.path())).collect::<Result<_>>()?;
        paths.sort();
        paths.iter().map(|path| Self::read(path)).collect()
    }

    fn read(path: &Path) -> Result<Self> {
        let document: Value = serde_json::from_str(&std::fs::read_to_string(path)?)?;
        let panels = document["panels"].as_array().context("no panels")?;
        let panels = panels.iter().filter(|it| !is_row(it)).map(panel).collect::<Result<_>>()?;
        let name = path.file_stem().context("a file without a name")?;
        Ok(Self { name: name.to_string_lossy().into_owned(), document, panels })
    }

    /// All queries.
    pub fn queries(&self) -> impl Iterator<Item = (&Panel, &Target)> {
        self.panels.iter().flat_map(|panel| panel.targets.iter().map(move |target| (panel, target)))
    }

    /// What Grafana puts in the place of the variables: the value that a user picks (`wanted`), or all.
    ///
    /// # Errors
    /// When the query of a variable has no such value.
    pub async fn variables(&self, prometheus: &Prometheus, wanted: &[&str]) -> Result<Variables> {
        let interval = rate_interval(&self.document, Prometheus::SCRAPE_INTERVAL)?;
        let mut variables = Variables(vec![("$__rate_interval".to_owned(), interval)]);
        let list = self.document["templating"]["list"].as_array().context("no variables")?;
        for variable in list.iter().filter(|variable| variable["type"] == "query") {
            let name = variable["name"].as_str().context("a variable without a name")?;
            let query =
                variable["query"]["query"].as_str().context("a variable without a query")?;
            let arguments = query.strip_prefix("label_values(").and_then(|it| it.strip_suffix(')'));
            let arguments = arguments.with_context(|| format!("{query} is not label_values"))?;
            let (selector, label) = arguments.rsplit_once(", ").context("label_values")?;
            let values = prometheus.label_values(&variables.fill(selector), label).await?;
            ensure!(!values.is_empty(), "${name} of {} has no value: {query}", self.name);
            let value = if variable["includeAll"] == true {
                variable["allValue"].as_str().context("a variable without allValue")?
            } else {
                let picked = wanted.iter().find(|value| values.iter().any(|it| it == *value));
                picked.with_context(|| format!("${name} of {} is one of {values:?}", self.name))?
            };
            variables.0.push((format!("${name}"), value.to_owned()));
        }
        Ok(variables)
    }

    /// The queries that return no data, or data that their unit cannot have.
    ///
    /// # Errors
    /// When Prometheus refuses a query.
    pub async fn faults(
        &self,
        prometheus: &Prometheus,
        variables: &Variables,
    ) -> Result<Vec<String>> {
        let mut faults = Vec::new();
        for (panel, target) in self.queries() {
            let samples = prometheus.query(&variables.fill(&target.expr)).await?;
            if let Err(fault) = panel.check(target, &samples) {
                faults.push(format!("{}/{} ({}): {fault}", self.name, panel.title, target.legend));
            }
        }
        Ok(faults)
    }

    /// Writes the document as a file of a folder, with the data of each query over the last seconds as `series`: what
    /// `tests/monitoring/draw.py` draws.
    ///
    /// # Errors
    /// When Prometheus refuses a query, or the file cannot be written.
    pub async fn record(
        &self,
        prometheus: &Prometheus,
        variables: &Variables,
        seconds: u32,
        folder: &Path,
    ) -> Result<()> {
        let mut document = self.document.clone();
        let panels = document["panels"].as_array_mut().context("no panels")?;
        for panel in panels.iter_mut().filter(|it| !is_row(it)) {
            for target in panel["targets"].as_array_mut().context("no queries")? {
                let expr = target["expr"].as_str().context("no expression")?;
                target["series"] = prometheus.range(&variables.fill(expr), seconds).await?;
            }
        }
        document["seconds"] = json!(seconds);
        std::fs::create_dir_all(folder)?;
        Ok(std::fs::write(folder.join(format!("{}.json", self.name)), document.to_string())?)
    }
}

/// `$__rate_interval` as Grafana computes it: the interval of the graph's points and one scrape, or four scrapes.
fn rate_interval(dashboard: &Value, scrape: f64) -> Result<String> {
    let from = dashboard["time"]["from"].as_str().context("no time range")?;
    let minutes = from.strip_prefix("now-").and_then(|it| it.strip_suffix('m'));
    let minutes: f64 = minutes.with_context(|| format!("{from} is not in minutes"))?.parse()?;
    let interval = (minutes * 60.0 / POINTS).max(scrape);
    Ok(format!("{:.0}ms", (interval + scrape).max(4.0 * scrape) * 1000.0))
}

/// Whether a panel is the heading of those below it.
fn is_row(panel: &Value) -> bool {
    panel["type"] == "row"
}

fn panel(panel: &Value) -> Result<Panel> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let title = text(&panel["title"]).context("a panel without a title")?;
    let unit = text(&panel["fieldConfig"]["defaults"]["unit"]);
    let unit = unit.with_context(|| format!("{title} has no unit"))?;
    ensure!(panel["description"].is_string(), "{title} has no description");
    let has_thresholds = panel["fieldConfig"]["defaults"]["thresholds"]["steps"].is_array();
    let needs_thresholds = panel["type"] == "stat";
    ensure!(
        has_thresholds || !needs_thresholds,
        "{title} has no thresholds: Grafana would show 80 and above in red"
    );
    let targets = panel["targets"].as_array().context("a panel without queries")?;
    let targets = targets.iter().map(|target| {
        let expr = text(&target["expr"]).context("a query without an expression")?;
        ensure!(target["interval"] == STEP, "a query of {title} has another interval than {STEP}");
        Ok(Target { expr, legend: text(&target["legendFormat"]).unwrap_or_default() })
    });
    let targets = targets.collect::<Result<_>>()?;
    Ok(Panel { title, unit, targets })
}

impl Panel {
    fn check(&self, target: &Target, samples: &[Sample]) -> Result<()> {
        let values: Vec<f64> =
            samples.iter().map(|it| it.value).filter(|value| !value.is_nan()).collect();
        ensure!(!values.is_empty(), "no data");
        for label in target.labels() {
            let named = samples.iter().all(|sample| sample.labels.contains_key(label));
            ensure!(named, "a series has no label {label}: {samples:?}");
        }
        let all = |fits: &dyn Fn(f64) -> bool| values.iter().all(|value| fits(*value));
        let reads = |part: &str| target.expr.contains(part);
        let is_ratio = reads(" / ");
        // A histogram has a counter of its observations.
        let is_counter = reads("_total") || reads("_count{");
        let fits = match &*self.unit {
            "s" => reads("_seconds") && all(&|it| SECONDS.contains(&it)),
            "reqps" | "ops" => is_counter && reads("rate(") && all(&|it| RATE.contains(&it)),
            "percentunit" if is_ratio => all(&|it| (0.0..=1.0).contains(&it)),
            "percentunit" => {
                reads("rate(process_cpu_seconds_total") && all(&|it| PROCESSORS.contains(&it))
            }
            "bytes" => reads("_bytes") && all(&|it| BYTES.contains(&it)),
            "bool_yes_no" => all(&|it| it.abs() < f64::EPSILON || (it - 1.0).abs() < f64::EPSILON),
            "short" => !reads("_seconds") && !reads("_bytes") && all(&|it| it >= 0.0),
            unit => anyhow::bail!("unknown unit {unit}"),
        };
        ensure!(fits, "{values:?} are not of the unit {}", self.unit);
        Ok(())
    }
}

impl Target {
    /// The labels that the legend shows, such as `outcome` of `order {{outcome}}`.
    fn labels(&self) -> impl Iterator<Item = &str> {
        self.legend.split("{{").skip(1).filter_map(|part| part.split("}}").next())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_range_of_rates_is_grafana_s() {
        let dashboard = |from: &str| json!({ "time": { "from": from } });
        assert_eq!(rate_interval(&dashboard("now-30m"), 0.5).unwrap(), "2500ms");
        assert_eq!(rate_interval(&dashboard("now-5m"), 15.0).unwrap(), "60000ms");
        assert!(rate_interval(&dashboard("now-1d"), 15.0).is_err());
    }

    #[test]
    fn a_number_has_thresholds_of_its_own() {
        let stat = |defaults: Value| {
            let field = json!({ "defaults": defaults });
            panel(&json!({
                "type": "stat", "title": "Sold", "description": "Units", "targets": [], "fieldConfig": field
            }))
        };
        let steps = json!([{ "color": "green", "value": null }]);
        stat(json!({ "unit": "short", "thresholds": { "steps": steps } })).unwrap();
        assert!(stat(json!({ "unit": "short" })).is_err());
    }

    #[test]
    fn each_query_has_the_step_that_the_chart_replaces() {
        let of = |target: Value| {
            panel(&json!({
                "type": "timeseries", "title": "Sold", "description": "Units", "targets": [target],
                "fieldConfig": { "defaults": { "unit": "short" } }
            }))
        };
        of(json!({ "expr": "up", "interval": "15s" })).unwrap();
        assert!(of(json!({ "expr": "up" })).is_err());
        Dashboard::all().unwrap();
    }

    #[test]
    fn data_of_another_unit_are_found() {
        let check = |unit: &str, expr: &str, legend: &str, value: f64| {
            let panel = Panel { title: String::new(), unit: unit.to_owned(), targets: Vec::new() };
            let target = Target { expr: expr.to_owned(), legend: legend.to_owned() };
            let labels = [("a".to_owned(), "b".to_owned())].into();
            panel.check(&target, &[Sample { labels, value }])
        };
        check("s", "x_seconds", "of {{a}}", 0.1).unwrap();
        check("ops", "rate(x_seconds_count{}[1m])", "", 1.0).unwrap();
        assert!(check("s", "x_seconds", "", 100.0).is_err());
        assert!(check("s", "x_seconds", "", f64::NAN).is_err());
        assert!(check("s", "x_total", "", 0.1).is_err());
        assert!(check("s", "x_seconds", "{{other}}", 0.1).is_err());
        assert!(check("percentunit", "a / b", "", 1.1).is_err());
        assert!(check("ops", "x_total", "", 1.0).is_err());
    }
}
