//! Scenarios as data: users, quantities, pauses and the expected result.

use std::fmt::Write;
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;

use crate::error::ConfigError;

/// The files under `load/scenarios`.
const BUILT_IN: [&str; 3] = [
    include_str!("../scenarios/v3-redlock.yaml"),
    include_str!("../scenarios/v1-single.yaml"),
    include_str!("../scenarios/sustained.yaml"),
];

/// Highest rate: the interval between two starts stays above the resolution of the timer.
const MOST_PER_SECOND: f64 = 1000.0;

/// One load run.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// For `--scenario`
    pub name: String,
    /// One line of description
    pub description: String,
    /// Buyers that start at once; with `users_per_second`, the maximum
    pub users: u32,
    /// Buyers that start per second, until the run is told to stop; absent: all start at once
    #[serde(default)]
    pub users_per_second: Option<f64>,
    /// With `users_per_second`: seconds after which no more buyers start
    #[serde(default)]
    seconds: Option<f64>,
    /// Log-ins per second of one account; each new token must be accepted
    #[serde(default)]
    pub log_ins_per_second: Option<f64>,
    /// Units that each buyer requests
    pub quantity: u32,
    /// Units the sale must have at the start: all unsold, or with `users_per_second` at least so many left
    pub stock: i64,
    /// Connections that all users of a pod share; absent: each user opens one, as a crowd does
    #[serde(default)]
    pub connections: Option<u32>,
    /// Redis nodes of the sale
    pub nodes: usize,
    /// Pause between two attempts of one user
    pause_seconds: Pause,
    /// Maximum attempts of one user
    pub max_tries: u32,
    /// Seconds until an answer counts as lost
    answer_timeout_seconds: f64,
    /// Seconds after which a user gives up
    deadline_seconds: f64,
    /// Timing targets, in addition to correctness
    #[serde(default)]
    pub targets: Targets,
}

#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pause {
    min: f64,
    max: f64,
}

/// Timing targets. A figure without a target is reported only.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Targets {
    /// Minimum answers per second
    pub requests_per_second: Option<f64>,
    /// Upper bound of the median response time
    pub p50_ms: Option<f64>,
    /// Upper bound of the mean response time
    pub average_ms: Option<f64>,
    /// Upper bound of the 99th percentile
    pub p99_ms: Option<f64>,
    /// Upper bound of the longest time without a successful purchase
    pub pause_ms: Option<f64>,
    /// Upper bound of the mean time of a lock attempt on the slowest Redis node
    pub lock_node_average_ms: Option<f64>,
    /// Minimum percentage of lock acquisitions that reached a quorum
    pub quorum_success_percent: Option<f64>,
}

impl Scenario {
    fn parse(text: &str, origin: &str) -> Result<Self, ConfigError> {
        let wrong =
            |problem: String| ConfigError::new("--scenario-file", format!("{origin}: {problem}"));
        let scenario: Self =
            serde_norway::from_str(text).map_err(|error| wrong(error.to_string()))?;
        let Pause { min, max } = scenario.pause_seconds;
        let seconds = [min, max, scenario.answer_timeout_seconds, scenario.deadline_seconds];
        if seconds.iter().any(|&value| Duration::try_from_secs_f64(value).is_err()) || min > max {
            return Err(wrong(
                "times must be seconds of 0 or more, and min at most max".to_owned(),
            ));
        }
        if scenario.users == 0
            || scenario.quantity == 0
            || scenario.max_tries == 0
            || scenario.nodes == 0
        {
            return Err(wrong(
                "users, quantity, max_tries and nodes must be at least 1".to_owned(),
            ));
        }
        if scenario.connections == Some(0) {
            return Err(wrong("connections must be at least 1".to_owned()));
        }
        if scenario.stock < 0 {
            return Err(wrong("stock must be 0 or more".to_owned()));
        }
        let rates = [scenario.users_per_second, scenario.log_ins_per_second];
        if rates.iter().flatten().any(|rate| !(0.001..=MOST_PER_SECOND).contains(rate)) {
            return Err(wrong(format!(
                "users_per_second and log_ins_per_second must be 0.001 to {MOST_PER_SECOND}"
            )));
        }
        if scenario.seconds.is_some_and(|value| Duration::try_from_secs_f64(value).is_err()) {
            return Err(wrong("seconds must be 0 or more".to_owned()));
        }
        if scenario.seconds.is_some() && scenario.users_per_second.is_none() {
            return Err(wrong("seconds requires users_per_second".to_owned()));
        }
        Ok(scenario)
    }

