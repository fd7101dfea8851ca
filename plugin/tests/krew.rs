//! The template of krew's manifest: what a release does not replace is right, and README tells what it replaces.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};

const MANIFEST: &str = include_str!("../krew.yaml");
const README: &str = include_str!("../README.md");
const VERSION: &str = env!("CARGO_PKG_VERSION");

fn manifest() -> Value {
    serde_norway::from_str(MANIFEST).unwrap()
}

/// The name of the program, as cargo builds it.
fn program() -> String {
    let path = Path::new(env!("CARGO_BIN_EXE_kubectl-flashsale"));
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

/// The system and the processor of a platform, and the platform.
fn platforms(manifest: &Value) -> Vec<(String, String, &Value)> {
    let platforms = manifest["spec"]["platforms"].as_array().unwrap().iter();
    let label = |platform: &Value, name: &str| {
        let labels = platform["selector"]["matchLabels"].as_object().unwrap();
        assert_eq!(labels.len(), 2, "{platform}");
        labels[name].as_str().unwrap().to_owned()
    };
    platforms.map(|it| (label(it, "os"), label(it, "arch"), it)).collect()
}

#[test]
fn it_is_a_plugin_of_this_version_under_the_name_of_the_program() {
    let manifest = manifest();
    assert_eq!(manifest["apiVersion"], "krew.googlecontainertools.github.com/v1alpha2");
    assert_eq!(manifest["kind"], "Plugin");
    let name = manifest["metadata"]["name"].as_str().unwrap();
    assert_eq!(format!("kubectl-{name}"), program(), "kubectl finds it by this name");
    assert_eq!(manifest["spec"]["version"], format!("v{VERSION}"));
    for text in ["shortDescription", "description", "caveats"] {
        assert!(!manifest["spec"][text].as_str().unwrap().trim().is_empty(), "{text}");
    }
}

#[test]
fn each_platform_has_an_archive_with_the_program_and_the_license() {
    let (manifest, program) = (manifest(), program());
    let platforms = platforms(&manifest);
    let names: Vec<_> =
        platforms.iter().map(|(os, arch, _)| (os.as_str(), arch.as_str())).collect();
    assert_eq!(names, [("linux", "amd64"), ("linux", "arm64"), ("darwin", "arm64")]);
    for (os, arch, platform) in platforms {
        assert_eq!(platform["bin"], program);
        let archive = format!("{program}-v{VERSION}-{os}-{arch}.tar.gz");
        assert_eq!(platform["uri"], format!("RELEASE_URL/{archive}"));
        let sum = format!("SHA256_{}_{}", os.to_uppercase(), arch.to_uppercase());
        assert_eq!(platform["sha256"], sum);
        let files = json!([{"from": program, "to": "."}, {"from": "LICENSE", "to": "."}]);
        assert_eq!(platform["files"], files);
    }
    let license = Path::new(env!("CARGO_MANIFEST_DIR")).join("../LICENSE");
    assert!(license.exists(), "{}", license.display());
    // The commands that pack them.
    let packs = format!("`tar -czf {program}-v{VERSION}-darwin-arm64.tar.gz ");
    let packed = format!("such as `{program}-v{VERSION}-linux-amd64.tar.gz`");
    for told in [packs, "`cargo xtask plugin`".to_owned(), packed] {
        assert!(README.contains(&told), "plugin/README.md lacks {told}");
    }
}

#[test]
fn what_a_release_replaces_is_documented() {
    let without_comments = MANIFEST.lines().filter(|line| !line.starts_with('#'));
    let words = without_comments.flat_map(|line| {
        line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .filter(|word| word.contains('_') && !word.contains(|c: char| c.is_ascii_lowercase()))
    });
    let placeholders: BTreeSet<&str> = words.collect();
    let (sums, others): (Vec<&str>, Vec<&str>) =
        placeholders.into_iter().partition(|word| word.starts_with("SHA256_"));
    assert_eq!((sums.len(), others), (platforms(&manifest()).len(), vec!["RELEASE_URL"]));
    let told = "replace `RELEASE_URL` and the `SHA256_*`";
    assert!(README.contains(told), "plugin/README.md lacks: {told}");
    assert_eq!(manifest()["spec"]["homepage"], "RELEASE_URL");
}
