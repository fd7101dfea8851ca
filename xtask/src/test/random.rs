//! Rounds of random faults, for as long as one likes, instead of the steps.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::binaries::Build;
use crate::shell::{self, cargo, command, line};

/// The options of `cargo xtask test` that stand instead of its steps.
pub const INSTEAD_OF_STEPS: [&str; 6] =
    ["changed", "matrix", "faults_for", "faults_seed", "packet_faults_for", "packet_faults_seed"];

/// Which rounds.
#[derive(Debug, clap::Args)]
pub struct Rounds {
    /// Instead of the steps: random faults on the lock for this long, for example 30m. Each round
    /// prints its seed
    #[arg(long, value_name = "TIME", value_parser = time,
        conflicts_with_all = ["steps", "changed", "matrix"])]
    faults_for: Option<Duration>,
    /// Instead of the steps: the round with this seed again. The same faults hit the same victims
    /// in the same order; how the processes take turns differs each time
    #[arg(long, value_name = "SEED",
        conflicts_with_all = ["steps", "changed", "matrix", "faults_for"])]
    faults_seed: Option<u64>,
    /// Instead of the steps: purchases for this long while single packets between the app and
    /// PostgreSQL are late, split or lost. Each round prints its seed
    #[arg(long, value_name = "TIME", value_parser = time,
        conflicts_with_all = ["steps", "changed", "matrix", "faults_for", "faults_seed"])]
    packet_faults_for: Option<Duration>,
    /// The seed of the first of these rounds
    #[arg(long, value_name = "SEED",
        conflicts_with_all = ["steps", "changed", "matrix", "faults_for", "faults_seed"])]
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

impl Rounds {
    /// Runs what was asked for, if anything was.
    pub fn run(&self) -> Option<Result<ExitCode>> {
        if self.faults_for.is_some() || self.faults_seed.is_some() {
            return Some(self.lock_faults());
        }
        (self.packet_faults_for.is_some() || self.packet_faults_seed.is_some())
            .then(|| self.packet_faults())
    }

    /// Rounds of the lock's fault suite, counted by itself. Its tests are part of the `unit` step.
    fn lock_faults(&self) -> Result<ExitCode> {
        Build::Test.run()?;
        let mut rounds = command(Build::Test.program("fault-rounds"));
        if let Some(time) = self.faults_for {
            rounds.args(["--seconds", &time.as_secs().to_string()]);
        }
        if let Some(seed) = self.faults_seed {
            rounds.args(["--seed", &seed.to_string()]);
        }
        let ended = rounds.status().with_context(|| format!("cannot start {}", line(&rounds)))?;
        Ok(if ended.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    /// Rounds of `app/tests/packets.rs`, all kinds of sale at the same time.
    fn packet_faults(&self) -> Result<ExitCode> {
        let mut rounds = cargo("test");
        rounds.args([
            "--workspace",
            "--test",
            "app",
            "packets::",
            "--",
            "--nocapture",
            "--test-threads=4",
        ]);
        if let Some(time) = self.packet_faults_for {
            rounds.env("PACKET_FAULTS_SECONDS", time.as_secs().to_string());
        }
        if let Some(seed) = self.packet_faults_seed {
            rounds.env("PACKET_FAULTS_SEED", seed.to_string());
        }
        shell::run(&mut rounds)?;
        Ok(ExitCode::SUCCESS)
    }
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
}