    /// Reads a scenario from a YAML file.
    ///
    /// # Errors
    /// When the file cannot be read, has unknown fields, or has impossible values.
    pub fn from_file(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            ConfigError::new("--scenario-file", format!("cannot read {}: {error}", path.display()))
        })?;
        Self::parse(&text, &path.display().to_string())
    }

    /// Finds a built-in scenario.
    ///
    /// # Errors
    /// When no scenario has that name.
    pub fn named(name: &str) -> Result<Self, ConfigError> {
        let all = built_in()?;
        let names: Vec<_> = all.iter().map(|scenario| scenario.name.clone()).collect();
        all.into_iter().find(|scenario| scenario.name == name).ok_or_else(|| {
            let problem = format!("there is no {name:?}; choose one of {}", names.join(", "));
            ConfigError::new("--scenario", problem)
        })
    }

    /// Number of users that must succeed: as many as the units at the start allow.
    #[must_use]
    pub fn expected_buyers(&self, users: u32, stock: i64) -> u32 {
        let purchases = stock.max(0) / i64::from(self.quantity);
        u32::try_from(purchases).unwrap_or(u32::MAX).min(users)
    }

    /// Time between the starts of two users; absent: all start at once.
    #[must_use]
    pub fn between_users(&self) -> Option<Duration> {
        self.users_per_second.map(|rate| seconds(rate.recip()))
    }

    /// Time between two log-ins; absent: none.
    #[must_use]
    pub fn between_log_ins(&self) -> Option<Duration> {
        self.log_ins_per_second.map(|rate| seconds(rate.recip()))
    }

    /// Time after which no more users start.
    #[must_use]
    pub fn duration(&self) -> Duration {
        self.seconds.map_or(Duration::MAX, seconds)
    }

    /// Pause between two attempts of one user.
    #[must_use]
    pub fn pause(&self) -> RangeInclusive<Duration> {
        seconds(self.pause_seconds.min)..=seconds(self.pause_seconds.max)
    }

    /// Time until an answer counts as lost.
    #[must_use]
    pub fn answer_timeout(&self) -> Duration {
        seconds(self.answer_timeout_seconds)
    }

    /// Time after which a user gives up.
    #[must_use]
    pub fn deadline(&self) -> Duration {
        seconds(self.deadline_seconds)
    }

    /// The text that the command `scenarios` prints.
    #[must_use]
    pub fn summary(&self) -> String {
        let mut text = format!("{}\n  {}\n", self.name, self.description);
        let mut target = |name: &str, value: String| {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "    {name:<24}{value}");
        };
        if self.users_per_second.is_some() {
            target("sold", "= users that came".to_owned());
            target("oversold", "= 0".to_owned());
            target("success rate", "= 100.00 %".to_owned());
        } else {
            let buyers = self.expected_buyers(self.users, self.stock);
            let success = f64::from(buyers) / f64::from(self.users) * 100.0;
            target("sold", format!("= {}", i64::from(buyers) * i64::from(self.quantity)));
            target("oversold", "= 0".to_owned());
            target("success rate", format!("= {success:.2} %"));
        }
        let targets = &self.targets;
        for (name, bound, value, unit) in [
            ("requests/s", ">=", targets.requests_per_second, ""),
            ("P50", "<", targets.p50_ms, " ms"),
            ("average", "<", targets.average_ms, " ms"),
            ("P99", "<", targets.p99_ms, " ms"),
            ("longest pause", "<", targets.pause_ms, " ms"),
            ("lock attempt a node", "<", targets.lock_node_average_ms, " ms on average"),
            ("quorum success", ">=", targets.quorum_success_percent, " %"),
        ] {
            if let Some(value) = value {
                target(name, format!("{bound} {value}{unit}"));
            }
        }
        text
    }
}

/// All built-in scenarios.
///
/// # Errors
/// When a file under `load/scenarios` is invalid, which a test rules out.
pub fn built_in() -> Result<Vec<Scenario>, ConfigError> {
    BUILT_IN.iter().map(|text| Scenario::parse(text, "a built-in scenario")).collect()
}

/// [`Scenario::parse`] has checked the range; saturating keeps this total.
fn seconds(value: f64) -> Duration {
    Duration::try_from_secs_f64(value).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_in_scenarios_are_those_of_the_design() {
        let v3 = Scenario::named("v3-redlock").unwrap();
        assert_eq!((v3.users, v3.stock, v3.nodes, v3.users_per_second), (300, 100, 5, None));
        assert_eq!(v3.pause(), Duration::from_millis(100)..=Duration::from_millis(500));
        let v1 = Scenario::named("v1-single").unwrap();
        assert_eq!((v1.users, v1.stock, v1.nodes, v1.users_per_second), (100, 100, 1, None));
        let sustained = Scenario::named("sustained").unwrap();
        assert_eq!(sustained.between_users(), Some(Duration::from_millis(20)));
        assert!(sustained.summary().contains("= users that came"));
    }

    #[test]
    fn expects_whole_purchases_only() {
        let scenario = Scenario { quantity: 3, ..Scenario::named("v3-redlock").unwrap() };
        assert_eq!(scenario.expected_buyers(300, 100), 33);
        assert_eq!(scenario.expected_buyers(4, 100), 4);
    }

    #[test]
    fn errors_say_what_to_change() {
        let unknown = Scenario::named("v9").unwrap_err().to_string();
        assert!(unknown.contains("v3-redlock, v1-single, sustained"), "{unknown}");
        let text = BUILT_IN[1];
        for (from, to, expected) in [
            ("users: 100", "users: 0", "at least 1"),
            ("users: 100", "userz: 100", "userz"),
            ("min: 0.1", "min: 0.9", "min at most max"),
            ("stock: 100", "stock: -1", "0 or more"),
            ("stock: 100", "stock: 100\nconnections: 0", "connections must"),
            ("stock: 100", "stock: 100\nusers_per_second: 0", "0.001 to 1000"),
            ("stock: 100", "stock: 100\nseconds: 5", "requires users_per_second"),
        ] {
            let error = Scenario::parse(&text.replace(from, to), "x.yaml").unwrap_err().to_string();
            assert!(
                error.starts_with("--scenario-file: x.yaml: ") && error.contains(expected),
                "{error}"
            );
        }
    }
}
