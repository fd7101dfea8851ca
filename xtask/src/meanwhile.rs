//! What happens to a sale while users buy: the commands of a scenario, each at its time.

use std::process::Command;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::scenarios::Step;
use crate::shell::{run, say};

/// Commands that wait for their time.
pub struct Meanwhile {
    over: Arc<(Mutex<bool>, Condvar)>,
    threads: Vec<JoinHandle<()>>,
}

impl Meanwhile {
    /// The first user has started. `shell` makes the command of a line.
    pub fn start(steps: &[Step], shell: impl Fn(&str) -> Command) -> Self {
        let over = Arc::new((Mutex::new(false), Condvar::new()));
        let started = Instant::now();
        let threads = steps.iter().map(|step| {
            let (over, step, mut command) = (Arc::clone(&over), step.clone(), shell(&step.command));
            std::thread::spawn(move || {
                let mut due = started + seconds(step.after_seconds);
                while wait(&over, due) {
                    say(&step.command);
                    // The verdict tells what it did; a sale of which a part just restarts may refuse it.
                    if let Err(error) = run(&mut command) {
                        say(&format!("{error:#}"));
                    }
                    let Some(every) = step.every_seconds else { return };
                    due += seconds(every);
                }
            })
        });
        let threads = threads.collect();
        Self { over, threads }
    }

    /// The run is over.
    pub fn end(self) {
        let (over, ended) = &*self.over;
        *over.lock().unwrap_or_else(PoisonError::into_inner) = true;
        ended.notify_all();
        for thread in self.threads {
            // A thread that panicked has said so.
            drop(thread.join());
        }
    }
}

/// Whether the run goes on at this time.
fn wait((over, ended): &(Mutex<bool>, Condvar), due: Instant) -> bool {
    let guard = over.lock().unwrap_or_else(PoisonError::into_inner);
    let left = due.saturating_duration_since(Instant::now());
    let waited = ended.wait_timeout_while(guard, left, |over| !*over);
    let (over, _) = waited.unwrap_or_else(PoisonError::into_inner);
    !*over
}

fn seconds(value: f64) -> Duration {
    Duration::try_from_secs_f64(value).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shell::command;

    fn step(after_seconds: f64, every_seconds: Option<f64>, command: String) -> Step {
        Step { after_seconds, every_seconds, command }
    }

    #[test]
    fn commands_run_at_their_time_until_the_run_is_over() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name);
        let add = |name: &str| format!("echo x >> {}", file(name).display());
        let steps = [
            step(0.0, Some(0.01), add("often")),
            step(0.0, None, add("once")),
            step(3600.0, None, add("never")),
        ];
        let meanwhile = Meanwhile::start(&steps, |line| {
            let mut shell = command("sh");
            shell.args(["-c", line]);
            shell
        });
        let count =
            |name: &str| std::fs::read_to_string(file(name)).unwrap_or_default().lines().count();
        let deadline = Instant::now() + Duration::from_mins(1);
        while (count("often") < 3 || count("once") < 1) && Instant::now() < deadline {
            std::thread::yield_now();
        }
        meanwhile.end();
        let often = count("often");
        assert!(often >= 3);
        assert_eq!((count("once"), count("never")), (1, 0));
        assert_eq!(count("often"), often, "nothing happens after the end");
    }
}
