//! The state of the model, its steps, and what follows from the state.

/// A set of nodes or of askers (clients and the second coordinator), one bit each.
pub type Set = u8;

pub(super) const NODES: usize = 5;
pub(super) const CLIENTS: usize = 2;
/// The second coordinator among the askers.
pub(super) const SECOND: usize = CLIENTS;

/// The nodes, the clients, and the coordinators of changes.
#[derive(Clone, Debug, Hash, PartialEq, Eq)]
pub struct State {
    pub(super) nodes: [Node; NODES],
    pub(super) clients: [Client; CLIENTS],
    pub(super) coordinators: [Coordinator; 2],
    /// The lock on the membership, for the second coordinator.
    pub(super) second: Second,
    /// How often a node may still restart.
    pub(super) restarts: u8,
}

#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) known: Known,
    pub(super) standing: Standing,
    /// The node restarted once.
    pub(super) forgot: bool,
}

/// The knowledge of a node that no majority may forget.
#[derive(Clone, Copy, Debug, Default, Hash, PartialEq, Eq)]
pub(super) struct Known {
    /// The token was granted.
    pub(super) granted: bool,
    pub(super) epoch: u8,
    /// The fencing token of the second coordinator, or 0.
    pub(super) fence: u8,
}

#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub(super) enum Standing {
    Votes,
    Quarantined {
        /// The askers whose votes the node may have forgotten.
        waits_for: Set,
        lesson: Option<Lesson>,
    },
}

/// What a node or a coordinator has learned so far.
#[derive(Clone, Copy, Debug, Default, Hash, PartialEq, Eq)]
pub(super) struct Lesson {
    /// The epoch of the membership under which it is learned.
    pub(super) view: u8,
    pub(super) teachers: Set,
    pub(super) known: Known,
}

/// A client, which acquires once.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub(super) enum Client {
    Idle,
    Asking {
        epoch: u8,
        /// The nodes at which the request has not arrived.
        asked: Set,
        granted: Set,
    },
    Acquired {
        epoch: u8,
        /// A node that forgot is among those that granted.
        with_readmitted: bool,
    },
    GaveUp,
}

/// A coordinator of a change.
#[derive(Clone, Copy, Debug, Default, Hash, PartialEq, Eq)]
pub(super) struct Coordinator {
    /// The present nodes that the coordinator found; none: it has not begun.
    pub(super) present: Set,
    /// The coordinator continues no other change, and has written nothing yet.
    pub(super) is_first: bool,
    /// Future nodes that were blank while no other coordinator had got the lock after this one.
    pub(super) unused: Set,
    /// Nodes that confirmed the joint epoch.
    pub(super) joint: Set,
    pub(super) lesson: Lesson,
    /// Nodes that confirmed the learned knowledge.
    pub(super) taught: Set,
}

#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub(super) enum Second {
    Idle,
    Asking {
        epoch: u8,
        granted: Set,
    },
    Acquired {
        epoch: u8,
    },
    /// It has begun or given up, or does not exist.
    Over,
}

/// A step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each step says who takes it, and where")]
pub enum Action {
    /// A client asks all nodes of the membership that it knows.
    Ask { client: usize, epoch: u8 },
    /// A node grants a client's request.
    Grant { client: usize, node: usize },
    /// A client stops counting votes.
    GiveUp { client: usize },
    /// A node restarts without its data.
    Restart { node: usize },
    /// A node that forgot learns from another node, and is admitted when it has learned enough.
    Teach { node: usize, view: u8, teacher: usize },
    /// The second coordinator asks for the lock on the membership.
    AskForMembership { epoch: u8 },
    /// A node grants that lock.
    GrantMembership { node: usize },
    /// The second coordinator gives up.
    LeaveMembership,
    /// The second coordinator begins the change.
    Begin { epoch: u8 },
    /// A coordinator that still holds the lock finds a future node blank.
    See { coordinator: usize, node: usize },
    /// A coordinator admits such a node.
    Admit { coordinator: usize, node: usize },
    /// A coordinator writes the joint membership.
    WriteJoint { coordinator: usize, node: usize },
    /// A coordinator learns from a present node.
    Learn { coordinator: usize, teacher: usize },
    /// A coordinator writes the learned knowledge to a node.
    Raise { coordinator: usize, node: usize },
    /// A coordinator writes the final membership.
    WriteLast { coordinator: usize, node: usize },
}

pub(super) fn contains(set: Set, node: usize) -> bool {
    set & (1 << node) != 0
}

pub(super) fn is_majority(set: Set, of: Set) -> bool {
    2 * (set & of).count_ones() > of.count_ones()
}

/// These nodes; or all nodes of the sets if these are a majority of each, since only that matters.
pub(super) fn or_all(nodes: Set, of: [Set; 2]) -> Set {
    let is_enough = of.iter().all(|set| is_majority(nodes, *set));
    if is_enough { of[0] | of[1] } else { nodes }
}

