//! Programs in the place of kubectl, helm and the like, for tests: they note how they are called.

use tempfile::TempDir;

use crate::cluster::{Cluster, Kind};
use crate::shell::{command, run, set_first_folder};

/// A helm that has the operator's release, as somebody else installed it.
pub const HELM_OF_A_USER: &str =
    "case $1 in list) echo flashsale-operator;; get) echo '{\"replicas\": 2}';; esac";

/// Programs that this thread's commands find first, until the value is dropped.
pub struct Fakes {
    folder: TempDir,
}

impl Fakes {
    /// Each program is a name and a script for a shell, which does what comes after the note.
    pub fn start(programs: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let calls = folder.path().join("calls");
        for (name, script) in programs {
            let text = folder.path().join(format!("{name}.text"));
            let note = format!("printf '%s\\n' \"{name} $*\" >>'{}'", calls.display());
            std::fs::write(&text, format!("#!/bin/sh\n{note}\n{script}\n")).unwrap();
            // Copied by another process: a file that this one has open for writing may not start.
            run(command("install").args(["-m", "755"]).arg(text).arg(folder.path().join(name)))
                .unwrap();
        }
        set_first_folder(Some(folder.path().to_owned()));
        Self { folder }
    }

    /// The calls so far, each as one would type it.
    pub fn calls(&self) -> Vec<String> {
        let calls = std::fs::read_to_string(self.folder.path().join("calls")).unwrap_or_default();
        calls.lines().map(str::to_owned).collect()
    }

    /// Whether a call begins like this.
    pub fn was_called(&self, beginning: &str) -> bool {
        self.calls().iter().any(|call| call.starts_with(beginning))
    }

    /// Whether a call removed or replaced something.
    pub fn changed_something(&self) -> bool {
        ["helm upgrade", "helm uninstall", "kubectl delete"].iter().any(|it| self.was_called(it))
    }
}

impl Drop for Fakes {
    fn drop(&mut self) {
        set_first_folder(None);
    }
}

/// A cluster of somebody else, which stays.
pub fn given_cluster() -> Cluster {
    Cluster { kind: Kind::Given, kubeconfig: "/not/there".into(), was_running: true }
}
