//! The operator as a bundle of the Operator Lifecycle Manager (OLM), in the format `registry+v1`: the chart's objects
//! as OLM installs them.

mod chart;
mod service_version;
#[cfg(test)]
mod tests;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use self::chart::{Chart, read};
use crate::install::RELEASE;
use crate::shell::{command, complaints, repository, say};
use crate::tools;

/// The generated bundle, from the checkout's root.
pub const FOLDER: &str = "bundle";
/// The generated definition, from the checkout's root.
const DEFINITION: &str = "crds/flashsale.yaml";
/// The sale that a console shows first, from the checkout's root.
const SALE: &str = "manifests/samples/black-friday.yaml";
/// Of the catalog: no release is stable yet.
const CHANNEL: &str = "candidate";
/// The image of the tests that `operator-sdk scorecard` runs, and their names after their suites.
const SCORECARD: &str = "operator-framework/scorecard-test:v1.42.0";
const SCORECARD_TESTS: [(&str, &str); 6] = [
    ("basic", "basic-check-spec"),
    ("olm", "olm-bundle-validation"),
    ("olm", "olm-crds-have-validation"),
    ("olm", "olm-crds-have-resources"),
    ("olm", "olm-spec-descriptors"),
    ("olm", "olm-status-descriptors"),
];
/// What the bundle says about itself, in a file and as labels of its image.
const LABELS: [(&str, &str); 8] = [
    ("operators.operatorframework.io.bundle.mediatype.v1", "registry+v1"),
    ("operators.operatorframework.io.bundle.manifests.v1", "manifests/"),
    ("operators.operatorframework.io.bundle.metadata.v1", "metadata/"),
    ("operators.operatorframework.io.bundle.package.v1", RELEASE),
    ("operators.operatorframework.io.bundle.channels.v1", CHANNEL),
    ("operators.operatorframework.io.bundle.channel.default.v1", CHANNEL),
    ("operators.operatorframework.io.test.mediatype.v1", "scorecard+v1"),
    ("operators.operatorframework.io.test.config.v1", "tests/scorecard/"),
];
/// What operator-verify says about its own option for the rules of public catalogs.
const NO_FINDING: &str = "validator is deprecated";

/// Options of `cargo xtask bundle`.
#[derive(clap::Args)]
pub struct Options {
    /// The folder to write to.
    folder: PathBuf,
    /// A value of the chart, as in `helm --set`; can be repeated. For example `imageRegistry=REGISTRY`
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

/// `cargo xtask bundle`.
pub fn run(options: &Options) -> Result<ExitCode> {
    let folder = std::path::absolute(&options.folder)?;
    let definition = std::fs::read_to_string(repository().join(DEFINITION)).context(DEFINITION)?;
    for (path, content) in files(&definition, &options.set)? {
        let file = folder.join(path);
        if let Some(folder) = file.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(&file, content).with_context(|| file.display().to_string())?;
    }
    verify(&folder)?;
    say(&format!("wrote {}", folder.display()));
    Ok(ExitCode::SUCCESS)
}

/// Every file of the bundle, from its folder, and what belongs in it: by the definition as YAML, and values of the chart.
pub fn files(definition: &str, values: &[String]) -> Result<Vec<(String, String)>> {
    // The chart puts its registry before the image of its own tests: before that of the scorecard as well.
    let test = format!("test.image={SCORECARD}");
    let chart = Chart::render(&[&[test], values].concat())?;
    let version = service_version::of(&chart, &serde_norway::from_str(definition)?, &read(SALE)?)?;
    let test = chart.object("Pod", &format!("{RELEASE}-test"))?;
    let scorecard = scorecard(&test["spec"]["containers"][0]["image"]);
    let labels: Value = LABELS.into_iter().collect();
    let annotations = json!({"annotations": labels});
    let mut files = vec![
        ("Dockerfile".to_owned(), dockerfile()?),
        ("metadata/annotations.yaml".to_owned(), serde_norway::to_string(&annotations)?),
        ("tests/scorecard/config.yaml".to_owned(), serde_norway::to_string(&scorecard)?),
        (manifest("flashsale", "CustomResourceDefinition"), definition.to_owned()),
        (manifest(RELEASE, "ClusterServiceVersion"), serde_norway::to_string(&version)?),
    ];
    for object in &chart.objects {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let kind = object["kind"].as_str().unwrap_or_default();
        // OLM makes the operator's own role and its service account, and leaves out what some of its versions refuse.
        let is_part = match kind {
            "ClusterRole" => name != RELEASE,
            "PodDisruptionBudget" | "Service" => true,
            _ => false,
        };
        if is_part {
            files.push((manifest(name, kind), serde_norway::to_string(object)?));
        }
    }
    Ok(files)
}

/// Judges a bundle with the validators of the Operator Framework.
pub fn verify(folder: &Path) -> Result<()> {
    tools::ensure_operator_verify()?;
    let options = ["manifests", "--operatorhub_validate", "--object_validate"];
    // It succeeds whatever it finds.
    let found = complaints(command("operator-verify").args(options).arg(folder))?;
    let found: Vec<&str> = found.lines().filter(|line| !line.contains(NO_FINDING)).collect();
    ensure!(found.is_empty(), "{}:\n{}", folder.display(), found.join("\n"));
    Ok(())
}

fn manifest(name: &str, kind: &str) -> String {
    format!("manifests/{name}.{}.yaml", kind.to_lowercase())
}

fn scorecard(image: &Value) -> Value {
    let test = |(suite, name): (&str, &str)| {
        json!({
            "image": image,
            "entrypoint": ["scorecard-test", name],
            "labels": {"suite": suite, "test": format!("{name}-test")},
        })
    };
    json!({
        "apiVersion": "scorecard.operatorframework.io/v1alpha3",
        "kind": "Configuration",
        "metadata": {"name": "config"},
        "stages": [{"parallel": true, "tests": SCORECARD_TESTS.map(test)}],
    })
}

/// The bundle's image: files alone.
fn dockerfile() -> Result<String> {
    let mut text = "FROM scratch\n".to_owned();
    for (label, value) in LABELS {
        writeln!(text, "LABEL {label}={value}")?;
    }
    for folder in ["manifests", "metadata", "tests/scorecard"] {
        writeln!(text, "COPY {folder} /{folder}/")?;
    }
    Ok(text)
}
