//! `cargo xtask layers`: the modules of a crate form layers, and so do the crates. A module that
//! imports another is above it, so two modules that import each other, directly or through others,
//! are an error. So is a crate that depends on a crate of the project that it must not know, and a
//! file that reads the environment where settings come from the layer above.

mod crates;
mod environment;
mod graph;
mod source;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use self::graph::Graph;
use self::source::{FileId, Tree};
use crate::shell::{note, print, repository};
use crate::workspace::Workspace;

/// Options of `cargo xtask layers`.
#[derive(clap::Args)]
pub struct Options {
    /// Only the modules of the crates in these folders (default: all crates of the workspace, and
    /// their dependencies on each other).
    #[arg(value_name = "FOLDER")]
    crates: Vec<PathBuf>,
    /// Prints one line per crate, and never fails because of a circle.
    #[arg(long)]
    count: bool,
}

/// `cargo xtask layers`.
pub fn run(options: &Options) -> Result<ExitCode> {
    let mut failed = false;
    let mut report = |result: Result<()>| {
        if let Err(error) = result {
            note(format_args!("error: {error:#}"));
            failed = true;
        }
    };
    let crates = if options.crates.is_empty() {
        let workspace = Workspace::read()?;
        report(crates::check(&workspace));
        crates::with_sources(&workspace)
    } else {
        options.crates.clone()
    };
    for folder in &crates {
        if options.count {
            print(&Layers::of(folder)?.summary(folder));
        } else {
            report(check_modules(folder));
        }
    }
    Ok(if failed && !options.count { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The `layers` step of `cargo xtask test`: one result for the crates, and one for each crate's
/// modules.
pub fn check(report: &mut dyn FnMut(Result<()>)) {
    match Workspace::read() {
        Ok(workspace) => {
            report(crates::check(&workspace));
            for folder in crates::with_sources(&workspace) {
                report(check_modules(&folder));
            }
        }
        Err(error) => report(Err(error)),
    }
}

/// Prints the circles of a crate, and fails if there is one, or a file that must not read the environment.
fn check_modules(folder: &Path) -> Result<()> {
    let layers = Layers::of(folder)?;
    let summary = layers.summary(folder);
    if !layers.circles.is_empty() {
        print(layers.report().trim_end());
        bail!("{summary}");
    }
    if !layers.environment.is_empty() {
        let places = layers.environment.join(", ");
        bail!("{places}: settings come from the layer above, not from the environment");
    }
    print(&summary);
    Ok(())
}

/// What the modules of a crate import from each other.
struct Layers {
    files: usize,
    imports: usize,
    circles: Vec<Circle>,
    /// Where the environment is read and must not be, by file and line.
    environment: Vec<String>,
}

/// Files that import each other.
struct Circle {
    files: Vec<String>,
    /// Every import between two of them, as a line of text.
    imports: Vec<String>,
}

impl Layers {
    fn of(folder: &Path) -> Result<Self> {
        let folder = folder
            .canonicalize()
            .with_context(|| format!("cannot read the folder {}", folder.display()))?;
        let mut layers =
            Self { files: 0, imports: 0, circles: Vec::new(), environment: Vec::new() };
        for root in roots(&folder)? {
            layers.add(&Tree::read(&root)?, &folder);
        }
        // A library and a program of the crate may share files.
        layers.environment.sort_unstable();
        layers.environment.dedup();
        Ok(layers)
    }

    fn add(&mut self, tree: &Tree, folder: &Path) {
        let outer = folder.parent().unwrap_or(folder);
        let name = |file: usize| {
            let path = &tree.files[file];
            let shown = path.strip_prefix(repository()).or_else(|_| path.strip_prefix(outer));
            shown.unwrap_or(path).display().to_string()
        };
        let read = environment::reads(tree, folder).into_iter();
        self.environment.extend(read.map(|(file, line)| format!("{}:{line}", name(file))));
        let graph = Graph::of(tree);
        self.files += tree.files.len();
        self.imports += graph.imports.len();
        for circle in graph.circles() {
            let mut files: Vec<String> = circle.iter().copied().map(name).collect();
            files.sort_unstable();
            let imports = imports_within(&graph, &circle, name);
            self.circles.push(Circle { files, imports });
        }
    }

    fn summary(&self, folder: &Path) -> String {
        let in_circles: usize = self.circles.iter().map(|circle| circle.files.len()).sum();
        let sizes = match self.circles.len() {
            0 => "no circle".to_owned(),
            1 => format!("1 circle of {in_circles} files"),
            number => format!("{number} circles of {in_circles} files in all"),
        };
        let folder = folder.strip_prefix(repository()).unwrap_or(folder).display();
        format!("{folder}: {sizes} ({} files, {} imports)", self.files, self.imports)
    }

    fn report(&self) -> String {
        let mut text = String::new();
        for circle in &self.circles {
            let _ = writeln!(text, "circle of {} files:", circle.files.len());
            for file in &circle.files {
                let _ = writeln!(text, "  {file}");
            }
            let _ = writeln!(text, "by these imports:");
            for import in &circle.imports {
                let _ = writeln!(text, "  {import}");
            }
        }
        text
    }
}

/// Every import between two files of a circle as a line of text, by file and line.
fn imports_within(
    graph: &Graph,
    circle: &BTreeSet<FileId>,
    name: impl Fn(FileId) -> String,
) -> Vec<String> {
    let inside = |file| circle.contains(file);
    let mut imports = BTreeSet::new();
    for ((from, to), reasons) in &graph.imports {
        if !inside(from) || !inside(to) {
            continue;
        }
        let line = reasons.values().min().copied().unwrap_or_default();
        let paths: Vec<&str> = reasons.keys().map(String::as_str).collect();
        let back = graph.imports.contains_key(&(*to, *from));
        let text = format!(
            "imports {} ({}){}",
            name(*to),
            paths.join(", "),
            if back { ", which imports it too" } else { "" }
        );
        imports.insert((name(*from), line, text));
    }
    imports.into_iter().map(|(file, line, text)| format!("{file}:{line} {text}")).collect()
}

/// The root files of the crate's library and binaries.
fn roots(folder: &Path) -> Result<Vec<PathBuf>> {
    let sources = folder.join("src");
    let mut candidates = vec![sources.join("lib.rs"), sources.join("main.rs")];
    if let Ok(binaries) = sources.join("bin").read_dir() {
        for binary in binaries {
            let path = binary.context("cannot read src/bin")?.path();
            candidates.push(if path.is_dir() { path.join("main.rs") } else { path });
        }
    }
    candidates.retain(|path| path.extension().is_some_and(|rs| rs == "rs") && path.exists());
    if candidates.is_empty() {
        bail!("{}: neither src/lib.rs nor src/main.rs", folder.display());
    }
    Ok(candidates)
}

#[cfg(test)]
mod tests;
