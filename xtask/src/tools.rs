//! What must be on the machine: Debian packages, and tools built from their Go modules.
//! Whatever is missing gets installed, and is named before.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::built;
use crate::shell::{
    binaries_folder, command, output, repository, run, say, state_folder, succeeds,
};
use crate::suites;

/// For the node of `tests/cluster` and its images.
pub const NODE: &[&str] = &[
    "etcd-server",
    "containerd",
    "runc",
    "containernetworking-plugins",
    "iproute2",
    "iptables",
    "conntrack",
    "socat",
    "openssl",
    "buildah",
    "crun",
    "uidmap",
    "debootstrap",
    "gcc",
    "libc6-dev",
];
/// For the tests against real processes: Redis (and a clock of its own for it), PostgreSQL and a
/// pooler before it, a NATS server, the API server's etcd, and a browser for the sale page (with fonts).
pub const PROCESSES: &[&str] = &[
    "redis-server",
    "libfaketime",
    "postgresql-15",
    "pgbouncer",
    "nats-server",
    "etcd-server",
    "openssl",
    "chromium",
    "chromium-driver",
    "fonts-dejavu-core",
    "fonts-nanum",
    "redis-tools",
    "wrk",
];
/// For the network policies of a sale where an agent enforces them.
pub const POLICIES: &[&str] = &["etcd-server", "iproute2", "iptables", "ipset", "socat", "openssl"];
/// For `cargo xtask local`.
pub const LOCAL: &[&str] = &["redis-server"];
/// For `cargo xtask bench`.
pub const BENCH: &[&str] = &["redis-server", "redis-tools", "postgresql-15", "wrk"];

/// For `cargo xtask bench operator`.
pub const FLEET: &[&str] = &["etcd-server", "openssl", "util-linux"];

