//! Scenarios as data: users, what they buy, pauses, and the expected result.

use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;

use crate::call::{FollowUp, Kind};
use crate::error::ScenarioError;
use crate::job::JobSpec;

/// The files under `load/scenarios`, in the order of the list.
const BUILT_IN: [&str; 14] = [
    include_str!("../v1-single.yaml"),
    include_str!("../v3-redlock.yaml"),
    include_str!("../v3-lock-timeout-1s.yaml"),
    include_str!("../v3-one-node-stopped.yaml"),
    include_str!("../v3-two-nodes-stopped.yaml"),
    include_str!("../v3-three-nodes-stopped.yaml"),
    include_str!("../s3-distributed.yaml"),
    include_str!("../s3-fair.yaml"),
    include_str!("../black-friday.yaml"),
    include_str!("../coupon-rush.yaml"),
    include_str!("../checkout.yaml"),
    include_str!("../hundred-thousand.yaml"),
    include_str!("../soak.yaml"),
    include_str!("../sustained.yaml"),
];

/// Highest rate of a whole run. One pod starts some thousands of users a second.
const MOST_PER_SECOND: f64 = 100_000.0;

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
    /// Buyers that start per second, until the run gets SIGTERM; absent: all start at once
    #[serde(default)]
    pub users_per_second: Option<f64>,
    /// With `users_per_second`: seconds after which no more buyers start
    #[serde(default)]
    seconds: Option<f64>,
    /// Log-ins per second of one account; each new token must be accepted
    #[serde(default)]
    pub log_ins_per_second: Option<f64>,
    /// The call by which they buy: `purchase` (default), `distributed`, `fair`, `order` or `coupon`
    #[serde(default)]
    pub call: Kind,
    /// Products that each buyer requests together; absent: the one of `PRODUCT_ID`
    #[serde(default)]
    pub products: Vec<String>,
    /// Each user asks once the earlier one has its ticket, or an answer; those who asked first must win
    #[serde(default)]
    pub in_turn: bool,
    /// Units that each buyer requests, of each product
    pub quantity: u32,
    /// Units of each product the sale must have at the start: all unsold, or with `users_per_second` at least this
    /// number left. With `call: coupon`, the number of coupons
    pub stock: i64,
    /// Percentage of the orders that are paid, cancelled, whose payment fails, or that are watched until they expire;
    /// the others stay as they are
    #[serde(default)]
    pub follow_up_percent: FollowUps,
    /// Units that an administrator adds from time to time
    #[serde(default)]
    pub restock: Option<Restock>,
    /// Connections that all users of a pod share; absent: each user opens one, as a crowd does
    #[serde(default)]
    pub connections: Option<u32>,
    /// Redis nodes that somebody must stop during the run
    #[serde(default)]
    pub stopped_nodes: Option<usize>,
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
    /// What must hold of the answers, in addition to correctness
    #[serde(default)]
    pub answers: AnswerRules,
    /// Timing targets, in addition to correctness
    #[serde(default)]
    pub targets: Targets,
    /// How it runs on a cluster
    #[serde(default)]
    pub job: JobSpec,
}

/// What happens to orders after they were placed, in percent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FollowUps {
    pay: u32,
    cancel: u32,
    fail: u32,
    expire: u32,
}

/// Units that an administrator adds.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Restock {
    every_seconds: f64,
    /// Units each time
    pub units: u32,
}

impl Restock {
    /// Time between two.
    #[must_use]
    pub fn every(&self) -> Duration {
        seconds(self.every_seconds)
    }
}

