//! What happens to a sale while users buy: the commands of a scenario, each at its time, with the user's own kubectl.

use std::path::PathBuf;
use std::time::Duration;

use load_scenarios::Step;
use tokio::process::Command;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::terminal::note;

/// Lets kubectl use the context that the plugin was given.
const WITH_CONTEXT: &str = r#"kubectl() { command kubectl --context "$CONTEXT" "$@"; }; "#;

/// The sale that the commands are for.
#[derive(Debug, Clone)]
pub struct Shell {
    pub namespace: String,
    pub sale: String,
    pub context: Option<String>,
    pub kubeconfig: Option<PathBuf>,
}

impl Shell {
    fn command(&self, line: &str) -> Command {
        let mut shell = Command::new("sh");
        let prefix = if self.context.is_some() { WITH_CONTEXT } else { "" };
        shell.args(["-c", &format!("{prefix}{line}")]);
        shell.env("NAMESPACE", &self.namespace).env("SALE", &self.sale);
        if let Some(context) = &self.context {
            shell.env("CONTEXT", context);
        }
        if let Some(kubeconfig) = &self.kubeconfig {
            shell.env("KUBECONFIG", kubeconfig);
        }
        shell
    }

    async fn run(&self, step: &Step) {
        note(format_args!("==> {}", step.for_sale(&self.namespace, &self.sale)));
        // The verdict tells what it did; a sale of which a part just restarts may refuse it.
        match self.command(&step.command).status().await {
            Ok(status) if status.success() => {}
            Ok(status) => note(format_args!("the command failed: {status}")),
            Err(error) => note(format_args!("cannot start sh: {error}")),
        }
    }
}

/// Commands that wait for their time.
pub struct Meanwhile {
    over: watch::Sender<bool>,
    steps: JoinSet<()>,
}

impl Meanwhile {
    /// The first user has started.
    pub fn start(steps: &[Step], shell: &Shell) -> Self {
        let over = watch::Sender::new(false);
        let started = Instant::now();
        let steps = steps.iter().map(|step| {
            let (step, shell, mut over) = (step.clone(), shell.clone(), over.subscribe());
            async move {
                let mut due = started + seconds(step.after_seconds);
                loop {
                    let is_over = tokio::select! {
                        biased;
                        _ = over.wait_for(|over| *over) => true,
                        () = sleep_until(due) => false,
                    };
                    if is_over {
                        return;
                    }
                    shell.run(&step).await;
                    let Some(every) = step.every_seconds else { return };
                    due += seconds(every);
                }
            }
        });
        let steps = steps.collect();
        Self { over, steps }
    }

    /// The run is over. A command that has begun is waited for.
    pub async fn end(mut self) {
        self.over.send_replace(true);
        while let Some(ended) = self.steps.join_next().await {
            if let Err(error) = ended {
                note(format_args!("a command of the scenario was given up: {error}"));
            }
        }
    }
}

fn seconds(value: f64) -> Duration {
    Duration::try_from_secs_f64(value).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use super::*;

    fn step(after_seconds: f64, every_seconds: Option<f64>, command: String) -> Step {
        Step { after_seconds, every_seconds, command }
    }

    /// Instead of kubectl: writes what it was given to a file.
    fn fake_kubectl(folder: &Path) -> String {
        let program = folder.join("kubectl");
        let log = folder.join("log");
        let script = format!("#!/bin/sh\necho \"$KUBECONFIG: $*\" >> {}\n", log.display());
        std::fs::write(&program, script).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        format!("PATH={}:$PATH; ", folder.display())
    }

    #[tokio::test]
    async fn commands_run_for_the_sale_at_their_time_until_the_run_is_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = fake_kubectl(folder.path());
        let line = |name: &str| format!("{path}kubectl {name} -n $NAMESPACE $SALE-redis-0");
        let steps = [
            step(0.0, Some(0.01), line("often")),
            step(0.0, None, line("once")),
            step(3600.0, None, line("never")),
        ];
        let shell = Shell {
            namespace: "shop".to_owned(),
            sale: "winter".to_owned(),
            context: Some("far".to_owned()),
            kubeconfig: Some("/k".into()),
        };
        let meanwhile = Meanwhile::start(&steps, &shell);
        let count = |name: &str| {
            let log = std::fs::read_to_string(folder.path().join("log")).unwrap_or_default();
            let wanted = format!("/k: --context far {name} -n shop winter-redis-0");
            log.lines().filter(|line| **line == wanted).count()
        };
        let waited = async {
            while count("often") < 3 || count("once") < 1 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_mins(1), waited).await.unwrap();
        meanwhile.end().await;
        let often = count("often");
        assert_eq!((count("once"), count("never")), (1, 0));
        tokio::time::sleep(Duration::from_millis(30)).await;
        assert_eq!(count("often"), often, "nothing happens after the end");
    }
}
