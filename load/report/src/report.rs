//! The report as data: one JSON object for tools, from which the text and the page are made. It decides nothing.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::series::Series;

/// Version of the JSON object. A reader of one version reads every object of that version: fields are only added.
pub const SCHEMA_VERSION: u32 = 1;

/// The result of comparing a figure with its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// There is no target
    Info,
    /// Met
    Ok,
    /// The sale violated a correctness rule
    Wrong,
    /// A timing target was missed
    Slow,
    /// A timing target was missed, and does not count
    Missed,
}

/// One figure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Row {
    /// The name of the figure
    pub name: String,
    /// The value with its unit
    pub measured: String,
    /// The target with its relation, such as `< 100 ms`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The result of the comparison
    pub status: Status,
    /// How the figure is computed
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
}

/// All figures of a run, for tools. The lock's times come from histograms: they are interpolated within a
/// bucket, as by Prometheus's `histogram_quantile`, and absent without observations.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Figures {
    pub scenario: String,
    pub users: u32,
    pub stock: i64,
    pub sold: i64,
    /// Users without an order, by the last answer's code
    pub failed: BTreeMap<String, u32>,
    /// All answers, by code
    pub answers: BTreeMap<String, u32>,
    /// The same for each second of the run
    pub answers_by_second: Vec<BTreeMap<String, u32>>,
    /// The longest time without a successful purchase while users came
    pub longest_pause_ms: f64,
    /// New tokens by the result of their first use
    pub new_tokens: BTreeMap<String, u32>,
    pub oversold: i64,
    pub success_rate_percent: f64,
    pub unanswered: u32,
    pub lost_answers: u32,
    pub requests: u32,
    pub requests_per_second: f64,
    /// From the start of the first user to the last answer
    pub elapsed_seconds: f64,
    pub p50_ms: f64,
    pub average_ms: f64,
    /// The nearest rank: at least 99 % of all response times are at most this long
    pub p99_ms: f64,
    pub max_ms: f64,
    /// What the response times consist of: `name_lookup` (once, before the run), `tcp_connect`, `tls_handshake`, `answer`
    /// (from an open connection to the whole answer); each by `count`, `p50_ms`, `average_ms`, `p99_ms`, `max_ms`
    pub latency_parts: BTreeMap<String, BTreeMap<String, f64>>,
    pub lock_wait_p50_ms: Option<f64>,
    pub lock_wait_p99_ms: Option<f64>,
    pub lock_node_average_ms: BTreeMap<String, f64>,
    pub lock_node_p99_ms: BTreeMap<String, f64>,
    pub quorum_success_percent: Option<f64>,
    pub node_stock: BTreeMap<String, Option<i64>>,
    pub database_stock: Option<i64>,
    pub database_orders: Option<u32>,
    /// The run over time
    pub series: Series,
}

/// Whether a run passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Verdict {
    /// Every correctness rule holds and every timing target that counts was met
    Pass,
    /// All other runs
    Fail,
}

impl Verdict {
    /// As in the report.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Pass => "PASS",
            Self::Fail => "FAIL",
        }
    }
}

/// The result of a load run: the last line of `flashsale-load run`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    /// Version of this schema; fields may be added within a version
    schema_version: u32,
    /// Version of flashsale-load
    #[serde(default)]
    tool_version: String,
    verdict: Verdict,
    /// Names of the figures that are wrong
    wrong: Vec<String>,
    /// Names of the timing targets that were missed and count
    slow: Vec<String>,
    /// The scenario in one line
    #[serde(default)]
    description: String,
    #[serde(flatten)]
    figures: Figures,
    /// Disagreements between answers and database, and read errors
    problems: Vec<String>,
    checks: Vec<Row>,
}

impl Report {
    /// The report on these figures. A check that is wrong or slow makes it FAIL.
    #[must_use]
    pub fn new(
        tool_version: &str,
        description: &str,
        figures: Figures,
        problems: Vec<String>,
        checks: Vec<Row>,
    ) -> Self {
        let names = |status| {
            let rows = checks.iter().filter(|row| row.status == status);
            rows.map(|row| row.name.clone()).collect::<Vec<_>>()
        };
        let (wrong, slow) = (names(Status::Wrong), names(Status::Slow));
        let passed = wrong.is_empty() && slow.is_empty();
        Self {
            schema_version: SCHEMA_VERSION,
            tool_version: tool_version.to_owned(),
            verdict: if passed { Verdict::Pass } else { Verdict::Fail },
            wrong,
            slow,
            description: description.to_owned(),
            figures,
            problems,
            checks,
        }
    }

    /// Whether every correctness rule holds and every timing target that counts was met.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.verdict == Verdict::Pass
    }

    /// PASS or FAIL.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// Version of flashsale-load.
    #[must_use]
    pub fn tool_version(&self) -> &str {
        &self.tool_version
    }

    /// The scenario in one line.
    #[must_use]
    pub fn description(&self) -> &str {
        &self.description
    }

    /// Names of the figures that are wrong.
    #[must_use]
    pub fn wrong(&self) -> &[String] {
        &self.wrong
    }

    /// Names of the timing targets that were missed and count.
    #[must_use]
    pub fn slow(&self) -> &[String] {
        &self.slow
    }

    /// All figures.
    #[must_use]
    pub fn figures(&self) -> &Figures {
        &self.figures
    }

    /// Disagreements between answers and database, and read errors.
    #[must_use]
    pub fn problems(&self) -> &[String] {
        &self.problems
    }

    /// The rows of the table.
    #[must_use]
    pub fn checks(&self) -> &[Row] {
        &self.checks
    }

    /// One line for tools.
    #[must_use]
    pub fn json(&self) -> String {
        // Strings, numbers and maps with string keys always serialize; a reader of `{}` sees no verdict.
        serde_json::to_string(self).unwrap_or_else(|_| "{}".to_owned())
    }

    /// The JSON Schema of [`Report::json`].
    #[must_use]
    pub fn schema() -> serde_json::Value {
        let mut schema = schemars::schema_for!(Self);
        schema.insert("$id".to_owned(), "https://flashsale.dev/load-report.schema.json".into());
        schema.to_value()
    }
}