/// What must hold of the answers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AnswerRules {
    /// No attempt has another code
    pub only: Vec<String>,
    /// At least one attempt has each of these codes
    pub some: Vec<String>,
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
    fn parse(text: &str, origin: &str) -> Result<Self, ScenarioError> {
        let wrong =
            |problem: String| ScenarioError::new("--scenario-file", format!("{origin}: {problem}"));
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
        if let Some(problem) = scenario.contradiction() {
            return Err(wrong(problem.to_owned()));
        }
        Ok(scenario)
    }

    /// Fields that exclude each other.
    fn contradiction(&self) -> Option<&'static str> {
        let Self { call, products, follow_up_percent, .. } = self;
        let FollowUps { pay, cancel, fail, expire } = follow_up_percent;
        let one_by_one = self.users_per_second.is_some();
        let back = cancel + fail + expire;
        let restock = self.restock.as_ref();
        let scarce = i64::from(self.users) * i64::from(self.quantity) > self.stock;
        let rules = [
            (self.seconds.is_some() && !one_by_one, "seconds requires users_per_second"),
            (restock.is_some() && !one_by_one, "restock requires users_per_second"),
            (
                restock.is_some_and(|it| !(0.1..1e6).contains(&it.every_seconds) || it.units == 0),
                "restock must have every_seconds of 0.1 or more, and units of 1 or more",
            ),
            (
                !products.is_empty() && matches!(call, Kind::Purchase | Kind::Coupon),
                "products requires call: distributed, fair or order",
            ),
            (
                self.in_turn && (*call != Kind::Fair || one_by_one || self.job.pods > 1),
                "in_turn requires call: fair and one pod, and excludes users_per_second",
            ),
            (pay + back > 100, "follow_up_percent must be at most 100 together"),
            (
                pay + back > 0 && *call == Kind::Coupon,
                "follow_up_percent requires orders, not coupons",
            ),
            (
                back > 0 && scarce && restock.is_none(),
                "follow_up_percent with cancel, fail or expire requires a stock for all users, or restock: \
                 nobody knows which users meet units that came back",
            ),
            (
                *expire > 0 && *call != Kind::Order,
                "follow_up_percent with expire requires call: order",
            ),
            (self.connections == Some(0), "connections must be at least 1"),
            (self.job.pods == 0, "job.pods must be at least 1"),
        ];
        rules.into_iter().find_map(|(broken, rule)| broken.then_some(rule))
    }

    /// Reads a scenario from a YAML file.
    ///
    /// # Errors
    /// When the file cannot be read, has unknown fields, or has impossible values.
    pub fn from_file(path: &Path) -> Result<Self, ScenarioError> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            ScenarioError::new(
                "--scenario-file",
                format!("cannot read {}: {error}", path.display()),
            )
        })?;
        Self::parse(&text, &path.display().to_string())
    }

    /// Finds a built-in scenario.
    ///
    /// # Errors
    /// When no scenario has that name.
    pub fn named(name: &str) -> Result<Self, ScenarioError> {
        let all = built_in()?;
        let names: Vec<_> = all.iter().map(|scenario| scenario.name.clone()).collect();
        all.into_iter().find(|scenario| scenario.name == name).ok_or_else(|| {
            let problem = format!("there is no {name:?}; choose one of {}", names.join(", "));
            ScenarioError::new("--scenario", problem)
        })
    }

    /// The same for another time after which no more users start. Its Job may take as much longer.
    ///
    /// # Errors
    /// When all users start at once.
    pub fn lasting(mut self, time: Duration) -> Result<Self, ScenarioError> {
        if self.users_per_second.is_none() {
            let problem = format!("all users of scenario {} start at once", self.name);
            return Err(ScenarioError::new("--seconds", problem));
        }
        let longer = time.saturating_sub(self.seconds.map_or(Duration::ZERO, seconds));
        let minutes = u32::try_from(longer.as_secs().div_ceil(60)).unwrap_or(u32::MAX);
        self.job.minutes = self.job.minutes.saturating_add(minutes);
        self.seconds = Some(time.as_secs_f64());
        Ok(self)
    }

    /// What happens to the order of the user of this number. Any hundred neighbours have the exact percentages.
    #[must_use]
    pub fn follow_up(&self, index: usize) -> Option<FollowUp> {
        let FollowUps { pay, cancel, fail, expire } = self.follow_up_percent;
        // 61 and 100 have no common divisor, so the kinds are mixed.
        let slot = u32::try_from(index % 100 * 61 % 100).unwrap_or_default();
        let kinds = [FollowUp::Pay, FollowUp::Cancel, FollowUp::Fail, FollowUp::Expire];
        [pay, cancel, fail, expire]
            .into_iter()
            .zip(kinds)
            .scan(0, |sum, (share, kind)| {
                *sum += share;
                Some((*sum, kind))
            })
            .find_map(|(below, kind)| (slot < below).then_some(kind))
    }

    /// Whether the units of this user's order come back.
    #[must_use]
    pub fn gives_back(&self, index: usize) -> bool {
        matches!(self.follow_up(index), Some(FollowUp::Cancel | FollowUp::Fail | FollowUp::Expire))
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
}

/// All built-in scenarios.
///
/// # Errors
/// When a file under `load/scenarios` is invalid, which a test rules out.
pub fn built_in() -> Result<Vec<Scenario>, ScenarioError> {
    BUILT_IN.iter().map(|text| Scenario::parse(text, "a built-in scenario")).collect()
}

/// Reads the value of a flag `--seconds`.
///
/// # Errors
/// When it is no number above 0, or too large for a time.
pub fn positive_seconds(text: &str) -> Result<Duration, String> {
    let time = text.parse().ok().and_then(|value: f64| Duration::try_from_secs_f64(value).ok());
    time.filter(|time| !time.is_zero()).ok_or_else(|| "must be a number above 0".to_owned())
}

/// [`Scenario::parse`] has checked the range; saturating keeps this total.
fn seconds(value: f64) -> Duration {
    Duration::try_from_secs_f64(value).unwrap_or(Duration::MAX)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
