//! `cargo xtask test`: every test of the project, counted. A step that fails does not stop the next.
//! With `--faults-for` or `--faults-seed` only the lock's fault suite, in random rounds; with
//! `--packet-faults-for` or `--packet-faults-seed` only purchases while packets to the database fail.

use std::io::{BufRead, BufReader};
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::cluster::Cluster;
use crate::shell::{self, binaries_folder, cargo, command, line, output, repository, say};
use crate::{deny, fuzz, generate, images, install, layers, tools};

/// The end-to-end crate: the only one that needs a cluster.
const END_TO_END: &str = "flashsale-tests";
/// The lock's fault suite; its tests are in the unit step, its random rounds are a binary.
const FAULTS: &str = "flashsale-faults";
/// A file of tests that hangs fails, and the next goes on. The longest, `e2e`, takes some 12 minutes.
const TIMEOUT: &str =
    r#"target."cfg(unix)".runner = "timeout --foreground --verbose --signal=KILL 30m""#;

/// How often to look whether a command that prints nothing has ended.
const CHECK: Duration = Duration::from_secs(1);

/// Options of `cargo xtask test`.
#[derive(clap::Args)]
pub struct Options {
    /// Only these steps (default: all).
    #[arg(value_enum)]
    steps: Vec<Step>,
    /// Instead of the steps: random faults on the lock for this long, for example 30m. Each round
    /// prints its seed
    #[arg(long, value_name = "TIME", value_parser = time, conflicts_with = "steps")]
    faults_for: Option<Duration>,
    /// Instead of the steps: the round with this seed again. The same faults hit the same victims
    /// in the same order; how the processes take turns differs each time
    #[arg(long, value_name = "SEED", conflicts_with_all = ["steps", "faults_for"])]
    faults_seed: Option<u64>,
    /// Instead of the steps: purchases for this long while single packets between the app and
    /// PostgreSQL are late, split or lost. Each round prints its seed
    #[arg(long, value_name = "TIME", value_parser = time,
        conflicts_with_all = ["steps", "faults_for", "faults_seed"])]
    packet_faults_for: Option<Duration>,
    /// The seed of the first of these rounds
    #[arg(long, value_name = "SEED", conflicts_with_all = ["steps", "faults_for", "faults_seed"])]
    packet_faults_seed: Option<u64>,
}

