//! Which file imports which, and the circles among them. This module reads no files.

use std::collections::{BTreeMap, BTreeSet};

use super::source::{FileId, ModuleId, Tree};

/// How many `use` items deep a name is followed. A `use` may name itself: `use redis;`.
const DEPTH: usize = 8;

/// The paths by which a file imports another, and the first line of each.
pub type Reasons = BTreeMap<String, usize>;

/// Every import between two files of a target.
#[derive(Debug)]
pub struct Graph {
    /// The reasons, by importing and imported file.
    pub imports: BTreeMap<(FileId, FileId), Reasons>,
}

impl Graph {
    /// Resolves every path that the modules name.
    pub fn of(tree: &Tree) -> Self {
        let mut imports: BTreeMap<(FileId, FileId), Reasons> = BTreeMap::new();
        for (id, module) in tree.modules.iter().enumerate() {
            let used = module
                .imports
                .iter()
                .map(|import| (&import.reference, if import.alias.is_none() { "::*" } else { "" }));
            let named = module.paths.iter().map(|reference| (reference, ""));
            for (reference, glob) in used.chain(named) {
                let Some((target, _)) = resolve(tree, id, &reference.segments, DEPTH) else {
                    continue;
                };
                let target = tree.modules[target].file;
                if target != module.file {
                    let reasons = imports.entry((module.file, target)).or_default();
                    let path = reference.segments.join("::") + glob;
                    let line = reasons.entry(path).or_insert(reference.line);
                    *line = reference.line.min(*line);
                }
            }
        }
        Self { imports }
    }

    /// The groups of files that import each other, directly or through others.
    pub fn circles(&self) -> Vec<BTreeSet<FileId>> {
        let files: BTreeSet<FileId> = self.imports.keys().map(|&(from, _)| from).collect();
        let reached: BTreeMap<FileId, BTreeSet<FileId>> =
            files.iter().map(|&file| (file, self.reached_from(file))).collect();
        let mut circles: Vec<BTreeSet<FileId>> = Vec::new();
        for (&file, others) in &reached {
            if !others.contains(&file) || circles.iter().any(|circle| circle.contains(&file)) {
                continue;
            }
            let back = |other: &&FileId| reached.get(other).is_some_and(|all| all.contains(&file));
            circles.push(others.iter().filter(back).copied().collect());
        }
        circles
    }

    fn reached_from(&self, start: FileId) -> BTreeSet<FileId> {
        let mut reached = BTreeSet::new();
        let mut next = vec![start];
        while let Some(file) = next.pop() {
            let imported = self.imports.range((file, 0)..=(file, FileId::MAX));
            next.extend(imported.map(|(&(_, to), _)| to).filter(|&to| reached.insert(to)));
        }
        reached
    }
}

/// The deepest module that a path names from within a module, and how many segments name it.
/// A name that the module imports from elsewhere ends there: the path depends on that import.
fn resolve(
    tree: &Tree,
    from: ModuleId,
    path: &[String],
    depth: usize,
) -> Option<(ModuleId, usize)> {
    let first = path.first()?;
    let (mut module, mut used) = match first.as_str() {
        "crate" => (0, 1),
        "self" => (from, 1),
        "super" => (from, 0),
        name => (named(tree, from, name, depth)?, 1),
    };
    while let Some(segment) = path.get(used) {
        let next = match segment.as_str() {
            "super" => tree.modules[module].parent,
            name => tree.modules[module].children.get(name).copied(),
        };
        let Some(next) = next else { break };
        module = next;
        used += 1;
    }
    Some((module, used))
}

/// The module that a name in scope stands for.
fn named(tree: &Tree, module: ModuleId, name: &str, depth: usize) -> Option<ModuleId> {
    let depth = depth.checked_sub(1)?;
    let scope = &tree.modules[module];
    if let Some(&child) = scope.children.get(name) {
        return Some(child);
    }
    let whole = |path: &[String]| {
        let (target, used) = resolve(tree, module, path, depth)?;
        (used == path.len()).then_some(target)
    };
    let mut imports = scope.imports.iter();
    imports.find_map(|import| match &import.alias {
        Some(alias) if alias == name => whole(&import.reference.segments),
        Some(_other) => None,
        None => whole(&import.reference.segments)
            .and_then(|glob| tree.modules[glob].children.get(name).copied()),
    })
}
