//! Which cluster demo and test use: the one `$KUBECONFIG` names, if it answers; else kind, where a
//! container engine runs; else a node of our own (`tests/cluster`).

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use crate::cleanup;
use crate::interrupt;
use crate::shell::{command, output, output_of_work, print, run, say, state_folder, succeeds};
use crate::tools;

const KIND_NAME: &str = "flashsale";

/// Who made the cluster, and so how images get there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Somebody else's.
    Given,
    /// kind, on a container engine, under this name.
    InEngine(Engine, String),
    /// `tests/cluster`.
    OwnNode,
}

/// A container engine that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// Docker.
    Docker,
    /// Podman.
    Podman,
}

impl Engine {
    /// The first engine that answers.
    pub fn running() -> Option<Self> {
        Self::all_running().next()
    }

    fn all_running() -> impl Iterator<Item = Self> {
        let answers = |engine: &Self| succeeds(command(engine.program()).arg("info"));
        [Self::Docker, Self::Podman].into_iter().filter(answers)
    }

    /// Its command.
    pub fn program(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Podman => "podman",
        }
    }

    fn kind(self) -> Command {
        let mut kind = command("kind");
        kind.env("KIND_EXPERIMENTAL_PROVIDER", self.program());
        kind
    }

    /// Copies a built image into kind's node.
    pub fn load(self, cluster: &str, image: &str) -> Result<()> {
        run(self.kind().args(["load", "docker-image", "--name", cluster, image]))
    }
}

/// A cluster that answers.
#[derive(Debug)]
pub struct Cluster {
    /// Who made it.
    pub kind: Kind,
    /// How to reach it: one file, or several as in `$KUBECONFIG`.
    pub kubeconfig: OsString,
    /// It ran before this command did, so this command leaves it running.
    pub was_running: bool,
}

impl Cluster {
    /// Takes the cluster that is there, or starts one.
    pub fn choose() -> Result<Self> {
        let chosen = Self::found_or_started();
        if chosen.is_err() && interrupt::was_asked() {
            say("a cluster may be half started; cargo xtask cluster down removes it");
        }
        chosen
    }

    fn found_or_started() -> Result<Self> {
        let named = std::env::var_os("KUBECONFIG").map(|files| absolute(&files)).transpose()?;
        if let Some(kubeconfig) = named.filter(|files| !files.is_empty()) {
            tools::ensure_kubectl()?;
            if answers(&kubeconfig) {
                return Self::given(kubeconfig);
            }
            say(&format!("KUBECONFIG={} does not answer; not used", kubeconfig.display()));
        }
        Engine::running().map_or_else(Self::own_node, Self::in_engine)
    }

    fn given(kubeconfig: OsString) -> Result<Self> {
        if kubeconfig == node_kubeconfig().as_os_str() {
            return Self::own_node();
        }
        let current = ["config", "current-context"];
        let context = output(command("kubectl").args(current).env("KUBECONFIG", &kubeconfig))?;
        say(&format!("using the cluster that KUBECONFIG names (context {})", context.trim()));
        let kind = match (context.trim().strip_prefix("kind-"), Engine::running()) {
            (Some(name), Some(engine)) => {
                tools::ensure_kind()?;
                Kind::InEngine(engine, name.to_owned())
            }
            _ => Kind::Given,
        };
        Ok(Self { kind, kubeconfig, was_running: true })
    }

    fn in_engine(engine: Engine) -> Result<Self> {
        tools::ensure_kubectl()?;
        tools::ensure_kind()?;
        std::fs::create_dir_all(state_folder())?;
        let kubeconfig = kind_kubeconfig();
        let was_running = kind_runs(engine);
        if was_running {
            say(&format!("using the kind cluster {KIND_NAME} that runs"));
            run(engine
                .kind()
                .args(["export", "kubeconfig", "--name", KIND_NAME, "--kubeconfig"])
                .arg(&kubeconfig))?;
        } else {
            create_kind(engine, &kind_mark())?;
        }
        let kind = Kind::InEngine(engine, KIND_NAME.to_owned());
        Ok(Self { kind, kubeconfig: kubeconfig.into(), was_running })
    }

    fn own_node() -> Result<Self> {
        let before = std::fs::read(node_kubeconfig()).ok();
        let answered = answers(node_kubeconfig().as_os_str());
        let folder = state_folder();
        if answered {
            say(&format!("using the Kubernetes node of our own in {}", folder.display()));
        } else {
            say(&format!("starting a Kubernetes node of our own in {}", folder.display()));
        }
        tools::ensure_packages(tools::NODE)?;
        tools::ensure_kubernetes()?;
        let kubeconfig = PathBuf::from(output_of_work(&mut tools::node_script("up"))?.trim());
        // A busy node may not answer in time.
        let was_running = answered || is_unchanged(before.as_deref(), &kubeconfig);
        Ok(Self { kind: Kind::OwnNode, kubeconfig: kubeconfig.into(), was_running })
    }

