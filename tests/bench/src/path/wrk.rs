//! One run of `wrk`: its connections, what they ask for, and what came of it.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use crate::cores::program;
use anyhow::{Context, Result, ensure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde::Deserialize;

const SCRIPT: &str = include_str!("wrk.lua");
/// What begins the script's last line.
const MARK: &str = "BENCH ";
/// `wrk` leaves answers that come later than its time-out out of its percentiles. With a time-out beyond the end of the
/// load none does: `wrk` gives up everything at the end.
const BEYOND_THE_LOAD: Duration = Duration::from_secs(30);

/// Open files of a process besides its connections to buyers: the database, nodes, logs.
const OTHER_FILES: u64 = 500;

/// Lets this process and its children have as many open files as the machine allows.
pub(super) fn allow_files() -> Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(())
}

/// Whether a process may open as many connections.
///
/// # Errors
/// When it may not: says what allows it.
pub(super) fn check_files(connections: u32) -> Result<()> {
    let (allowed, _) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let needed = u64::from(connections) + OTHER_FILES;
    ensure!(
        allowed >= needed,
        "{connections} connections need {needed} open files, and the limit is {allowed}: raise the \
         hard limit (ulimit -Hn, LimitNOFILE=), or choose other parts with --only"
    );
    Ok(())
}

/// What `wrk` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asks {
    /// The route that does nothing else than check who asks.
    Me,
    /// A purchase.
    Purchase,
    /// An order of one product, which holds its unit until it is paid.
    Order,
}

/// Idempotency keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keys {
    /// The number of the request, behind [`Load::run`].
    Numbered,
    /// The same, but every tenth request is one that was answered before.
    EveryTenthAgain,
    /// Random UUIDs, as clients of a sale use them.
    Uuids,
}

/// What `wrk` is to do.
#[derive(Debug)]
pub(super) struct Load<'a> {
    /// Keep-alive connections, over all threads.
    pub(super) connections: u32,
    pub(super) lasting: Duration,
    /// `http` or `https`; certificates are not verified.
    pub(super) scheme: &'static str,
    /// Of the replicas. Each thread of `wrk` keeps to one of them.
    pub(super) ports: &'a [u16],
    /// A file with one signed token a line.
    pub(super) tokens: &'a Path,
    pub(super) asks: Asks,
    /// What is bought.
    pub(super) products: &'a [String],
    /// Begins the keys that are numbered.
    pub(super) run: &'a str,
    pub(super) keys: Keys,
    /// The one core that it may use, in one thread; otherwise all, in a thread for each replica and at least two.
    pub(super) core: Option<usize>,
}

/// What `wrk` saw.
#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub(super) struct Report {
    pub(super) duration_us: u64,
    /// With any status.
    pub(super) answers: u64,
    /// Answers whose status was above 399.
    pub(super) refused: u64,
    /// Connections that failed.
    pub(super) broken: u64,
    /// Answers that came later than the time-out: none.
    pub(super) timed_out: u64,
    pub(super) p50_us: u64,
    /// From the first byte sent to the last received, with estimates for the requests that a late answer kept its
    /// connection from sending. Requests that have no answer when the load ends are not in it.
    pub(super) p99_us: u64,
}

impl Load<'_> {
    /// Runs it.
    ///
    /// # Errors
    /// When `wrk` is missing or fails, or connections broke or timed out.
    pub(super) async fn run(&self, folder: &Path) -> Result<Report> {
        check_files(self.connections)?;
        let script = folder.join("wrk.lua");
        std::fs::write(&script, SCRIPT)?;
        let threads = if self.core.is_some() { 1 } else { self.ports.len().max(2) };
        ensure!(
            usize::try_from(self.connections)?.is_multiple_of(threads),
            "{} connections cannot be spread over {threads} threads",
            self.connections
        );
        let ports: Vec<String> = self.ports.iter().map(u16::to_string).collect();
        let lasting = self.lasting.as_secs().max(1);
        let timeout = lasting + BEYOND_THE_LOAD.as_secs();
        let products = if self.asks == Asks::Me { String::new() } else { self.products.join(",") };
        let output = program("wrk", self.core)
            .arg(format!("-t{threads}"))
            .arg(format!("-c{}", self.connections))
            .arg(format!("-d{lasting}s"))
            .arg(format!("--timeout={timeout}s"))
            .arg("--script")
            .arg(&script)
            .arg(format!("{}://127.0.0.1:{}", self.scheme, ports[0]))
            .env("BENCH_PORTS", ports.join(","))
            .env("BENCH_TOKENS", self.tokens)
            .env("BENCH_PRODUCTS", products)
            .env("BENCH_ORDERS", if self.asks == Asks::Order { "1" } else { "" })
            .env("BENCH_RUN", self.run)
            .env("BENCH_REPEATS", if self.keys == Keys::EveryTenthAgain { "10" } else { "" })
            .env("BENCH_UUIDS", if self.keys == Keys::Uuids { "1" } else { "" })
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .context("cannot start wrk (Debian: apt-get install wrk)")?;
        let said = String::from_utf8_lossy(&output.stdout);
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "wrk failed: {}\n{said}{complaint}", output.status);
        parse(&said).with_context(|| format!("wrk said\n{said}{complaint}"))
    }
}

