//! The faults: what is done to whom, and what that takes away.

use std::fmt;
use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::index::sample;

use crate::history::Workload;
use crate::topology::{NODES, PROCESSES};
use crate::worker::NODE_TIMEOUT;

/// A kind of fault; its victims are not chosen yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// kill -9; started again with its data.
    Kill,
    /// kill -9; started again without its data.
    KillAndForget,
    /// SIGSTOP; SIGCONT.
    Stop,
    /// The network of one worker process, or of all.
    Partition(Cut, Of),
    /// Answers take this long.
    Slow(Duration),
    /// The time of day jumps by this number of seconds, and stays there.
    Jump(i64),
}

/// Which direction carries nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Neither does.
    Both,
    /// From the clients to the node.
    ToNode,
    /// From the node to the clients.
    FromNode,
}

/// Whose network fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    /// That of one worker process.
    One,
    /// That of all.
    All,
}

/// All kinds of fault that nodes can have, by the name of their test.
pub const NODE_FAULTS: &[(&str, &[Kind])] = &[
    ("kill", &[Kind::Kill]),
    ("kill and forget", &[Kind::KillAndForget]),
    ("stop", &[Kind::Stop]),
    (
        "partition",
        &[
            Kind::Partition(Cut::Both, Of::All),
            Kind::Partition(Cut::ToNode, Of::All),
            Kind::Partition(Cut::FromNode, Of::All),
        ],
    ),
    (
        "partition of one process",
        &[
            Kind::Partition(Cut::Both, Of::One),
            Kind::Partition(Cut::ToNode, Of::One),
            Kind::Partition(Cut::FromNode, Of::One),
        ],
    ),
    // In each direction half of it: 20 ms are in time, 150 ms are not.
    ("slow", &[Kind::Slow(Duration::from_millis(20)), Kind::Slow(Duration::from_millis(150))]),
    ("clock jump", &[Kind::Jump(5), Kind::Jump(-5)]),
];

/// A fault with its victims.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Of some nodes.
    Nodes {
        /// What happens.
        kind: Kind,
        /// To whom, sorted.
        nodes: Vec<usize>,
        /// The one process it happens to, if it is not all.
        process: Option<usize>,
    },
    /// A worker process is stopped between its two transactions, until others wrote.
    StopInWrite {
        /// Which.
        process: usize,
        /// Where.
        workload: Workload,
    },
    /// A worker process is killed while one of its clients holds the lock, and started again.
    KillHolder {
        /// Which.
        process: usize,
        /// What the client holds.
        workload: Workload,
    },
    /// A worker process is killed wherever it is, and started again.
    KillProcess {
        /// Which.
        process: usize,
    },
}

impl Fault {
    /// A fault of this kind on `count` nodes.
    pub fn of_nodes(kind: Kind, count: usize, rng: &mut StdRng) -> Self {
        let mut nodes = sample(rng, NODES, count).into_vec();
        nodes.sort_unstable();
        let process = matches!(kind, Kind::Partition(_, Of::One))
            .then(|| rng.random_range(0..PROCESSES.len()));
        Self::Nodes { kind, nodes, process }
    }

    /// Every fault of a worker process, to one that is chosen for each.
    pub fn of_processes(rng: &mut StdRng) -> Vec<Self> {
        let mut any = || rng.random_range(0..PROCESSES.len());
        let mut faults = Vec::new();
        for workload in Workload::ALL {
            faults.push(Self::StopInWrite { process: any(), workload });
            faults.push(Self::KillHolder { process: any(), workload });
            faults.push(Self::KillProcess { process: any() });
        }
        faults
    }

    /// Whether a process has no majority of the nodes while the fault lasts.
    #[must_use]
    pub fn cuts_off(&self, process: usize) -> bool {
        match self {
            Self::Nodes { kind, nodes, process: only } => {
                let gone = match kind {
                    Kind::Kill | Kind::KillAndForget | Kind::Stop | Kind::Partition(..) => true,
                    Kind::Slow(delay) => *delay > NODE_TIMEOUT,
                    // It answers; whether it may vote is the client's business.
                    Kind::Jump(_) => false,
                };
                gone && is_majority(nodes) && only.is_none_or(|only| only == process)
            }
            Self::StopInWrite { .. } | Self::KillHolder { .. } | Self::KillProcess { .. } => false,
        }
    }

    /// Whether no lock can be acquired in a process while the fault lasts. With a slow majority one can: a
    /// process that did not run for longer than the node time-out finds the late votes and the expired timer
    /// at the same moment, and the lease is valid for as long as it says.
    #[must_use]
    pub fn rules_out_a_lock(&self, process: usize) -> bool {
        self.cuts_off(process) && !matches!(self, Self::Nodes { kind: Kind::Slow(_), .. })
    }

    /// Whether a majority of the nodes forgets everything at once.
    #[must_use]
    pub fn is_amnesia(&self) -> bool {
        matches!(self, Self::Nodes { kind: Kind::KillAndForget, nodes, .. } if is_majority(nodes))
    }

    /// Whether a client of this process may be passed over by others: it, or what most of the nodes
    /// know of it, is gone for a while.
    #[must_use]
    pub fn disturbs(&self, process: usize) -> bool {
        match self {
            Self::Nodes { kind: Kind::Jump(_), nodes, .. } => is_majority(nodes),
            Self::Nodes { .. } => self.cuts_off(process),
            Self::StopInWrite { process: victim, .. }
            | Self::KillHolder { process: victim, .. }
            | Self::KillProcess { process: victim } => *victim == process,
        }
    }

    /// Whether nothing certain can be said of operations while it lasts.
    #[must_use]
    pub fn is_unclear(&self) -> bool {
        matches!(self, Self::Nodes { kind: Kind::Jump(_), nodes, .. } if is_majority(nodes))
    }
}

fn is_majority(nodes: &[usize]) -> bool {
    nodes.len() > NODES / 2
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill => f.write_str("kill -9, data kept"),
            Self::KillAndForget => f.write_str("kill -9, data lost"),
            Self::Stop => f.write_str("SIGSTOP"),
            Self::Partition(cut, _) => f.write_str(match cut {
                Cut::Both => "partition",
                Cut::ToNode => "partition client->node",
                Cut::FromNode => "partition node->client",
            }),
            Self::Slow(delay) => write!(f, "slow by {delay:?}"),
            Self::Jump(seconds) => write!(f, "clock jumps {seconds:+} s"),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nodes { kind, nodes, process } => {
                let nodes: Vec<_> = nodes.iter().map(usize::to_string).collect();
                write!(f, "{kind}, nodes {}", nodes.join(" "))?;
                process.map_or(Ok(()), |process| write!(f, ", of process {process}"))
            }
            Self::StopInWrite { process, workload } => {
                write!(f, "SIGSTOP of process {process} in a write to {}", workload.resource())
            }
            Self::KillHolder { process, workload } => {
                write!(f, "kill -9 of process {process} holding {}", workload.resource())
            }
            Self::KillProcess { process } => write!(f, "kill -9 of process {process}"),
        }
    }
}