    /// Whether `cargo xtask cluster down` removes it.
    pub fn is_ours(&self) -> bool {
        match &self.kind {
            Kind::Given => false,
            Kind::InEngine(engine, name) => name == KIND_NAME && is_ours(*engine, &kind_mark()),
            Kind::OwnNode => true,
        }
    }

    /// kubectl for this cluster.
    pub fn kubectl(&self) -> Command {
        let mut kubectl = command("kubectl");
        kubectl.env("KUBECONFIG", &self.kubeconfig);
        kubectl
    }

    /// helm for this cluster.
    pub fn helm(&self) -> Command {
        let mut helm = command("helm");
        helm.env("KUBECONFIG", &self.kubeconfig);
        helm
    }

    /// Whether a namespace exists.
    pub fn has_namespace(&self, name: &str) -> Result<bool> {
        let get = ["get", "namespace", name, "--ignore-not-found", "--output", "name"];
        Ok(!output(self.kubectl().args(get))?.trim().is_empty())
    }

    /// Removes a namespace with all that is in it, and waits until it is gone.
    pub fn delete_namespace(&self, name: &str) -> Result<()> {
        say(&format!("removing the namespace {name}"));
        let delete = ["delete", "namespace", name, "--ignore-not-found", "--timeout=3m"];
        output(self.kubectl().args(delete)).map(drop)
    }

    /// Removes a cluster that this command started.
    pub fn stop(&self) -> Result<()> {
        if self.was_running {
            say("leaving the cluster up: it ran before (cargo xtask cluster down removes ours)");
            return Ok(());
        }
        match &self.kind {
            Kind::Given => Ok(()),
            Kind::InEngine(engine, _) => delete_kind(*engine, &kind_mark()),
            Kind::OwnNode => run(&mut tools::node_script("down")),
        }
    }
}

/// The files of `$KUBECONFIG`, as they are seen from any folder.
fn absolute(kubeconfig: &OsStr) -> Result<OsString> {
    let files = std::env::split_paths(kubeconfig).filter(|file| !file.as_os_str().is_empty());
    let files = files.map(std::path::absolute).collect::<std::io::Result<Vec<_>>>()?;
    Ok(std::env::join_paths(files)?)
}

fn answers(kubeconfig: &OsStr) -> bool {
    let ready = ["get", "--raw", "/readyz", "--request-timeout=5s"];
    std::env::split_paths(kubeconfig).any(|file| file.exists())
        && succeeds(command("kubectl").args(ready).env("KUBECONFIG", kubeconfig))
}

/// Whether a node of our own is the one of before: a node that starts gets new certificates.
fn is_unchanged(before: Option<&[u8]>, kubeconfig: &Path) -> bool {
    before.is_some_and(|before| std::fs::read(kubeconfig).is_ok_and(|now| now == before))
}

fn node_kubeconfig() -> PathBuf {
    state_folder().join("pki/admin.kubeconfig")
}

fn kind_kubeconfig() -> PathBuf {
    state_folder().join("kind.kubeconfig")
}

fn kind_runs(engine: Engine) -> bool {
    output(engine.kind().args(["get", "clusters"]))
        .is_ok_and(|names| names.lines().any(|name| name == KIND_NAME))
}

/// Says that the kind cluster was made here, and on which engine.
fn kind_mark() -> PathBuf {
    state_folder().join("kind-made-on")
}

fn is_ours(engine: Engine, mark: &Path) -> bool {
    std::fs::read_to_string(mark).is_ok_and(|made_on| made_on == engine.program())
}

fn create_kind(engine: Engine, mark: &Path) -> Result<()> {
    say(&format!("starting the kind cluster {KIND_NAME} on {}", engine.program()));
    // Before it is there, so that one whose start was interrupted can be removed.
    std::fs::write(mark, engine.program())?;
    let created = run(engine
        .kind()
        .args(["create", "cluster", "--name", KIND_NAME, "--wait", "3m"])
        .args(["--config", "kind-config.yaml", "--kubeconfig"])
        .arg(kind_kubeconfig()));
    // kind removes what it cannot start; the next cluster of this name may be somebody else's.
    let is_gone = || !interrupt::clean_up(|| kind_runs(engine));
    let forgotten = if created.is_err() && is_gone() { forget_kind(mark) } else { Ok(()) };
    cleanup::after(created, forgotten)
}

fn delete_kind(engine: Engine, mark: &Path) -> Result<()> {
    say(&format!("removing the kind cluster {KIND_NAME}"));
    run(engine
        .kind()
        .args(["delete", "cluster", "--name", KIND_NAME, "--kubeconfig"])
        .arg(kind_kubeconfig()))?;
    forget_kind(mark)
}

fn forget_kind(mark: &Path) -> Result<()> {
    std::fs::remove_file(mark).or_else(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Ok(()),
        _ => Err(error.into()),
    })
}

/// `cargo xtask cluster up`.
pub fn up() -> Result<ExitCode> {
    let cluster = Cluster::choose()?;
    print(&format!("export KUBECONFIG={}", cluster.kubeconfig.display()));
    Ok(ExitCode::SUCCESS)
}