/// Reads the report of a load in which no connection broke and no answer timed out.
fn parse(said: &str) -> Result<Report> {
    let line = said.lines().find_map(|line| line.strip_prefix(MARK));
    let report: Report = serde_json::from_str(line.context("no line of the script")?)?;
    ensure!(report.broken == 0, "{} connections broke: {report:?}", report.broken);
    ensure!(report.timed_out == 0, "{} answers timed out: {report:?}", report.timed_out);
    Ok(report)
}

impl Report {
    /// Answers below 400.
    pub(super) fn accepted(&self) -> u64 {
        self.answers - self.refused
    }

    /// For loads that could all be served.
    pub(super) fn ensure_nothing_refused(&self) -> Result<()> {
        ensure!(self.refused == 0, "{} requests were refused: {self:?}", self.refused);
        Ok(())
    }

    #[expect(clippy::cast_precision_loss, reason = "three digits count")]
    pub(super) fn seconds(&self) -> f64 {
        self.duration_us as f64 / 1e6
    }

    #[expect(clippy::cast_precision_loss, reason = "three digits count")]
    pub(super) fn p99_ms(&self) -> f64 {
        self.p99_us as f64 / 1e3
    }

    /// The rate of `count` a second.
    #[expect(clippy::cast_precision_loss, reason = "three digits count")]
    pub(super) fn rate(&self, count: u64) -> f64 {
        count as f64 / self.seconds()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slow_server::SlowServer;

    #[test]
    fn reads_the_line_of_the_script_among_those_of_wrk() {
        let said = "Running 5s test @ http://127.0.0.1:1\n  2 threads and 64 connections\n\
                    BENCH {\"duration_us\":5000000,\"answers\":100,\"refused\":3,\"broken\":0,\
                    \"timed_out\":0,\"p50_us\":900,\"p99_us\":4500}\n";
        let report = parse(said).unwrap();
        assert_eq!(report.accepted(), 97);
        assert!((report.seconds() - 5.0).abs() < 1e-9);
        assert!((report.p99_ms() - 4.5).abs() < 1e-9);
        assert!(parse("Requests/sec: 12\n").is_err());
        assert!(report.ensure_nothing_refused().is_err());
        assert!(Report { refused: 0, ..report }.ensure_nothing_refused().is_ok());
    }

    /// Their times are missing in the percentiles.
    #[test]
    fn connections_that_broke_and_answers_that_timed_out_fail_the_load() {
        let error = |broken: u64, timed_out: u64| {
            let said = format!(
                "{MARK}{{\"duration_us\":5000000,\"answers\":100,\"refused\":0,\"broken\":{broken},\
                 \"timed_out\":{timed_out},\"p50_us\":900,\"p99_us\":4500}}\n"
            );
            parse(&said).err().map(|error| error.to_string()).unwrap_or_default()
        };
        assert_eq!(error(0, 0), "");
        assert!(error(2, 0).starts_with("2 connections broke: "), "{}", error(2, 0));
        assert!(error(0, 1).starts_with("1 answers timed out: "), "{}", error(0, 1));
    }

    /// As a sale whose lock is away for 2.6 s: longer than the time-out that `wrk` has by itself.
    fn stall(_number: u32, since: Duration) -> Duration {
        let (begin, end) = (Duration::from_secs(1), Duration::from_millis(3_600));
        if (begin..end).contains(&since) {
            end.saturating_sub(since)
        } else {
            Duration::from_millis(5)
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_long_stall_is_in_the_percentiles() {
        let server = SlowServer::start(stall).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let tokens = folder.path().join("tokens");
        std::fs::write(&tokens, "a.b.c").unwrap();
        let load = Load {
            connections: 64,
            lasting: Duration::from_secs(5),
            scheme: "http",
            ports: &[server.port],
            tokens: &tokens,
            asks: Asks::Purchase,
            products: &["1".to_owned()],
            run: "stall",
            keys: Keys::Numbered,
            core: None,
        };
        let report = load.run(folder.path()).await.unwrap();
        assert_eq!(report.timed_out, 0, "{report:?}");
        assert!(report.p99_ms() > 2_000.0, "{report:?}");
    }

    #[test]
    fn too_few_open_files_are_named_before_wrk_fails() {
        let error = check_files(u32::MAX).unwrap_err().to_string();
        assert!(error.contains("ulimit -Hn"), "{error}");
    }
}
