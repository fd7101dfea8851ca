//! What the figures were measured on, and whether others were at work on it meanwhile.

use std::fmt;
use std::process::Command;
use std::sync::LazyLock;

use serde::Serialize;

/// The machine, its servers and the code that was measured.
#[derive(Debug, Default, Serialize)]
pub struct Machine {
    cores: usize,
    processor: String,
    kernel: String,
    redis: String,
    /// How much of the processor time between start and end others took, in percent: figures are
    /// worse for it, and their spread shows it. What the kernel does in interrupts counts as theirs.
    others_percent: f64,
    /// The commit; `+` behind it means that the work tree differed.
    #[serde(skip)]
    pub commit: String,
}

/// Processor time that was spent until some moment, in ticks.
#[derive(Debug, Clone, Copy, Default)]
pub struct Spent {
    /// By everybody.
    busy: f64,
    /// By nobody.
    idle: f64,
    /// By this process, and by those of its children that have ended.
    own: f64,
}

impl Spent {
    /// Until now; nothing where the kernel does not tell.
    pub fn until_now() -> Self {
        let numbers = |text: String| -> Vec<f64> {
            text.split_whitespace().filter_map(|number| number.parse().ok()).collect()
        };
        // user, nice, system, idle, iowait, irq, softirq, steal; then parts of these.
        let all =
            read("/proc/stat").and_then(|text| Some(numbers(text.lines().next()?.to_owned())));
        let all = all.unwrap_or_default();
        let idle = all.iter().skip(3).take(2).sum();
        let busy = all.iter().take(8).sum::<f64>() - idle;
        // Behind the name, which may have spaces: utime, stime, cutime, cstime after 11 others.
        let own = read("/proc/self/stat")
            .and_then(|text| Some(numbers(text.rsplit_once(") ")?.1.to_owned())));
        let own = own.unwrap_or_default().iter().skip(10).take(4).sum();
        Self { busy, idle, own }
    }
}

impl Machine {
    /// This one, on which the work on this commit began at `begin` and has ended; what cannot be
    /// found out is said to be unknown.
    pub fn since(begin: Spent, commit: String) -> Self {
        let end = Spent::until_now();
        let (busy, idle, own) = (end.busy - begin.busy, end.idle - begin.idle, end.own - begin.own);
        let others = (busy - own).max(0.0) / (busy + idle).max(1.0);
        Self {
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            processor: or_unknown(processor()),
            kernel: or_unknown(output("uname", &["-sr"])),
            redis: or_unknown(redis().and_then(|said| Some(version(&said)?.to_owned()))),
            others_percent: (others * 100.0).round(),
            commit,
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cores, processor, kernel, redis, others_percent, commit } = self;
        write!(
            f,
            "{cores} cores of {processor}, {kernel}, Redis {redis}, commit {commit}; others took \
             {others_percent} % of the processor time"
        )
    }
}

/// What is checked out, with `+` behind it if files differ from it.
pub fn commit() -> String {
    let changed = output("git", &["status", "--porcelain"]).is_some_and(|list| !list.is_empty());
    let mark = if changed { "+" } else { "" };
    or_unknown(output("git", &["rev-parse", "--short=12", "HEAD"]).map(|commit| commit + mark))
}

/// Whether the machine's Redis server has MSETEX, which sets several keys that expire.
pub fn has_msetex() -> bool {
    static HAS: LazyLock<bool> = LazyLock::new(|| redis().is_some_and(|said| knows_msetex(&said)));
    *HAS
}

/// By what `redis-server --version` says: `Redis server v=8.4.0 ...` and later, or of Valkey 9.1.
fn knows_msetex(said: &str) -> bool {
    let numbers = version(said).and_then(|version| {
        let mut numbers = version.split('.').map(|number| number.parse::<u32>().ok());
        Some((numbers.next()??, numbers.next()??))
    });
    let since = if said.starts_with("Valkey") { (9, 1) } else { (8, 4) };
    numbers.is_some_and(|numbers| numbers >= since)
}

fn version(said: &str) -> Option<&str> {
    said.split_whitespace().find_map(|word| word.strip_prefix("v="))
}

fn redis() -> Option<String> {
    output("redis-server", &["--version"])
}

fn processor() -> Option<String> {
    let line =
        read("/proc/cpuinfo")?.lines().find(|line| line.starts_with("model name"))?.to_owned();
    Some(line.split_once(": ")?.1.to_owned())
}

fn read(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

fn or_unknown(text: Option<String>) -> String {
    text.unwrap_or_else(|| "unknown".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn msetex_came_with_redis_8_4_and_valkey_9_1() {
        for (said, knows) in [
            ("Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64", false),
            ("Redis server v=8.3.9 sha=0", false),
            ("Redis server v=8.4.0 sha=0", true),
            ("Redis server v=10.0.0 sha=0", true),
            ("Valkey server v=8.4.0 sha=0", false),
            ("Valkey server v=9.1.0-rc1 sha=0", true),
            ("no such program", false),
        ] {
            assert_eq!(knows_msetex(said), knows, "{said}");
        }
    }
}