/// A time with its unit, as in 90s, 30m or 8h.
fn time(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no time; expected for example 90s, 30m or 8h");
    let unit = text.chars().last().ok_or_else(wrong)?;
    let number: u64 = text.strip_suffix(unit).unwrap_or("").parse().map_err(|_| wrong())?;
    let seconds = match unit {
        's' => Some(1),
        'm' => Some(60),
        'h' => Some(3600),
        _ => None,
    };
    let total = seconds.and_then(|seconds| number.checked_mul(seconds));
    total.map(Duration::from_secs).ok_or_else(wrong)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Step {
    /// rustfmt
    Format,
    /// modules and crates form layers: no circles, no forbidden dependency between crates
    Layers,
    /// clippy, warnings denied
    Clippy,
    /// rustdoc, warnings denied
    Docs,
    /// licences, sources and known weaknesses of the dependencies
    Deny,
    /// generated files are up to date
    Generated,
    /// unit and integration tests: real Redis, PostgreSQL, etcd and API server processes
    Unit,
    /// the API by requests made from its OpenAPI document
    Fuzz,
    /// the chart: lint and template
    Chart,
    /// end-to-end tests on a cluster
    E2e,
}

const ALL: [Step; 10] = [
    Step::Format,
    Step::Layers,
    Step::Clippy,
    Step::Docs,
    Step::Deny,
    Step::Generated,
    Step::Unit,
    Step::Fuzz,
    Step::Chart,
    Step::E2e,
];

#[derive(Default)]
struct Count {
    passed: usize,
    failed: usize,
    skipped: usize,
    /// What failed, for the end of the output.
    failures: Vec<String>,
}

/// `cargo xtask test`.
pub fn run(options: &Options) -> Result<ExitCode> {
    tools::ensure_packages(tools::PROCESSES)?;
    if options.faults_for.is_some() || options.faults_seed.is_some() {
        return random_faults(options);
    }
    if options.packet_faults_for.is_some() || options.packet_faults_seed.is_some() {
        return packet_faults(options);
    }
    tools::ensure_kubernetes()?;
    tools::ensure_helm()?;
    let mut count = Count::default();
    for step in ALL {
        if options.steps.is_empty() || options.steps.contains(&step) {
            let started = Instant::now();
            say(&format!("{step:?}"));
            step.run(&mut count);
            say(&format!("{step:?}: {} s", started.elapsed().as_secs()));
        }
    }
    for failure in &count.failures {
        println!("failed: {failure}");
    }
    let skipped =
        if count.skipped > 0 { format!(", {} skipped", count.skipped) } else { String::new() };
    println!("{} passed, {} failed{skipped}", count.passed, count.failed);
    Ok(if count.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Rounds of the fault suite, counted by itself.
fn random_faults(options: &Options) -> Result<ExitCode> {
    shell::run(cargo("build").args(["--quiet", "--package", FAULTS, "--bins"]))?;
    let mut rounds = command(repository().join("target/debug/fault-rounds"));
    if let Some(time) = options.faults_for {
        rounds.args(["--seconds", &time.as_secs().to_string()]);
    }
    if let Some(seed) = options.faults_seed {
        rounds.args(["--seed", &seed.to_string()]);
    }
    let ended = rounds.status().with_context(|| format!("cannot start {}", line(&rounds)))?;
    Ok(if ended.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Rounds of `app/tests/packets.rs`, all kinds of sale at the same time.
fn packet_faults(options: &Options) -> Result<ExitCode> {
    let mut rounds = cargo("test");
    rounds.args(["--workspace", "--test", "packets", "--", "--nocapture", "--test-threads=4"]);
    if let Some(time) = options.packet_faults_for {
        rounds.env("PACKET_FAULTS_SECONDS", time.as_secs().to_string());
    }
    if let Some(seed) = options.packet_faults_seed {
        rounds.env("PACKET_FAULTS_SEED", seed.to_string());
    }
    shell::run(&mut rounds)?;
    Ok(ExitCode::SUCCESS)
}

/// `cargo test` of all packages; one that fails does not stop the next.
fn cargo_test() -> Command {
    let mut command = cargo("test");
    command.args(["--workspace", "--no-fail-fast", "--config", TIMEOUT]);
    command
}

impl Step {
    fn run(self, count: &mut Count) {
        match self {
            Self::Format => {
                let arguments = ["fmt", "--all", "--check"];
                count.check(shell::run(command("cargo").args(arguments)));
            }
            Self::Layers => layers::check(&mut |result| count.check(result)),
            Self::Clippy => {
                let arguments = ["--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"];
                count.check(shell::run(cargo("clippy").args(arguments)));
            }
            Self::Docs => {
                let arguments = ["--workspace", "--no-deps", "--quiet"];
                count.check(shell::run(
                    cargo("doc").args(arguments).env("RUSTDOCFLAGS", "-D warnings"),
                ));
            }
            Self::Deny => count.check(deny::run()),
            Self::Generated => count.check(generate::check()),
            Self::Unit => count.cargo_test(
                cargo_test()
                    .args(["--exclude", END_TO_END])
                    .env("FLASHSALE_CLUSTER_BIN", binaries_folder()),
            ),
            Self::Fuzz => fuzz::run(&mut |result| count.check(result)),
            Self::Chart => {
                count.check(shell::run(command("helm").args(["lint", "--strict", install::CHART])));
                count.check(template(None).map(drop));
                count.check(template(Some("monitoring.enabled=true")).map(drop));
            }
            Self::E2e => end_to_end(count),
        }
    }
}

fn template(set: Option<&str>) -> Result<String> {
    let mut helm = command("helm");
    helm.args(["template", install::RELEASE, install::CHART]);
    output(helm.args(set.iter().flat_map(|value| ["--set", value])))
}

fn end_to_end(count: &mut Count) {
    let cluster = match Cluster::choose() {
        Ok(cluster) => cluster,
        Err(error) => return count.check(Err(error.context("no cluster"))),
    };
    let was_installed = install::is_installed(&cluster);
    let installed = images::build_and_load(&cluster).and_then(|images| {
        // A real API server knows the objects' schemas best; strict refuses unknown fields.
        count.check(accepted(&cluster));
        install::operator(&cluster, &images)?;
        Ok(images)
    });
    match installed {
        Ok(images) => count.cargo_test(
            cargo_test()
                // Not the one package: that would be another choice of features, and another build.
                .args(["--test", "e2e", "--"])
                // The sales would take the processors from each other, and miss their targets.
                .args(["--include-ignored", "--test-threads=1", "--nocapture"])
                .env("KUBECONFIG", &cluster.kubeconfig)
                .env("FLASHSALE_LOAD_IMAGE", images.name("load")),
        ),
        Err(error) => count.check(Err(error.context("the end-to-end tests did not start"))),
    }
    // On a cluster that stays, what was there stays as well.
    let removed = if cluster.was_running && !was_installed && install::is_installed(&cluster) {
        install::remove(&cluster)
    } else {
        Ok(())
    };
    if let Err(error) = removed.and_then(|()| cluster.stop()) {
        count.check(Err(error.context("cannot clean up")));
    }
}

/// Whether the API server would take every object of the chart.
fn accepted(cluster: &Cluster) -> Result<()> {
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), template(None)?)?;
    output(
        cluster
            .kubectl()
            .args(["apply", "--dry-run=server", "--validate=strict", "-n", "default", "-f"])
            .arg(file.path()),
    )
    .map(drop)
}

impl Count {
    fn check(&mut self, result: Result<()>) {
        match result {
            Ok(()) => self.passed += 1,
            Err(error) => {
                eprintln!("error: {error:#}");
                self.failed += 1;
                self.failures.push(format!("{error:#}"));
            }
        }
    }

    /// Runs `cargo test`, shows its output and adds up its `test result` lines.
    fn cargo_test(&mut self, command: &mut Command) {
        let before = self.failed;
        if let Err(error) = self.count_lines(command)
            && self.failed == before
        {
            // It failed before a test could: did not compile, or a test binary died.
            self.check(Err(error));
        }
    }

    fn count_lines(&mut self, command: &mut Command) -> Result<()> {
        let mut child = command
            // A failed test's error shall not drown in the frames of its runtime.
            .env("RUST_BACKTRACE", "0")
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", line(command)))?;
        let stdout = child.stdout.take().context("cargo test has no output")?;
        let (lines, printed) = mpsc::channel();
        thread::spawn(move || {
            BufReader::new(stdout)
                .lines()
                .map_while(Result::ok)
                .try_for_each(|text| lines.send(text))
        });
        let mut in_failures = false;
        loop {
            let text = match printed.recv_timeout(CHECK) {
                Ok(text) => text,
                // What a test left running may hold its output open.
                Err(RecvTimeoutError::Timeout) if child.try_wait()?.is_none() => continue,
                Err(_ended) => break,
            };
            println!("{text}");
            in_failures |= text == "failures:";
            // The names stand alone on their lines, indented.
            if let Some(name) =
                text.strip_prefix("    ").filter(|name| !name.is_empty() && !name.contains(' '))
                && in_failures
            {
                self.failures.push(name.to_owned());
            }
            if let Some(result) = text.strip_prefix("test result: ") {
                self.passed += number_before(result, " passed");
                self.failed += number_before(result, " failed");
                self.skipped += number_before(result, " ignored");
                in_failures = false;
            }
        }
        let status = child.wait()?;
        anyhow::ensure!(status.success(), "{} failed: {status}", line(command));
        Ok(())
    }
}

/// The number that stands before a word in `ok. 12 passed; 0 failed; 1 ignored; ...`.
fn number_before(text: &str, word: &str) -> usize {
    text.split_once(word)
        .and_then(|(before, _)| before.rsplit(' ').next())
        .and_then(|number| number.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_times() {
        assert_eq!(time("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(time("30m"), Ok(Duration::from_mins(30)));
        assert_eq!(time("8h"), Ok(Duration::from_hours(8)));
        for wrong in ["", "30", "m", "-1m", "1d", "1é", "9999999999999999999h"] {
            assert!(time(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_process_that_a_test_left_running_is_not_waited_for() {
        let mut count = Count::default();
        let mut leaves_one = Command::new("sh");
        leaves_one.args(["-c", "sleep 60 & echo 'test result: ok. 2 passed'; exit 1"]);
        let started = Instant::now();
        count.cargo_test(&mut leaves_one);
        assert!(started.elapsed() < Duration::from_secs(30));
        assert_eq!((count.passed, count.failed), (2, 1));
    }

    #[test]
    fn reads_the_line_that_cargo_test_prints() {
        let line = "FAILED. 12 passed; 3 failed; 1 ignored; 0 measured; 0 filtered out";
        assert_eq!(number_before(line, " passed"), 12);
        assert_eq!(number_before(line, " failed"), 3);
        assert_eq!(number_before(line, " ignored"), 1);
    }
}
