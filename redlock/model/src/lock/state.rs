//! The state of the model, and what follows from it.

use std::collections::BTreeSet;

use stateright::Representative;

pub(super) const NODES: usize = 3;
/// Two clients, and the renewal of the lease of one of them.
pub(super) const CLIENTS: usize = 3;
/// The acquisition that renews.
pub(super) const RENEWAL: usize = CLIENTS - 1;
const QUORUM: usize = NODES / 2 + 1;

/// The nodes, the clients, and the guarded register.
#[derive(Clone, Debug, Hash, PartialEq, Eq)]
pub struct State {
    pub(super) nodes: [Node; NODES],
    pub(super) clients: [Client; CLIENTS],
    pub(super) register: Register,
    /// The client whose lease is renewed.
    pub(super) renewed: Option<usize>,
    /// How often a node may still restart.
    pub(super) restarts: u8,
}

/// One Redis node.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Node {
    /// The client that holds the lock. Each client asks once, so a client is an owner.
    pub(super) lock: Option<usize>,
    /// The highest token that this node granted.
    pub(super) fence: u8,
    pub(super) standing: Standing,
    /// The node lost a vote that an acquisition counts.
    pub(super) forgot: bool,
    /// The node in quarantine has learned from this node.
    pub(super) has_taught: bool,
    /// The connection of each client.
    pub(super) links: [Link; CLIENTS],
}

/// Whether the process of a node is the admitted one.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Standing {
    Votes,
    Quarantined {
        /// The clients whose leases the node may have forgotten, or that may count its old votes.
        waits_for: [bool; CLIENTS],
        /// The highest fence that the node has learned so far.
        learnt: u8,
    },
}

/// The messages from a client that are on their way to a node or wait on it.
#[derive(Clone, Copy, Debug, Default, Hash, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Link {
    pub(super) request: bool,
    pub(super) release: bool,
    /// The token that the node granted and the client counts, even if the node has forgotten it.
    pub(super) granted: Option<u8>,
}

/// One acquisition.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub(super) struct Client {
    pub(super) stage: Stage,
    /// The acquired token.
    pub(super) token: Option<u8>,
    /// The highest token of any client when this acquisition began.
    pub(super) floor: u8,
    /// The lease has not ended by the client's own clock.
    pub(super) in_time: bool,
    pub(super) installed: bool,
    /// The value that the client read from the register.
    pub(super) read: Option<u8>,
}

#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub(super) enum Stage {
    Idle,
    Asking,
    Holding,
    /// Released, or given up.
    Over,
}

/// The guarded store: in the product, a row of the ledger.
#[derive(Clone, Copy, Debug, Default, Hash, PartialEq, Eq)]
pub(super) struct Register {
    /// The highest stored token.
    pub(super) fence: Option<u8>,
    /// The number of writes.
    pub(super) value: u8,
    /// A write replaced a value that its writer had not read.
    pub(super) lost_update: bool,
}

impl State {
    pub(super) fn new(restarts: u8) -> Self {
        let node = Node {
            lock: None,
            fence: 0,
            standing: Standing::Votes,
            forgot: false,
            has_taught: false,
            links: [Link::default(); CLIENTS],
        };
        let client = Client {
            stage: Stage::Idle,
            token: None,
            floor: 0,
            in_time: false,
            installed: false,
            read: None,
        };
        Self {
            nodes: [node; NODES],
            clients: [client; CLIENTS],
            register: Register::default(),
            renewed: None,
            restarts,
        }
    }

    /// Whether votes for this client may still be counted, or its lease is not over.
    pub(super) fn is_under_way(&self, client: usize) -> bool {
        let Client { stage, in_time, .. } = self.clients[client];
        stage == Stage::Asking || in_time
    }

    pub(super) fn has_quorum(&self, client: usize, token: u8) -> bool {
        let granted = |node: &&Node| node.links[client].granted == Some(token);
        self.nodes.iter().filter(granted).count() >= QUORUM
    }

    /// Whether every lease that the node may have forgotten is over.
    pub(super) fn waited(&self, waits_for: [bool; CLIENTS]) -> bool {
        (0..CLIENTS).all(|client| !waits_for[client] || !self.is_under_way(client))
    }

    pub(super) fn quarantined(&self) -> usize {
        self.nodes.iter().filter(|node| !node.votes()).count()
    }

