//! Files of the checkout: manifests and load scenarios.

use std::path::Path;

use anyhow::{Context, Result};
use kube::api::DynamicObject;
use serde::Deserialize;

/// The objects of a manifest, given from the checkout's root.
///
/// # Errors
/// When the file is missing or holds something else.
pub fn objects(manifest: &str) -> Result<Vec<DynamicObject>> {
    serde_norway::Deserializer::from_str(&read(manifest)?)
        .map(|document| DynamicObject::deserialize(document).context("not an object"))
        .collect()
}

/// A file's text, given from the checkout's root.
pub(crate) fn read(file: &str) -> Result<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(file);
    std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}