/// `cargo xtask cluster down`: whatever demo, test and `cluster up` may have started, if it is there.
pub fn down() -> Result<ExitCode> {
    let engines = engines_with_kind();
    let kind = cleanup::all(engines.iter().map(|&engine| remove_kind(engine, &kind_mark())));
    // Made by `tests/cluster/up`. What else is in the folder was built, or is kind's.
    let has_node = state_folder().join("run").exists();
    let node = if has_node { remove_node() } else { Ok(()) };
    if engines.is_empty() && !has_node {
        say("no cluster of cargo xtask runs");
    }
    cleanup::all([kind, node])?;
    Ok(ExitCode::SUCCESS)
}

/// The engines that have a kind cluster of this name: it may have been made when another engine did not run.
fn engines_with_kind() -> Vec<Engine> {
    Engine::all_running().filter(|&engine| kind_runs(engine)).collect()
}

fn remove_kind(engine: Engine, mark: &Path) -> Result<()> {
    if is_ours(engine, mark) {
        return delete_kind(engine, mark);
    }
    let program = engine.program();
    say(&format!(
        "the kind cluster {KIND_NAME} on {program} stays: cargo xtask did not make it; to remove it: \
         KIND_EXPERIMENTAL_PROVIDER={program} kind delete cluster --name {KIND_NAME}"
    ));
    Ok(())
}

fn remove_node() -> Result<()> {
    run(&mut tools::node_script("down")).context("cannot remove the node")?;
    say(&format!(
        "the node is gone; built binaries and images stay in {}",
        state_folder().display()
    ));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fakes::Fakes;

    #[test]
    fn a_node_that_was_too_busy_to_answer_is_known_by_its_certificates() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "certificates").unwrap();
        assert!(is_unchanged(Some(b"certificates"), file.path()));
        assert!(!is_unchanged(Some(b"those of before"), file.path()));
        assert!(!is_unchanged(None, file.path()));
    }

    #[test]
    fn a_kind_cluster_that_somebody_else_made_stays() {
        let fakes = Fakes::start(&[("kind", "")]);
        let folder = tempfile::tempdir().unwrap();
        let mark = folder.path().join("mark");
        remove_kind(Engine::Docker, &mark).unwrap();
        std::fs::write(&mark, Engine::Podman.program()).unwrap();
        remove_kind(Engine::Docker, &mark).unwrap();
        assert!(fakes.calls().is_empty(), "{:?}", fakes.calls());

        std::fs::write(&mark, Engine::Docker.program()).unwrap();
        remove_kind(Engine::Docker, &mark).unwrap();
        assert!(fakes.was_called("kind delete cluster --name flashsale"), "{:?}", fakes.calls());
        assert!(!mark.exists());
    }

    #[test]
    fn a_kind_cluster_is_found_on_every_engine_that_answers() {
        let kind =
            "case $KIND_EXPERIMENTAL_PROVIDER in podman) echo flashsale;; *) echo other;; esac";
        for (docker, podman, found) in [
            ("exit 0", "exit 0", vec![Engine::Podman]),
            ("exit 1", "exit 0", vec![Engine::Podman]),
            ("exit 0", "exit 1", Vec::new()),
        ] {
            let _fakes = Fakes::start(&[("docker", docker), ("podman", podman), ("kind", kind)]);
            assert_eq!(engines_with_kind(), found, "{docker} {podman}");
        }
    }

    #[test]
    fn a_kind_cluster_that_could_not_be_started_is_not_taken_for_ours() {
        let folder = tempfile::tempdir().unwrap();
        let mark = folder.path().join("mark");
        for (there, is_ours_now) in [("", false), ("flashsale", true)] {
            let kind = format!("case $1 in get) echo '{there}';; create) exit 1;; esac");
            let _fakes = Fakes::start(&[("kind", &kind)]);
            assert!(create_kind(Engine::Docker, &mark).is_err());
            assert_eq!(is_ours(Engine::Docker, &mark), is_ours_now, "{there:?}");
        }
    }

    #[test]
    fn a_kubeconfig_may_be_relative_and_a_list() {
        let here = std::env::current_dir().unwrap();
        let files = [here.join("a/config"), PathBuf::from("/b/config")];
        let all = std::env::join_paths(&files).unwrap();
        assert_eq!(absolute(OsStr::new("a/config::/b/config")).unwrap(), all);
        assert_eq!(absolute(OsStr::new("")).unwrap(), "");

        let fakes = Fakes::start(&[("kubectl", "echo \"KUBECONFIG=$KUBECONFIG\"")]);
        let one = tempfile::NamedTempFile::new().unwrap();
        let list = std::env::join_paths([Path::new("/not/there"), one.path()]).unwrap();
        assert!(answers(&list) && fakes.was_called("kubectl get --raw /readyz"));
        assert!(!answers(OsStr::new("/not/there")));
        let cluster = Cluster { kind: Kind::Given, kubeconfig: list.clone(), was_running: true };
        let said = output(&mut cluster.kubectl()).unwrap();
        assert_eq!(said.trim().strip_prefix("KUBECONFIG="), list.to_str());
    }
}