/// Installs those of the Debian packages that are missing.
pub fn ensure_packages(packages: &[&str]) -> Result<()> {
    let missing: Vec<&str> = packages.iter().copied().filter(|name| !is_installed(name)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    if !succeeds(command("apt-get").arg("--version")) {
        bail!(
            "these Debian packages (or what they hold) are needed, and there is no apt-get: {list}"
        );
    }
    say(&format!("installing Debian packages with apt-get: {list}"));
    let apt = |arguments: &[&str]| {
        run(command("apt-get")
            .args(["-q", "-o", "Dpkg::Use-Pty=0"])
            .args(arguments)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdout(std::io::stderr()))
    };
    apt(&["update"])?;
    apt(&[&["install", "-y", "--no-install-recommends"], missing.as_slice()].concat())
        .with_context(|| format!("as root, run: apt-get install {list}"))
}

fn is_installed(package: &str) -> bool {
    output(command("dpkg-query").args(["-W", "-f", "${db:Status-Status}", package]))
        .is_ok_and(|status| status == "installed")
}

/// helm, from its Go module unless the machine has one.
pub fn ensure_helm() -> Result<()> {
    ensure_go_tool("helm", "helm.sh/helm/v4/cmd/helm@v4.3.1", "about 2 minutes on 2 cores")
}

/// kind, for machines with a container engine.
pub fn ensure_kind() -> Result<()> {
    ensure_go_tool("kind", "sigs.k8s.io/kind@v0.33.0", "about half a minute")
}

/// k6, for the example that drives it. It is under the AGPL: a test runs it as a program, and nothing here links it.
pub fn ensure_k6() -> Result<()> {
    ensure_go_tool("k6", "go.k6.io/k6@v1.8.1", "about 4 minutes on 2 cores")
}

/// Helm 3, beside Helm 4: releases of it are upgraded.
pub fn ensure_helm3() -> Result<()> {
    let source = Source { module: "helm.sh/helm/v3@v3.22.0", package: "./cmd/helm" };
    ensure_go_program("helm3", &source, "about 2 minutes on 2 cores")
}

/// helm-unittest, which runs the chart's unit tests.
pub fn ensure_helm_unittest() -> Result<()> {
    let module = "github.com/helm-unittest/helm-unittest@v1.1.2";
    let source = Source { module, package: "./cmd/helm-unittest" };
    ensure_go_program("helm-unittest", &source, "about a minute and a half on 2 cores")
}

/// helm-docs, which writes the chart's README.
pub fn ensure_helm_docs() -> Result<()> {
    let module = "github.com/norwoodj/helm-docs@v1.14.2";
    let source = Source { module, package: "./cmd/helm-docs" };
    ensure_go_program("helm-docs", &source, "about half a minute")
}

/// operator-verify, which judges the OLM bundle.
pub fn ensure_operator_verify() -> Result<()> {
    let module = "github.com/operator-framework/api@v0.44.0";
    let source = Source { module, package: "./cmd/operator-verify" };
    ensure_go_program("operator-verify", &source, "about 2 minutes on 2 cores")
}

/// Prometheus 2 as Debian 12 has it, and Prometheus 3: `prometheus2`, `promtool2` and the same with 3.
pub fn ensure_prometheus() -> Result<()> {
    for (suite, number) in [(&["bookworm"], '2'), (&["forky"], '3')] {
        let names = ["prometheus", "promtool"];
        if names.iter().all(|name| is_in_path(&format!("{name}{number}"))) {
            continue;
        }
        let source = suites::Source { suites: suite, package: "prometheus" };
        let programs = suites::install(&source)?.join("usr/bin");
        let version = output(command(programs.join("prometheus")).arg("--version"))?;
        if !version.starts_with(&format!("prometheus, version {number}.")) {
            bail!("{source} is no Prometheus {number}: {version}");
        }
        std::fs::create_dir_all(binaries_folder())?;
        for name in names {
            let plain = binaries_folder().join(format!("{name}{number}"));
            built::link(&programs.join(name), &plain)?;
        }
    }
    Ok(())
}

/// CloudNativePG's manager, which `cargo xtask bench operator` measures too, and the folder of its definitions.
pub fn ensure_cloudnative_pg() -> Result<(PathBuf, PathBuf)> {
    let module = "github.com/cloudnative-pg/cloudnative-pg@v1.29.1";
    let source = Source { module, package: "./cmd/manager" };
    ensure_go_program("cnpg-manager", &source, "about 6 minutes on 2 cores")?;
    let definitions = download(module)?.join("config/crd/bases");
    Ok((binaries_folder().join("cnpg-manager"), definitions))
}

/// The library that tells Flux and Helm whether a resource is ready, as a program for the operator's tests.
pub fn ensure_kstatus() -> Result<()> {
    build_go_folder("flashsale-kstatus", "operator/tests/kstatus")
}

/// The OpenTelemetry Collector, for the tests of traces: about 3 minutes on 2 cores, once.
pub fn ensure_collector() -> Result<()> {
    build_go_folder("flashsale-otelcol", "app/tests/collector")
}

/// Builds a Go program of this repository. Go builds it again only if it changed.
fn build_go_folder(name: &str, folder: &str) -> Result<()> {
    ensure_go()?;
    run(command("go")
        .args(["build", "-trimpath", "-ldflags", "-s -w", "-o"])
        .arg(binaries_folder().join(name))
        .arg(".")
        .current_dir(repository().join(folder)))
    .with_context(|| format!("cannot build {folder}"))
}

/// A Go program: a module with its version, and a package of it.
struct Source {
    module: &'static str,
    package: &'static str,
}

/// Builds a program in the folder of its module. `go install` refuses a module that replaces others,
/// and knows one name for each program.
fn ensure_go_program(name: &str, source: &Source, time: &str) -> Result<()> {
    built::ensure(name, version(source.module), time, |place| {
        ensure_go()?;
        let program = place.join(name);
        run(command("go")
            .args(["build", "-trimpath", "-ldflags", "-s -w", "-o"])
            .arg(&program)
            .arg(source.package)
            .current_dir(download(source.module)?))?;
        Ok(program)
    })
}

/// That of a module, as in `example.org/module@v1.2.3`.
fn version(module: &str) -> &str {
    module.rsplit_once('@').map_or("latest", |(_, version)| version)
}

/// The folder of a Go module.
fn download(module: &str) -> Result<PathBuf> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Download {
        dir: PathBuf,
    }
    let downloaded = output(command("go").args(["mod", "download", "-json", module]))?;
    let module: Download = serde_json::from_str(&downloaded)
        .with_context(|| format!("go did not say where {module} is"))?;
    Ok(module.dir)
}

