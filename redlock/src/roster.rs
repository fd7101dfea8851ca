//! What a client and its keepers share: the members there are, and what they are told with.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::time::{Duration, Instant};

use redis::{Client, ConnectionInfo, IntoConnectionInfo, ProtocolVersion, RedisConnectionInfo};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::board::Board;
use crate::clock::{Sample, after, bounded};
use crate::config::SHORTEST_LEASE;
use crate::keeper;
use crate::members::{Member, Members, Membership};
use crate::node::Node;
use crate::observe::{Exclusion, Shielded};
use crate::script::Scripts;
use crate::{AcquireError, Config, NodeConfig, Observer};

pub(crate) struct Roster {
    pub(crate) scripts: Scripts,
    pub(crate) board: Board,
    pub(crate) client: Arc<str>,
    pub(crate) observer: Arc<dyn Observer>,
    /// How long a node stays out whose memory or clock cannot be relied on.
    pub(crate) longest_lease: Duration,
    node_timeout: Duration,
    /// How to log in to a node, whatever its address.
    login: RedisConnectionInfo,
    members: RwLock<Arc<Members>>,
    next_slot: AtomicUsize,
    /// Some node could vote once, so this is not the first use of the nodes.
    has_seen_a_vote: AtomicBool,
    /// The processes that were all blank together.
    first_users: Mutex<HashSet<String>>,
    #[cfg(feature = "ablation")]
    pub(crate) quarantine_is_off: bool,
}

impl std::fmt::Debug for Roster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Roster").field("client", &self.client).finish_non_exhaustive()
    }
}

impl Roster {
    /// Starts the keepers of the configured nodes.
    pub(crate) fn start(
        config: &Config,
        scripts: Scripts,
        observer: Arc<dyn Observer>,
    ) -> Result<Arc<Self>, AcquireError> {
        config.check()?;
        let infos = connection_infos(&config.nodes)?;
        let Some(first) = infos.first() else { return Err(AcquireError::NoNodes) };
        let members = Members { membership: Membership::default(), nodes: vec![], sets: vec![] };
        let roster = Arc::new(Self {
            scripts,
            board: Board::new(),
            client: format!("{:016x}", rand::random::<u64>()).into(),
            observer: Arc::new(Shielded(observer)),
            longest_lease: bounded(config.longest_lease),
            node_timeout: bounded(config.node_timeout),
            login: first.redis_settings().clone(),
            members: RwLock::new(Arc::new(members)),
            next_slot: AtomicUsize::new(0),
            has_seen_a_vote: AtomicBool::new(false),
            first_users: Mutex::default(),
            #[cfg(feature = "ablation")]
            quarantine_is_off: config.ablation.quarantine_is_off,
        });
        let nodes = infos.iter().map(|info| info.addr().to_string()).collect();
        let members = roster.build(Membership { epoch: 0, nodes, joining: Vec::new() }, &infos);
        roster.board.set_quorum(members.largest_quorum());
        *roster.members.write().unwrap_or_else(PoisonError::into_inner) = members;
        Ok(roster)
    }

    /// Whether a lease may be so long.
    pub(crate) fn check_lease(&self, lease_time: Duration) -> Result<(), AcquireError> {
        let (longest, shortest) = (self.longest_lease, SHORTEST_LEASE);
        if bounded(lease_time) > longest {
            return Err(AcquireError::LeaseTooLong { lease_time, longest });
        }
        if lease_time < shortest {
            return Err(AcquireError::LeaseTooShort { lease_time, shortest });
        }
        Ok(())
    }

