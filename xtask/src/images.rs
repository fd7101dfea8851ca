//! The images: built from ordinary Dockerfiles by the engine that runs (else buildah), and brought to
//! the cluster.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::binaries::{Build, IN_IMAGES, target_folder};
use crate::cluster::{Cluster, Engine, Kind};
use crate::shell::{command, output, run, say};
use crate::tools;

/// Parts whose image is changed while a sale runs.
const CHANGED: [&str; 2] = ["app", "redis"];
/// Redis and PostgreSQL of Debian: a node without a registry can't pull the usual ones.
const SERVERS: [&str; 2] = ["redis", "postgres"];

/// The images of one cluster.
#[derive(Debug)]
pub struct Images {
    prefix: String,
    build: Build,
}

impl Images {
    /// The image of a part: app, operator, load, redis, postgres.
    pub fn name(&self, part: &str) -> String {
        format!("{}/flashsale-{part}:dev", self.prefix)
    }

    /// Tells one build of the operator from another.
    pub fn operator_build(&self) -> Result<String> {
        let binary = self.build.program("flashsale-operator");
        let sum = output(command("sha256sum").arg(binary))?;
        Ok(sum.chars().take(12).collect())
    }

    /// The operator of an earlier revision.
    pub fn previous_operator(&self) -> String {
        format!("{}/flashsale-operator:previous", self.prefix)
    }

    /// Another name of the same image: a roll-out to it changes nothing but the pods.
    pub fn next(&self, part: &str) -> String {
        format!("{}/flashsale-{part}:next", self.prefix)
    }
}

#[cfg(test)]
impl Images {
    /// Names only.
    pub fn local() -> Self {
        Self { prefix: "localhost".to_owned(), build: Build::Test }
    }
}

/// Builds the image of an operator from its binary, and brings it to the cluster.
pub fn build_operator(cluster: &Cluster, binary: &Path, name: &str) -> Result<()> {
    let engine = engine(cluster);
    let context = target_folder().join("image/previous-operator");
    std::fs::create_dir_all(&context)?;
    std::fs::copy(binary, context.join("flashsale-operator"))?;
    run(image_build(engine)
        .args(["-t", name, "--build-arg", "BINARY=flashsale-operator", "-f", "Dockerfile.prebuilt"])
        .arg(context))?;
    bring(cluster, engine, &[name.to_owned()])
}

/// Builds the binaries and every image, and brings the images to the cluster.
pub fn build_and_load(cluster: &Cluster, build: Build) -> Result<Images> {
    let images = Images { prefix: prefix(cluster)?, build };
    build.run()?;

    let engine = engine(cluster);
    if engine.is_none() {
        tools::ensure_packages(tools::NODE)?;
    }
    say(&format!("building the images with {}", engine.map_or("buildah", Engine::program)));
    let mut names = Vec::new();
    let mut build_image = |part: &str, arguments: &[&str]| {
        let mut tags = vec![images.name(part)];
        tags.extend(CHANGED.contains(&part).then(|| images.next(part)));
        let options = tags.iter().flat_map(|tag| ["-t", tag]);
        run(image_build(engine).args(options).args(arguments))?;
        names.extend(tags);
        anyhow::Ok(())
    };
    for binary in IN_IMAGES {
        let context = stage(binary, build)?;
        let context = context.to_string_lossy();
        let argument = format!("BINARY={binary}");
        let arguments = ["--build-arg", &argument, "-f", "Dockerfile.prebuilt", &context];
        build_image(binary.trim_start_matches("flashsale-"), &arguments)?;
    }
    for server in SERVERS {
        build_image(server, &[&format!("tests/cluster/images/{server}")])?;
    }
    say("bringing the images to the cluster");
    bring(cluster, engine, &names)?;
    Ok(images)
}

/// What builds the images; absent: buildah.
fn engine(cluster: &Cluster) -> Option<Engine> {
    match &cluster.kind {
        Kind::InEngine(engine, _) => Some(*engine),
        Kind::Given => Engine::running(),
        Kind::OwnNode => None,
    }
}

/// A cluster that is not ours pulls from a registry that the person names.
fn prefix(cluster: &Cluster) -> Result<String> {
    match (&cluster.kind, std::env::var("FLASHSALE_REGISTRY")) {
        (Kind::Given, Ok(registry)) => Ok(registry.trim_end_matches('/').to_owned()),
        (Kind::Given, Err(_)) => bail!(
            "the cluster that KUBECONFIG names pulls its images from a registry: set \
             FLASHSALE_REGISTRY (host/path) to one that you may push to, or unset KUBECONFIG"
        ),
        _ => Ok("localhost".to_owned()),
    }
}

fn image_build(engine: Option<Engine>) -> Command {
    let mut build = engine.map_or_else(|| tools::node_script("image"), |e| command(e.program()));
    build.args(["build", "-q"]).stdout(std::process::Stdio::null());
    build
}

/// The build context of a binary: a folder with just that file.
fn stage(binary: &str, build: Build) -> Result<PathBuf> {
    let program = build.program(binary);
    let context = target_folder().join("image").join(binary);
    std::fs::create_dir_all(&context)?;
    std::fs::copy(&program, context.join(binary))
        .with_context(|| format!("cannot copy {}", program.display()))?;
    Ok(context)
}

fn bring(cluster: &Cluster, engine: Option<Engine>, names: &[String]) -> Result<()> {
    match (&cluster.kind, engine) {
        (Kind::OwnNode, _) => run(tools::node_script("image").arg("load").args(names)),
        (Kind::InEngine(engine, kind), _) => {
            names.iter().try_for_each(|name| engine.load(kind, name))
        }
        (Kind::Given, Some(engine)) => {
            names.iter().try_for_each(|name| run(command(engine.program()).args(["push", name])))
        }
        (Kind::Given, None) => run(tools::node_script("image").arg("push").args(names)),
    }
}
