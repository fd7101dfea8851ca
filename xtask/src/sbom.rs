//! `cargo xtask sbom`: a bill of materials for each program that users get, as `CycloneDX` JSON: the crates that are
//! linked into it. `cargo tree` names them. `cargo metadata`, which `cargo cyclonedx` and others read, also names crates
//! of features that are off (`sqlx-mysql`, `x509-parser`), in which scanners would find weaknesses.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::binaries::{IN_IMAGES, target_folder};
use crate::packages;
use crate::plugin;
use crate::shell::{cargo, command, output, print, repository};

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Options of `cargo xtask sbom`.
#[derive(clap::Args)]
pub struct Options {
    /// Where the documents are written (default: `target/sbom`).
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
}

/// `cargo xtask sbom`: prints the path of each document.
pub fn run(options: &Options) -> Result<ExitCode> {
    let folder = options.out.clone().unwrap_or_else(|| target_folder().join("sbom"));
    for file in write(&folder)? {
        print(&file.display().to_string());
    }
    Ok(ExitCode::SUCCESS)
}

/// Checks the documents by the official schema.
pub fn check() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let files = write(folder.path())?;
    let tests = repository().join("tests/sbom");
    let python = packages::ensure_python("sbom", &tests.join("requirements.txt"))?;
    output(command(python).arg(tests.join("validate.py")).args(files)).map(drop)
}

fn programs() -> impl Iterator<Item = &'static str> {
    IN_IMAGES.into_iter().chain([plugin::PROGRAM])
}

fn write(folder: &Path) -> Result<Vec<PathBuf>> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let mut files = Vec::new();
    for program in programs() {
        let file = folder.join(format!("{program}.cdx.json"));
        let text = serde_json::to_string_pretty(&document(&tree(program)?)?)?;
        std::fs::write(&file, text + "\n")
            .with_context(|| format!("cannot write {}", file.display()))?;
        files.push(file);
    }
    Ok(files)
}

/// The program and, below it, its crates: on each line the depth, the crate and its licence.
fn tree(program: &str) -> Result<String> {
    let mut tree = cargo("tree");
    tree.args(["--package", program, "--target", TARGET, "--edges", "normal,no-proc-macro"]);
    output(tree.args(["--prefix", "depth", "--format", "\t{p}\t{l}\t"]))
}

/// The same tree gives the same document: it has no serial number and no time.
fn document(tree: &str) -> Result<Value> {
    let mut components = BTreeMap::new();
    let mut dependencies = BTreeMap::<String, BTreeSet<String>>::new();
    // From the program down to the crate of the line before.
    let mut path: Vec<String> = Vec::new();
    for line in tree.lines() {
        let (depth, purl, component) =
            component(line).with_context(|| format!("cargo tree printed: {line}"))?;
        path.truncate(depth);
        if let Some(parent) = path.last() {
            dependencies.entry(parent.clone()).or_default().insert(purl.clone());
        }
        dependencies.entry(purl.clone()).or_default();
        components.insert(purl.clone(), component);
        path.push(purl);
    }
    let program = path.first().and_then(|program| components.remove(program));
    let mut program = program.context("cargo tree printed nothing")?;
    program["type"] = json!("application");
    let components: Vec<Value> = components.into_values().collect();
    let dependencies: Vec<Value> = dependencies
        .iter()
        .map(|(purl, others)| json!({ "ref": purl, "dependsOn": others }))
        .collect();
    let version = env!("CARGO_PKG_VERSION");
    let tool = json!({ "type": "application", "name": "cargo xtask sbom", "version": version });
    Ok(json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": program,
            "properties": [{ "name": "cdx:rustc:sbom:target:triple", "value": TARGET }],
            "tools": { "components": [tool] },
        },
        "components": components,
        "dependencies": dependencies,
    }))
}