    /// The token of each acquisition, and the highest token of any client when that acquisition began.
    pub(super) fn tokens(&self) -> impl Iterator<Item = (u8, u8)> {
        self.clients.iter().filter_map(|client| Some((client.token?, client.floor)))
    }

    pub(super) fn tokens_are_unique(&self) -> bool {
        let tokens: BTreeSet<u8> = self.tokens().map(|(token, _)| token).collect();
        tokens.len() == self.tokens().count()
    }

    /// The client whose lease this acquisition renews.
    pub(super) fn renewed_by(&self, client: usize) -> Option<usize> {
        self.renewed.filter(|_| client == RENEWAL)
    }

    /// Whether the lease that this acquisition renews is still in use.
    pub(super) fn is_preceded(&self, client: usize) -> bool {
        self.renewed_by(client).is_some_and(|of| self.clients[of].stage == Stage::Holding)
    }

    /// The number of clients whose leases have not ended by their own clocks. A lease and its renewal belong
    /// to the same one.
    pub(super) fn believers(&self) -> usize {
        let process = |client| self.renewed_by(client).unwrap_or(client);
        let in_time = (0..CLIENTS).filter(|client| self.clients[*client].in_time);
        in_time.map(process).collect::<BTreeSet<_>>().len()
    }

    /// Whether a client acquired after another one, with the vote of a node that had forgotten the other.
    pub(super) fn acquired_from_readmitted(&self) -> bool {
        let is_later = |client: usize| {
            let Client { token, floor, .. } = self.clients[client];
            token.is_some() && floor > 0
        };
        self.nodes.iter().any(|node| node.forgot && node.lock.is_some_and(is_later))
    }

    pub(super) fn ask(&mut self, client: usize) {
        let floor = self.tokens().map(|(token, _)| token).max().unwrap_or(0);
        let asks = &mut self.clients[client];
        (asks.stage, asks.floor) = (Stage::Asking, floor);
        for node in &mut self.nodes {
            node.links[client].request = node.votes();
        }
    }

    pub(super) fn acquired_by(&mut self, client: usize, token: u8, takes_time: bool) {
        let holder = &mut self.clients[client];
        (holder.stage, holder.token, holder.in_time) = (Stage::Holding, Some(token), takes_time);
    }

    /// Ends an acquisition, won or not.
    pub(super) fn release(&mut self, client: usize) {
        let over = &mut self.clients[client];
        *over =
            Client { stage: Stage::Over, in_time: false, installed: false, read: None, ..*over };
        for node in &mut self.nodes {
            let link = &mut node.links[client];
            // A grant after that only blocks other clients.
            (link.request, link.release) = (false, true);
            // The model needs no more of an acquisition that failed.
            link.granted = link.granted.filter(|_| self.clients[client].token.is_some());
        }
    }
}

impl Node {
    pub(super) fn release(&mut self, client: usize) {
        self.lock = self.lock.filter(|owner| *owner != client);
        self.links[client].release = false;
    }

    /// Cuts the connections. Even a request that the node granted may wait on it again afterwards,
    /// because the node may have forgotten the grant.
    pub(super) fn lose_messages(&mut self, clients: &[Client; CLIENTS]) {
        for (link, client) in self.links.iter_mut().zip(clients) {
            link.request = matches!(client.stage, Stage::Asking | Stage::Holding);
            link.release = false;
        }
    }

    /// Drops the messages to the node that can no longer change anything. A fence falls only when requests
    /// wait again.
    pub(super) fn drop_idle_messages(&mut self, highest_token: u8) {
        for (client, link) in self.links.iter_mut().enumerate() {
            link.request &= self.fence < highest_token;
            link.release &= self.lock == Some(client);
        }
    }

    pub(super) fn votes(&self) -> bool {
        self.standing == Standing::Votes
    }
}

impl Representative for State {
    /// Treats all nodes alike, and a wait that is over as no wait.
    fn representative(&self) -> Self {
        let mut same = self.clone();
        for node in &mut same.nodes {
            if let Standing::Quarantined { waits_for, .. } = &mut node.standing {
                for (client, waits) in waits_for.iter_mut().enumerate() {
                    *waits &= self.is_under_way(client);
                }
            }
        }
        same.nodes.sort_unstable();
        same
    }
}
