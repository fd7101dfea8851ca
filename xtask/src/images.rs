//! The images: built from ordinary Dockerfiles by the engine that runs (else buildah), and brought to
//! the cluster.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::binaries::{Build, IN_IMAGES, target_folder};
use crate::cluster::{Cluster, Engine, Kind};
use crate::shell::{command, output, repository, run, say};
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
    /// The end of each tag, for a cluster that is not ours.
    version: Option<String>,
}

impl Images {
    /// The image of a part: app, operator, load, redis, postgres.
    pub fn name(&self, part: &str) -> String {
        self.tagged(part, "dev", self.version.as_deref())
    }

    /// Tells one build of the operator from another.
    pub fn operator_build(&self) -> Result<String> {
        digest(&[self.build.program("flashsale-operator")])
    }

    /// The operator of an earlier revision, by its binary.
    pub fn previous_operator(&self, binary: &Path) -> Result<String> {
        let version = self.version.as_ref().map(|_| digest(&[binary.to_owned()])).transpose()?;
        Ok(self.tagged("operator", "previous", version.as_deref()))
    }

    /// Another name of the same image: a roll-out to it changes nothing but the pods.
    pub fn next(&self, part: &str) -> String {
        self.tagged(part, "next", self.version.as_deref())
    }

    fn tagged(&self, part: &str, tag: &str, version: Option<&str>) -> String {
        let version = version.map_or_else(String::new, |version| format!("-{version}"));
        format!("{}/flashsale-{part}:{tag}{version}", self.prefix)
    }
}

/// The nodes of a cluster that is not ours keep an image under its name, and do not pull it again: another content has
/// another name there. Into ours, an image is loaded in the place of the one with the same name.
fn version(kind: &Kind, files: &[PathBuf]) -> Result<Option<String>> {
    if *kind == Kind::Given { digest(files).map(Some) } else { Ok(None) }
}

/// What the images are made of.
fn content(build: Build) -> Vec<PathBuf> {
    let programs = IN_IMAGES.iter().map(|name| build.program(name));
    let others = [
        "Dockerfile.prebuilt",
        "tests/cluster/images/postgres/Dockerfile",
        "tests/cluster/images/postgres/docker-entrypoint.sh",
        "tests/cluster/images/redis/Dockerfile",
    ];
    programs.chain(others.map(|file| repository().join(file))).collect()
}

/// Tells the content of these files from any other.
fn digest(files: &[PathBuf]) -> Result<String> {
    let script = r#"cat -- "$@" | sha256sum"#;
    let sum = output(command("bash").args(["-o", "pipefail", "-c", script, "bash"]).args(files))?;
    Ok(sum.chars().take(12).collect())
}

#[cfg(test)]
impl Images {
    /// Names only.
    pub fn local() -> Self {
        Self { prefix: "localhost".to_owned(), build: Build::Test, version: None }
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
    let prefix = prefix(cluster)?;
    build.run()?;
    let images = Images { prefix, build, version: version(&cluster.kind, &content(build))? };

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_a_cluster_of_somebody_else_another_build_has_other_names() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("program");
        let images = |kind: &Kind, content: &str| {
            std::fs::write(&program, content).unwrap();
            let version = version(kind, std::slice::from_ref(&program)).unwrap();
            Images { prefix: "registry/shop".to_owned(), build: Build::Test, version }
        };
        let first = images(&Kind::Given, "first");
        let before = first.previous_operator(&program).unwrap();
        assert!(before.starts_with("registry/shop/flashsale-operator:previous-"), "{before}");
        let second = images(&Kind::Given, "second");
        assert_ne!(first.name("app"), second.name("app"));
        assert_ne!(first.next("redis"), second.next("redis"));
        assert_ne!(before, second.previous_operator(&program).unwrap());
        assert_eq!(first.name("app"), images(&Kind::Given, "first").name("app"));

        let ours = images(&Kind::OwnNode, "first");
        assert_eq!(ours.name("app"), "registry/shop/flashsale-app:dev");
        let before = ours.previous_operator(&program).unwrap();
        assert_eq!(before, "registry/shop/flashsale-operator:previous");
        assert!(version(&Kind::Given, &[folder.path().join("not there")]).is_err());
    }

    #[test]
    fn the_files_that_the_images_are_made_of_exist() {
        let content = content(Build::Test);
        let files: Vec<_> =
            content.iter().filter(|file| !file.starts_with(target_folder())).collect();
        assert!(files.len() > 1 && files.iter().all(|file| file.is_file()), "{files:?}");
    }
    /// Nothing builds the `Dockerfile` here: it needs the registry of its base image.
    #[test]
    fn the_image_from_source_has_the_pinned_compiler() {
        let read = |name: &str| std::fs::read_to_string(repository().join(name)).unwrap();
        let toolchain = read("rust-toolchain.toml");
        let channel = toolchain.lines().find_map(|line| line.strip_prefix("channel = ")).unwrap();
        let channel = channel.trim_matches('"');
        let dockerfile = read("Dockerfile");
        for line in [
            format!("FROM rust:{channel}-slim-bookworm AS build"),
            format!("ENV RUSTUP_TOOLCHAIN={channel}"),
        ] {
            assert!(dockerfile.lines().any(|found| found == line), "{line}");
        }
        for binary in IN_IMAGES {
            assert!(dockerfile.contains(binary), "its head does not name {binary}");
        }
    }
}