/// Depth, purl and component of a line of [`tree`].
fn component(line: &str) -> Option<(usize, String, Value)> {
    let mut fields = line.split('\t');
    let (depth, package, licence) = (fields.next()?, fields.next()?, fields.next()?);
    let mut words = package.splitn(3, ' ');
    let (name, version) = (words.next()?, words.next()?.strip_prefix('v')?);
    // A crate of the workspace has a path. crates.io has others of the same name, such as `redlock`.
    let kind = if words.next().is_some() { "generic" } else { "cargo" };
    let purl = format!("pkg:{kind}/{name}@{}", version.replace('+', "%2B"));
    // Older crates write `MIT/Apache-2.0`.
    let licence = licence.split('/').map(str::trim).collect::<Vec<_>>().join(" OR ");
    let component = json!({
        "type": "library",
        "bom-ref": purl,
        "name": name,
        "version": version,
        "licenses": [{ "expression": licence }],
        "purl": purl,
    });
    Some((depth.parse().ok()?, purl, component))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::Workspace;

    #[test]
    fn a_document_lists_what_is_linked_and_nothing_else() {
        let workspace = Workspace::read().unwrap();
        for program in programs() {
            let document = document(&tree(program).unwrap()).unwrap();
            assert_eq!(document["metadata"]["component"]["name"], program);
            let components = document["components"].as_array().unwrap();
            let purl = |name: &str| {
                let found = components.iter().find(|component| component["name"] == name);
                found.map(|component| component["purl"].as_str().unwrap())
            };
            assert!(purl("tokio").unwrap().starts_with("pkg:cargo/tokio@1."), "{program}");
            let own = concat!("pkg:generic/redlock@", env!("CARGO_PKG_VERSION"));
            assert_eq!(purl("redlock"), (program == "flashsale-app").then_some(own));
            let package = workspace.packages.iter().find(|package| package.name == program);
            let dependencies = &package.unwrap().dependencies;
            for linked in dependencies.iter().filter(|dependency| dependency.kind.is_none()) {
                assert!(purl(&linked.name).is_some(), "{program}: {}", linked.name);
            }
            // Two of tests, one of build scripts, one of procedural macros, two of features that are off.
            for other in ["fantoccini", "testkit", "cc", "syn", "sqlx-mysql", "x509-parser"] {
                assert_eq!(purl(other), None, "{program}");
            }
            let here = repository().to_str().unwrap();
            assert!(
                !document.to_string().contains(here),
                "{program}: the document depends on the folder"
            );
        }
    }

    #[test]
    fn a_crate_that_is_repeated_keeps_what_it_depends_on() {
        let tree = "0\tshop v1.0.0 (/shop)\tApache-2.0\t\n\
                    1\ta v0.9.0+spec-1.1\tMIT / Apache-2.0\t\n\
                    2\tb v2.0.0\tMIT\t\n\
                    1\tb v2.0.0\tMIT\t\n\
                    1\ta v0.9.0+spec-1.1\tMIT / Apache-2.0\t (*)\n";
        let document = document(tree).unwrap();
        let (a, b) = ("pkg:cargo/a@0.9.0%2Bspec-1.1", "pkg:cargo/b@2.0.0");
        let dependencies = json!([
            { "ref": a, "dependsOn": [b] },
            { "ref": b, "dependsOn": [] },
            { "ref": "pkg:generic/shop@1.0.0", "dependsOn": [a, b] },
        ]);
        assert_eq!(document["dependencies"], dependencies);
        let components = document["components"].as_array().unwrap();
        let purls: Vec<_> = components.iter().map(|component| &component["purl"]).collect();
        assert_eq!(purls, [a, b]);
        assert_eq!(components[0]["licenses"], json!([{ "expression": "MIT OR Apache-2.0" }]));
        assert_eq!(document["metadata"]["component"]["type"], "application");
    }

    #[test]
    fn what_cargo_tree_does_not_print_is_refused() {
        assert!(document("").is_err());
        assert!(document("error").is_err());
    }
}