/// Epochs are `2t` and `2t + 1` for the fencing token `t` of the coordinator.
pub(super) fn joint_epoch(coordinator: usize) -> u8 {
    if coordinator == 0 { 2 } else { 4 }
}

/// The coordinator of an epoch other than 0.
pub(super) fn coordinator_of(epoch: u8) -> usize {
    usize::from(epoch / 2 - 1)
}

pub(super) fn is_joint(epoch: u8) -> bool {
    epoch > 0 && epoch.is_multiple_of(2)
}

impl Known {
    pub(super) fn learn(&mut self, other: Self) {
        self.granted |= other.granted;
        self.epoch = self.epoch.max(other.epoch);
        self.fence = self.fence.max(other.fence);
    }
}

impl Lesson {
    pub(super) fn learn(&mut self, teacher: usize, known: Known) {
        self.teachers |= 1 << teacher;
        self.known.learn(known);
    }
}

impl State {
    pub(super) fn new(present: Set, has_second: bool, restarts: u8) -> Self {
        // Nodes to come vote as well: they have promised nothing yet that they could have forgotten.
        let node = Node { known: Known::default(), standing: Standing::Votes, forgot: false };
        let first = Coordinator { present, is_first: true, ..Coordinator::default() };
        Self {
            nodes: [node; NODES],
            clients: [Client::Idle; CLIENTS],
            coordinators: [first, Coordinator::default()],
            second: if has_second { Second::Idle } else { Second::Over },
            restarts,
        }
    }

    pub(super) fn votes(&self, node: usize) -> bool {
        self.nodes[node].standing == Standing::Votes
    }

    /// The epochs that an asker may use: those that were written to any node.
    pub(super) fn epochs(&self) -> impl Iterator<Item = u8> {
        (0..6).filter(|epoch| match epoch {
            0 => true,
            1 => false,
            _ if is_joint(*epoch) => self.coordinators[coordinator_of(*epoch)].joint != 0,
            _ => self.nodes.iter().any(|node| node.known.epoch == *epoch),
        })
    }

    /// Whether votes are still counted for a client or the second coordinator.
    fn is_under_way(&self, who: usize) -> bool {
        match self.clients.get(who) {
            Some(client) => matches!(client, Client::Asking { .. }),
            None => matches!(self.second, Second::Asking { .. }),
        }
    }

    pub(super) fn under_way(&self) -> Set {
        (0..=SECOND).filter(|who| self.is_under_way(*who)).map(|who| 1 << who).sum()
    }

    pub(super) fn is_waited_for(&self, who: usize) -> bool {
        self.nodes.iter().any(|node| match node.standing {
            Standing::Quarantined { waits_for, .. } => contains(waits_for, who),
            Standing::Votes => false,
        })
    }

    /// No restarted node waits for this asker any more.
    pub(super) fn is_over(&mut self, who: usize) {
        for node in &mut self.nodes {
            if let Standing::Quarantined { waits_for, .. } = &mut node.standing {
                *waits_for &= !(1 << who);
            }
        }
    }

    /// At most one node at a time forgets, and only if it knows anything.
    pub(super) fn may_forget(&self, node: usize) -> bool {
        let all_vote = (0..NODES).all(|node| self.votes(node));
        self.restarts > 0 && all_vote && self.nodes[node].known != Known::default()
    }

    pub(super) fn restart(&mut self, node: usize, waits_for: Set) {
        self.restarts -= 1;
        for client in &mut self.clients {
            if let Client::Asking { asked, .. } = client {
                *asked &= !(1 << node);
            }
        }
        let standing = Standing::Quarantined { waits_for, lesson: None };
        self.nodes[node] = Node { known: Known::default(), standing, forgot: true };
    }

    /// Drops requests that can no longer be granted; a restart loses them anyway.
    pub(super) fn drop_idle_requests(&mut self) {
        for client in &mut self.clients {
            let Client::Asking { epoch, asked, .. } = client else { continue };
            for (node, Node { known, .. }) in self.nodes.iter().enumerate() {
                if known.granted || known.epoch > *epoch {
                    *asked &= !(1 << node);
                }
            }
        }
    }

    pub(super) fn acquired(&self) -> usize {
        self.clients.iter().filter(|client| matches!(client, Client::Acquired { .. })).count()
    }

    /// Whether these nodes granted the lock on the membership to no other coordinator after this one.
    pub(super) fn has_lock(&self, coordinator: usize, nodes: Set) -> bool {
        let taken = |node: &usize| usize::from(self.nodes[*node].known.fence) > coordinator + 1;
        let taken: Set = (0..NODES).filter(taken).map(|node| 1 << node).sum();
        is_majority(!taken, nodes)
    }

    /// Whether a client acquired by a final membership.
    pub(super) fn acquired_from_new(&self, and_from_readmitted: bool) -> bool {
        self.clients.iter().any(|client| match client {
            Client::Acquired { epoch, with_readmitted } => {
                *epoch > 0 && !is_joint(*epoch) && (*with_readmitted || !and_from_readmitted)
            }
            _ => false,
        })
    }
}