fn ensure_go_tool(name: &str, module: &str, time: &str) -> Result<()> {
    built::ensure(name, version(module), time, |place| {
        ensure_go()?;
        run(command("go")
            .args(["install", "-trimpath", "-ldflags", "-s -w", module])
            .env("GOBIN", place))?;
        Ok(place.join(name))
    })
}

/// cargo-deny, from its crate unless the machine has one.
pub fn ensure_cargo_deny() -> Result<()> {
    ensure_cargo_tool("cargo-deny", "0.20.2", &[], "about 3 minutes on 2 cores")
}

/// cargo-nextest, from its crate unless the machine has one.
pub fn ensure_cargo_nextest() -> Result<()> {
    // Without what replaces the binary by a newer one from the network.
    let features = ["--no-default-features", "--features", "default-no-update"];
    ensure_cargo_tool("cargo-nextest", "0.9.151", &features, "about 5 minutes on 2 cores")
}

fn ensure_cargo_tool(name: &str, version: &str, features: &[&str], time: &str) -> Result<()> {
    built::ensure(name, version, time, |place| {
        run(command("cargo")
            .args(["install", name, "--locked", "--version", version])
            .args(features)
            .arg("--root")
            .arg(place)
            // Not the project's toolchain file, nor its settings.
            .current_dir(std::env::temp_dir()))?;
        Ok(place.join("bin").join(name))
    })
}

/// schemathesis in a virtual environment of its own; where its program is.
pub fn ensure_schemathesis() -> Result<PathBuf> {
    Ok(ensure_environment("schemathesis", "4.32.5")?.join("bin/st"))
}

/// Python with matplotlib in a virtual environment of its own; where it is.
pub fn ensure_matplotlib() -> Result<PathBuf> {
    Ok(ensure_environment("matplotlib", "3.11.2")?.join("bin/python"))
}

/// A virtual environment with this version of a package; its folder.
fn ensure_environment(package: &str, version: &str) -> Result<PathBuf> {
    let folder = state_folder().join(format!("{package}-{version}"));
    // Exists once the installation is complete.
    let installed = folder.join("installed");
    if !installed.exists() {
        say(&format!("installing {package} {version} with pip (about half a minute, once)"));
        make_virtual_environment(&folder, &[format!("{package}=={version}").as_ref()])?;
        std::fs::write(installed, "")?;
    }
    Ok(folder)
}

/// Makes a virtual environment of Python, and installs packages in it.
pub fn make_virtual_environment(folder: &Path, packages: &[&OsStr]) -> Result<()> {
    if !succeeds(command("python3").args(["-c", "import ensurepip, venv"])) {
        ensure_packages(&["python3-venv"])?;
    }
    run(command("python3").args(["-m", "venv", "--clear"]).arg(folder))?;
    run(command(folder.join("bin/pip"))
        .args(["install", "--quiet", "--disable-pip-version-check"])
        .args(packages))
}

/// kubectl; without one, the node's Kubernetes is built, which has it.
pub fn ensure_kubectl() -> Result<()> {
    if is_in_path("kubectl") { Ok(()) } else { ensure_kubernetes() }
}

/// The binaries of `tests/cluster`: Kubernetes, kubectl and the DNS server.
pub fn ensure_kubernetes() -> Result<()> {
    ensure_go()?;
    run(&mut node_script("binaries"))
}

/// A script of `tests/cluster`.
pub fn node_script(name: &str) -> Command {
    command(repository().join("tests/cluster").join(name))
}

fn ensure_go() -> Result<()> {
    if is_in_path("go") {
        return Ok(());
    }
    bail!("go is needed to build Kubernetes tools and is not in PATH; install Go 1.24 or newer")
}

fn is_in_path(name: &str) -> bool {
    succeeds(command("sh").args(["-c", &format!("command -v {name}")]))
}
