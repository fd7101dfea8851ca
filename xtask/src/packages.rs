//! Programs from npm, `PyPI` and Maven, at pinned versions: they check the API's document, make clients from it, and
//! put load on a sale.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::shell::{command, output, repository, run, say, state_folder, succeeds};
use crate::tools::{ensure_packages, make_virtual_environment};

const GENERATOR: &str = "openapi-generator-cli";
const GENERATOR_VERSION: &str = "7.25.0";
/// What brings it.
const MAVEN_PLUGIN: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1";

/// Where the npm packages are named, with the scripts that import them.
pub fn openapi_tests() -> PathBuf {
    repository().join("tests/openapi")
}

/// Where axe and Lighthouse are named, with which the tests judge the pages.
const PAGE_TESTS: &str = "app/tests/browser";

/// Where Stripe's library is named, which signs the events of the tests.
const PAYMENT_TESTS: &str = "app/tests/payments";

/// The folder of the module of Stripe's library.
pub fn ensure_stripe() -> Result<PathBuf> {
    let declared = repository().join(PAYMENT_TESTS);
    Ok(ensure_npm("stripe-npm", &declared, "Stripe's library")?.join("node_modules"))
}

/// The folder of the modules of axe and Lighthouse.
pub fn ensure_page_judges() -> Result<PathBuf> {
    let declared = repository().join(PAGE_TESTS);
    Ok(ensure_npm("page-npm", &declared, "axe and Lighthouse")?.join("node_modules"))
}

/// Installs the npm packages that a folder's lock file names, unless they were installed before; returns where.
fn ensure_npm(name: &str, declared: &Path, what: &str) -> Result<PathBuf> {
    let folder = versioned(name, &declared.join("package-lock.json"))?;
    // Exists once the installation is complete.
    let installed = folder.join("installed");
    if installed.exists() {
        return Ok(folder);
    }
    if !["node", "npm"].iter().all(|program| succeeds(command(program).arg("--version"))) {
        ensure_packages(&["nodejs", "npm"])?;
    }
    say(&format!("installing {what} with npm (about a minute, once)"));
    std::fs::create_dir_all(&folder)?;
    for file in ["package.json", "package-lock.json"] {
        copy(&declared.join(file), &folder.join(file))?;
    }
    // Without their scripts: none is needed, and some report to their makers.
    let arguments = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"];
    run(command("npm").args(arguments).current_dir(&folder).stdout(std::io::stderr()))?;
    std::fs::write(installed, "")?;
    Ok(folder)
}

/// The npm packages that check the API's document, with a Node.js of their own: Debian's is too old for them.
pub struct NodePackages {
    folder: PathBuf,
}

impl NodePackages {
    /// Installs them, unless they were installed before.
    pub fn ensure() -> Result<Self> {
        let folder =
            ensure_npm("openapi-npm", &openapi_tests(), "the checks of the API's document")?;
        Ok(Self { folder })
    }

    /// Node.js.
    pub fn node(&self) -> Command {
        let machine = if cfg!(target_arch = "aarch64") { "arm64" } else { "x64" };
        command(self.folder.join(format!("node_modules/node-linux-{machine}/bin/node")))
    }

    /// A program of one of the packages.
    pub fn program(&self, name: &str) -> Command {
        let mut node = self.node();
        node.arg(self.folder.join("node_modules/.bin").join(name));
        node
    }

    /// A script of `tests/openapi` that imports the packages.
    pub fn script(&self, name: &str) -> Result<Command> {
        // Node.js looks for packages beside the script.
        let script = self.folder.join(name);
        copy(&openapi_tests().join(name), &script)?;
        let mut node = self.node();
        node.arg(script);
        Ok(node)
    }
}

/// The Python that verifies webhooks, for the tests of events.
pub fn ensure_webhooks() -> Result<PathBuf> {
    ensure_python("webhooks", &repository().join("app/tests/receiver/requirements.txt"))
}

/// The Python of an environment with these requirements.
pub fn ensure_python(name: &str, requirements: &Path) -> Result<PathBuf> {
    let folder = versioned(&format!("python-{name}"), requirements)?;
    let python = folder.join("bin/python");
    let installed = folder.join("installed");
    if !installed.exists() {
        say(&format!("installing Python packages ({name}) with pip (about half a minute, once)"));
        make_virtual_environment(&folder, &["--requirement".as_ref(), requirements.as_os_str()])?;
        std::fs::write(installed, "")?;
    }
    Ok(python)
}

/// openapi-generator.
pub fn ensure_generator() -> Result<Command> {
    ensure_java()?;
    let mut java = command("java");
    java.arg("-jar").arg(generator_in(&state_folder())?);
    Ok(java)
}

/// Its file, fetched unless it is there.
fn generator_in(folder: &Path) -> Result<PathBuf> {
    let name = format!("{GENERATOR}-{GENERATOR_VERSION}.jar");
    let jar = folder.join(&name);
    if jar.exists() {
        return Ok(jar);
    }
    say(&format!("fetching {GENERATOR} {GENERATOR_VERSION} with Maven (once)"));
    std::fs::create_dir_all(folder)?;
    // A file has its name once it is whole.
    let place = tempfile::tempdir_in(folder)?;
    output(
        maven("copy")?
            .arg(format!("-Dartifact=org.openapitools:{GENERATOR}:{GENERATOR_VERSION}"))
            .arg(format!("-DoutputDirectory={}", place.path().display()))
            // Not a folder with a project.
            .current_dir(place.path()),
    )?;
    std::fs::rename(place.path().join(name), &jar)
        .with_context(|| format!("Maven did not bring {}", jar.display()))?;
    Ok(jar)
}

/// Java, which runs programs.
pub fn ensure_java() -> Result<()> {
    if succeeds(command("java").arg("-version")) {
        return Ok(());
    }
    ensure_packages(&["default-jre-headless"])
}

/// Maven with a goal of its plugin that copies artifacts. A file that is not what its checksum says is an error.
pub fn maven(goal: &str) -> Result<Command> {
    if !succeeds(command("mvn").arg("--version")) {
        ensure_packages(&["maven"])?;
    }
    let mut maven = command("mvn");
    let goal = format!("{MAVEN_PLUGIN}:{goal}");
    maven.args(["--quiet", "--batch-mode", "--strict-checksums", &goal]);
    Ok(maven)
}

/// The folder for what a file names. Another content is another folder.
pub fn versioned(name: &str, file: &Path) -> Result<PathBuf> {
    let content = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let mut hasher = DefaultHasher::new();
    content.hash(&mut hasher);
    Ok(state_folder().join(format!("{name}-{:016x}", hasher.finish())))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::copy(from, to).with_context(|| format!("cannot copy {}", from.display()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fakes::Fakes;

    #[test]
    fn a_file_that_maven_did_not_bring_whole_is_fetched_again() {
        let folder = tempfile::tempdir().unwrap();
        let maven = |status: u8| {
            format!(
                "for word; do case $word in -DoutputDirectory=*) \
                 echo jar >\"${{word#*=}}/{GENERATOR}-{GENERATOR_VERSION}.jar\"; exit {status};; esac; done"
            )
        };
        let fakes = Fakes::start(&[("mvn", &maven(1))]);
        assert!(generator_in(folder.path()).is_err());
        assert!(fakes.was_called("mvn --quiet --batch-mode --strict-checksums"));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        drop(fakes);
        let _fakes = Fakes::start(&[("mvn", &maven(0))]);
        assert!(generator_in(folder.path()).unwrap().is_file());
    }
}
