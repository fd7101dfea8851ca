//! Five Redis nodes, a PostgreSQL, three worker processes, and a proxy between each of the
//! workers and each of the nodes; and what can be done to them.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use testkit::{Link, Postgres, Proxy, RedisServer, Way};
use tokio::runtime::Runtime;

use crate::fault::{Cut, Kind};
use crate::history::Workload;
use crate::process::Worker;
use crate::record::Record;
use crate::register::Registers;
use crate::topology::{NODES, PROCESSES};
use crate::worker::{Assignment, Command, watch_for_stalls};

/// Anything that takes longer hangs.
pub const PATIENCE: Duration = Duration::from_secs(40);

/// Everything that runs; all of it ends with this.
#[derive(Debug)]
pub struct Suite {
    binary: PathBuf,
    /// How often a worker was started.
    starts: u64,
    workers: Vec<Worker>,
    /// For each process one for each node.
    proxies: Vec<Vec<Proxy>>,
    nodes: Vec<RedisServer>,
    /// How far each node's clock is ahead, in seconds.
    clocks: [i64; NODES],
    registers: Registers,
    database_url: String,
    record: Arc<Record>,
    runtime: Runtime,
    _postgres: Arc<Postgres>,
}

impl Suite {
    /// Starts everything; `binary` is the worker's.
    ///
    /// # Errors
    /// When something that is needed is not installed, or does not start.
    pub fn start(binary: PathBuf) -> Result<Self> {
        static DATABASES: AtomicU64 = AtomicU64::new(1);
        let runtime = Runtime::new()?;
        let postgres = Postgres::shared()?;
        let database = format!("faults{}", DATABASES.fetch_add(1, Ordering::Relaxed));
        let database_url = postgres.create_database(&database)?;
        let registers = runtime.block_on(async {
            let registers = Registers::connect(&database_url, 1)?;
            registers.create().await.map(|()| registers)
        })?;
        let nodes: Vec<_> =
            (0..NODES).map(|_| RedisServer::start_with_own_clock()).collect::<Result<_>>()?;
        let mut proxies = Vec::new();
        for _process in PROCESSES {
            let of_one = nodes.iter().map(|node| runtime.block_on(Proxy::start(node.address())));
            proxies.push(of_one.collect::<Result<Vec<_>>>()?);
        }
        let record = Arc::new(Record::default());
        let (wanted, stalled) = (Arc::downgrade(&record), Arc::downgrade(&record));
        watch_for_stalls(
            move || wanted.strong_count() > 0,
            move |from, to| {
                if let Some(record) = stalled.upgrade() {
                    record.add_own_stall(from, to);
                }
            },
        );
        let mut suite = Self {
            binary,
            starts: 0,
            workers: Vec::new(),
            proxies,
            nodes,
            clocks: [0; NODES],
            registers,
            database_url,
            record,
            runtime,
            _postgres: postgres,
        };
        for process in 0..PROCESSES.len() {
            let worker = suite.start_worker(process)?;
            suite.workers.push(worker);
        }
        Ok(suite)
    }

    /// What the workers report.
    #[must_use]
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// A worker.
    pub fn worker(&mut self, process: usize) -> &mut Worker {
        &mut self.workers[process]
    }

    /// Kills a worker and starts another in its place.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn replace_worker(&mut self, process: usize) -> Result<()> {
        self.workers[process].kill()?;
        self.record.forget_voting(process);
        self.workers[process] = self.start_worker(process)?;
        Ok(())
    }

    fn start_worker(&mut self, process: usize) -> Result<Worker> {
        self.starts += 1;
        let assignment = Assignment {
            process,
            start: self.starts,
            first_client: PROCESSES[..process].iter().sum(),
            clients: PROCESSES[process],
            nodes: self.proxies[process].iter().map(|proxy| proxy.address().to_owned()).collect(),
            database_url: self.database_url.clone(),
        };
        Worker::start(&self.binary, &assignment, &self.record)
    }

    /// Does this to the nodes, as seen by one process or by all.
    ///
    /// # Errors
    /// When a process cannot be signalled, or a clock does not jump.
    pub fn inject(&mut self, kind: Kind, nodes: &[usize], process: Option<usize>) -> Result<()> {
        for &node in nodes {
            match kind {
                Kind::Kill | Kind::KillAndForget => self.nodes[node].kill()?,
                Kind::Stop => self.nodes[node].pause()?,
                Kind::Partition(cut, _) => self.link(node, process, partition(cut)),
                Kind::Slow(delay) => self.link(node, process, Link::both(Way::Slow(delay / 2))),
                Kind::Jump(seconds) => self.jump(node, seconds)?,
            }
        }
        Ok(())
    }

    /// Undoes it. A clock that jumped stays where it is.
    ///
    /// # Errors
    /// When a node does not start again.
    pub fn heal(&mut self, kind: Kind, nodes: &[usize], process: Option<usize>) -> Result<()> {
        for &node in nodes {
            match kind {
                Kind::Kill => self.nodes[node].restart()?,
                Kind::KillAndForget => self.nodes[node].restart_empty()?,
                Kind::Stop => self.nodes[node].resume()?,
                Kind::Partition(..) | Kind::Slow(_) => self.link(node, process, Link::default()),
                Kind::Jump(_) => {}
            }
        }
        Ok(())
    }

    fn link(&self, node: usize, only: Option<usize>, link: Link) {
        for (process, proxies) in self.proxies.iter().enumerate() {
            if only.is_none_or(|only| only == process) {
                proxies[node].set(link);
            }
        }
    }

    fn jump(&mut self, node: usize, seconds: i64) -> Result<()> {
        let before = self.nodes[node].time()?;
        self.clocks[node] += seconds;
        self.nodes[node].set_clock(self.clocks[node])?;
        let jumped = self.nodes[node].time()? - before;
        ensure!((jumped - seconds).abs() <= 2, "node {node} jumped {jumped} s, not {seconds} s");
        Ok(())
    }

    /// Lets every operation end, and reads the registers when nothing can be written any more.
    ///
    /// # Errors
    /// When an operation does not end.
    pub fn finish(&mut self) -> Result<Vec<(Workload, u64)>> {
        for worker in &mut self.workers {
            worker.tell(Command::Finish)?;
        }
        for worker in &mut self.workers {
            worker.await_end(PATIENCE)?;
        }
        let deadline = Instant::now() + PATIENCE;
        while !self.runtime.block_on(self.registers.is_left_alone())? {
            if Instant::now() > deadline {
                bail!("sessions of ended workers are still open");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let read = |workload| Ok((workload, self.runtime.block_on(self.registers.read(workload))?));
        Workload::ALL.into_iter().map(read).collect()
    }
}

fn partition(cut: Cut) -> Link {
    match cut {
        Cut::Both => Link::both(Way::Cut),
        Cut::ToNode => Link { to_server: Way::Cut, ..Link::default() },
        Cut::FromNode => Link { to_client: Way::Cut, ..Link::default() },
    }
}
