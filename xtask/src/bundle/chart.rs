//! The chart: its facts, and the objects that helm renders from it.

use anyhow::{Context, Result};
use serde::Deserialize as _;
use serde_json::Value;

use crate::install::{CHART, RELEASE};
use crate::shell::{command, output, repository};
use crate::tools;

/// Labels that say that helm manages an object.
const LABELS_OF_HELM: [&str; 2] = ["app.kubernetes.io/managed-by", "helm.sh/chart"];

/// The chart with some values.
pub struct Chart {
    /// `Chart.yaml`.
    pub facts: Value,
    /// What helm renders, without namespaces and labels of helm.
    pub objects: Vec<Value>,
}

impl Chart {
    /// Renders the chart with these values, as in `--set`.
    pub fn render(values: &[String]) -> Result<Self> {
        tools::ensure_helm()?;
        // Cluster-wide objects have no namespace in their names in a namespace with the name of the release.
        let rendered = output(
            command("helm")
                .args(["template", RELEASE, CHART, "--namespace", RELEASE])
                .args(values.iter().flat_map(|value| ["--set", value])),
        )?;
        let mut objects = Vec::new();
        for document in serde_norway::Deserializer::from_str(&rendered) {
            let mut object = Value::deserialize(document).context("helm rendered no YAML")?;
            take_from_helm(&mut object);
            objects.push(object);
        }
        Ok(Self { facts: read(&format!("{CHART}/Chart.yaml"))?, objects })
    }

    /// A text of `Chart.yaml`.
    pub fn fact(&self, name: &str) -> Result<&str> {
        self.facts[name].as_str().with_context(|| format!("Chart.yaml has no {name}"))
    }

    /// An annotation of `Chart.yaml` for Artifact Hub.
    pub fn annotation(&self, name: &str) -> Result<&str> {
        let annotation = &self.facts["annotations"][format!("artifacthub.io/{name}")];
        annotation.as_str().with_context(|| format!("Chart.yaml has no annotation {name}"))
    }

    /// A rendered object.
    pub fn object(&self, kind: &str, name: &str) -> Result<&Value> {
        let mut objects = self.objects.iter();
        objects
            .find(|object| object["kind"] == kind && object["metadata"]["name"] == name)
            .with_context(|| format!("with these values the chart has no {kind} {name}"))
    }
}

/// A file of the checkout with one YAML document.
pub fn read(path: &str) -> Result<Value> {
    let text = std::fs::read_to_string(repository().join(path)).with_context(|| path.to_owned())?;
    serde_norway::from_str(&text).with_context(|| format!("{path} is no YAML"))
}

fn take_from_helm(object: &mut Value) {
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else {
        return;
    };
    metadata.remove("namespace");
    if let Some(labels) = metadata.get_mut("labels").and_then(Value::as_object_mut) {
        labels.retain(|label, _| !LABELS_OF_HELM.contains(&label.as_str()));
    }
}
