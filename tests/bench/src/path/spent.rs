//! Processor time by who spent it, while a load ran: the app, Redis, PostgreSQL, `wrk`, the rest.

use std::path::Path;

use anyhow::{Context, Result};

use super::stage::Stage;
use crate::figures::Cost;

/// The kernel counts time in hundredths of a second.
const MICROS_A_TICK: f64 = 10_000.0;

/// What had been spent at some moment, in ticks; or between two.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Ticks {
    app: f64,
    redis: f64,
    postgres: f64,
    /// By children of this process that have ended: `wrk`, as nothing else ends meanwhile.
    wrk: f64,
    /// By the kernel in interrupts, on the core of any process: here, mostly to carry bytes between these
    /// processes.
    interrupts: f64,
    /// By everybody, interrupts included.
    busy: f64,
    idle: f64,
}

impl Ticks {
    /// Until now.
    pub(super) fn until_now(stage: &Stage) -> Result<Self> {
        let mut ticks = Self::default();
        for replica in &stage.replicas {
            ticks.app += of(replica.pid())?.own;
        }
        for server in &stage.redis {
            ticks.redis += of(server.pid())?.own;
        }
        if let Some(postgres) = &stage.postgres {
            ticks.postgres = with_children(postgres.pid())?;
        }
        ticks.wrk = of(std::process::id())?.ended_children;
        ticks.read_machine(&std::fs::read_to_string("/proc/stat")?)?;
        Ok(ticks)
    }

    /// The first line of `/proc/stat`, which is about all cores.
    fn read_machine(&mut self, stat: &str) -> Result<()> {
        let line = stat.lines().next().unwrap_or_default();
        let ticks: Vec<f64> =
            line.split_whitespace().skip(1).filter_map(|text| text.parse().ok()).collect();
        let [user, nice, system, idle, io_wait, irq, soft_irq, steal, ..] = ticks[..] else {
            anyhow::bail!("/proc/stat begins with {line:?}");
        };
        self.idle = idle + io_wait;
        self.interrupts = irq + soft_irq;
        self.busy = user + nice + system + steal + self.interrupts;
        Ok(())
    }

    /// What was spent since `earlier`.
    pub(super) fn since(self, earlier: Self) -> Self {
        Self {
            app: self.app - earlier.app,
            redis: self.redis - earlier.redis,
            postgres: self.postgres - earlier.postgres,
            wrk: self.wrk - earlier.wrk,
            interrupts: self.interrupts - earlier.interrupts,
            busy: self.busy - earlier.busy,
            idle: self.idle - earlier.idle,
        }
    }

    /// Microseconds of one core that the driver took for each answer, its start and end included.
    #[expect(clippy::cast_precision_loss, reason = "three digits count")]
    pub(super) fn by_the_driver(self, answers: u64) -> f64 {
        self.wrk * MICROS_A_TICK / answers.max(1) as f64
    }

    /// Microseconds of one core for each answer.
    #[expect(clippy::cast_precision_loss, reason = "three digits count")]
    pub(super) fn each(self, answers: u64) -> Cost {
        let each = |ticks: f64| ticks * MICROS_A_TICK / answers.max(1) as f64;
        let ours = self.app + self.redis + self.postgres + self.wrk + self.interrupts;
        vec![
            ("app_us", each(self.app)),
            ("redis_us", each(self.redis)),
            ("postgres_us", each(self.postgres)),
            ("wrk_us", each(self.wrk)),
            ("interrupts_us", each(self.interrupts)),
            ("others_us", each((self.busy - ours).max(0.0))),
            ("idle_us", each(self.idle)),
        ]
    }
}

struct Process {
    parent: u32,
    own: f64,
    ended_children: f64,
}

fn of(pid: u32) -> Result<Process> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .with_context(|| format!("process {pid}"))?;
    parse(&text).with_context(|| format!("/proc/{pid}/stat: {text}"))
}

/// Behind the name, which may have spaces: state, parent, and, after nine others, the times.
fn parse(stat: &str) -> Option<Process> {
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split_whitespace().collect();
    let ticks = |index: usize| fields.get(index)?.parse::<f64>().ok();
    Some(Process {
        parent: fields.get(1)?.parse().ok()?,
        own: ticks(11)? + ticks(12)?,
        ended_children: ticks(13)? + ticks(14)?,
    })
}

/// A server that has a process for each session.
fn with_children(parent: u32) -> Result<f64> {
    let server = of(parent)?;
    let mut sum = server.own + server.ended_children;
    for entry in Path::new("/proc").read_dir()? {
        let pid = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok());
        // A process may end between the listing and the look.
        let child = pid.and_then(|pid| of(pid).ok()).filter(|child| child.parent == parent);
        sum += child.map_or(0.0, |child| child.own + child.ended_children);
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_process_whose_name_has_spaces_and_brackets() {
        let stat = "42 (postgres: a) b) S 7 42 42 0 -1 4194560 1 2 3 4 100 20 3 4 20 0 1 0";
        let process = parse(stat).unwrap();
        assert_eq!(process.parent, 7);
        assert!((process.own - 120.0).abs() < 1e-9);
        assert!((process.ended_children - 7.0).abs() < 1e-9);
        assert!(parse("").is_none());
    }

    #[test]
    fn a_cost_is_shared_by_the_answers() {
        let mut ticks = Ticks { app: 100.0, wrk: 20.0, ..Ticks::default() };
        ticks.read_machine("cpu  100 5 20 8 2 1 24 0 0 0\ncpu0 1").unwrap();
        let cost = ticks.each(1_000);
        let part = |name| cost.iter().find(|(part, _)| *part == name).unwrap().1;
        assert!((part("app_us") - 1_000.0).abs() < 1e-9);
        assert!((part("interrupts_us") - 250.0).abs() < 1e-9);
        assert!((part("others_us") - 50.0).abs() < 1e-9);
        assert!((part("idle_us") - 100.0).abs() < 1e-9);
    }
}
