//! Where a crate reads the environment.

use std::path::Path;

use super::source::{FileId, Tree};

/// The crates by folder, and the files below it that may read the environment. What `clap` reads for a declared setting
/// does not count. Other crates are free.
const MAY_READ: &[(&str, &[&str])] = &[
    ("redlock", &[]),
    ("ledger", &[]),
    ("sale", &[]),
    ("app", &["src/config/arguments.rs"]),
    ("operator", &[]),
    ("load", &[]),
];

/// The files of the crate in this folder that read the environment and must not, with the lines.
pub fn reads(tree: &Tree, folder: &Path) -> Vec<(FileId, usize)> {
    let crate_name = folder.file_name().unwrap_or_default();
    let Some((_, allowed)) = MAY_READ.iter().find(|(known, _)| crate_name == *known) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for module in &tree.modules {
        let path = &tree.files[module.file];
        if allowed.iter().any(|file| *path == folder.join(file)) {
            continue;
        }
        let imported = module.imports.iter().map(|import| &import.reference);
        for reference in imported.chain(&module.paths) {
            if matches!(&*reference.segments, [first, second, ..] if first == "std" && second == "env")
            {
                found.push((module.file, reference.line));
            }
        }
    }
    found
}