    pub(crate) fn members(&self) -> Arc<Members> {
        Arc::clone(&self.members.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Goes over to a later membership that a node knows of.
    pub(crate) fn adopt(self: &Arc<Self>, membership: Membership) {
        if membership.epoch > self.members().membership.epoch {
            let members = self.build(membership, &[]);
            self.install(members);
        }
    }

    /// Goes over to these members, unless it has later ones.
    pub(crate) fn install(&self, later: Arc<Members>) {
        let mut members = self.members.write().unwrap_or_else(PoisonError::into_inner);
        if later.membership.epoch <= members.membership.epoch {
            return;
        }
        info!(membership = ?later.membership, "lock nodes change");
        self.board.set_quorum(later.largest_quorum());
        *members = later;
        drop(members);
        self.count_votes();
    }

    /// The nodes of a membership: those there are, and new ones, which begin to connect.
    pub(crate) fn build(
        self: &Arc<Self>,
        membership: Membership,
        infos: &[ConnectionInfo],
    ) -> Arc<Members> {
        let present = self.members();
        let mut nodes: Vec<Arc<Member>> = Vec::new();
        let mut positions = |addresses: &[String]| -> Vec<usize> {
            let mut position = |address: &String| {
                let there = nodes.iter().position(|node| node.address() == address);
                there.or_else(|| {
                    let kept = present.nodes.iter().find(|node| node.address() == address);
                    let info = infos.iter().find(|info| info.addr().to_string() == *address);
                    nodes.push(match kept {
                        Some(node) => Arc::clone(node),
                        None => self.start_member(address, info.cloned())?,
                    });
                    Some(nodes.len() - 1)
                })
            };
            addresses.iter().filter_map(&mut position).collect()
        };
        let mut sets = vec![positions(&membership.nodes)];
        if !membership.joining.is_empty() {
            sets.push(positions(&membership.joining));
        }
        Arc::new(Members { membership, nodes, sets })
    }

    fn start_member(
        self: &Arc<Self>,
        address: &str,
        info: Option<ConnectionInfo>,
    ) -> Option<Arc<Member>> {
        let info = info.or_else(|| {
            let info = format!("redis://{address}").into_connection_info().ok()?;
            Some(info.set_redis_settings(self.login.clone()))
        })?;
        let client = Client::open(info)
            .inspect_err(|error| warn!(address, %error, "lock node cannot be used"))
            .ok()?;
        let slot = self.next_slot.fetch_add(1, Ordering::Relaxed);
        let node = Arc::new(Node::new(slot, address.to_owned(), self.node_timeout));
        let stop = CancellationToken::new();
        let keeper = keeper::keep(Arc::clone(&node), client, Arc::downgrade(self) as Weak<Self>);
        tokio::spawn(stop.clone().run_until_cancelled_owned(keeper));
        Some(Arc::new(Member { node, _keeper: stop.drop_guard() }))
    }

    /// Tells the observer how many nodes may vote.
    pub(crate) fn count_votes(&self) {
        let (voting, nodes) = self.members().voting();
        self.observer.quorum(voting, nodes);
    }

    /// Lets this process of a node vote from now on.
    pub(crate) fn admit(&self, node: &Node, run_id: &str) {
        node.admitted(run_id);
        self.has_seen_a_vote.store(true, Ordering::Release);
        self.count_votes();
    }

    /// Looks at a reading of a node's clock. False: it jumped, and what the node just said does not
    /// count.
    pub(crate) fn clock_is_sound(&self, node: &Node, sample: Sample) -> bool {
        let Some(micros) = node.clock_jumped(sample) else { return true };
        warn!(node = node.address(), micros, "lock node left out: its clock jumped");
        node.exclude_until(after(Instant::now(), self.longest_lease));
        self.observer.node_excluded(node.slot(), Exclusion::ClockJumped);
        self.count_votes();
        false
    }

    /// Whether this process of a blank node was there when all nodes were blank, and nothing was
    /// ever known of any: nobody used the nodes before, so there is nothing to wait for.
    pub(crate) fn is_first_use(&self, run_id: &str) -> bool {
        let mut first_users = self.first_users.lock().unwrap_or_else(PoisonError::into_inner);
        if first_users.is_empty()
            && !self.has_seen_a_vote.load(Ordering::Acquire)
            && !self.board.remembers()
        {
            let members = self.members();
            let blank = |node: &Arc<Member>| node.restarted().filter(|restarted| restarted.blank);
            let all: Option<HashSet<String>> = members
                .nodes
                .iter()
                .map(|node| blank(node).map(|restarted| restarted.run_id))
                .collect();
            *first_users = all.unwrap_or_default();
        }
        first_users.contains(run_id)
    }

    /// This process of a node has been used, and lost its data since.
    pub(crate) fn ends_first_use(&self, run_id: &str) {
        self.first_users.lock().unwrap_or_else(PoisonError::into_inner).remove(run_id);
    }
}

/// The names of nodes in the membership.
pub(crate) fn addresses(nodes: &[NodeConfig]) -> Result<Vec<String>, AcquireError> {
    let infos = connection_infos(nodes)?;
    Ok(infos.iter().map(|info| info.addr().to_string()).collect())
}

fn connection_infos(nodes: &[NodeConfig]) -> Result<Vec<ConnectionInfo>, AcquireError> {
    if nodes.is_empty() {
        return Err(AcquireError::NoNodes);
    }
    let info = |(index, node)| {
        connection_info(node)
            .map_err(|error| AcquireError::BadNode { index, reason: error.to_string() })
    };
    let infos: Vec<ConnectionInfo> =
        nodes.iter().enumerate().map(info).collect::<Result<_, _>>()?;
    for (index, info) in infos.iter().enumerate() {
        let address = info.addr().to_string();
        if let Some(first) = infos[..index].iter().position(|one| one.addr() == info.addr()) {
            // It would have two votes.
            let reason = format!("{address} is lock node {first} already");
            return Err(AcquireError::BadNode { index, reason });
        }
    }
    Ok(infos)
}

fn connection_info(config: &NodeConfig) -> redis::RedisResult<ConnectionInfo> {
    let url = if config.address.contains("://") {
        config.address.clone()
    } else {
        format!("redis://{}", config.address)
    };
    let info = url.into_connection_info()?;
    // RESP3 carries the notices over the same connection as the commands.
    let mut settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
    if let Some(password) = &config.password {
        settings = settings.set_password(password);
    }
    Ok(info.set_redis_settings(settings))
}
