//! The state that a client and the monitors of its nodes share.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::address::endpoints;
use super::members::{Member, Members};
use crate::config::{Config, SHORTEST_LEASE};
use crate::endpoint::Endpoint;
use crate::error::AcquireError;
use crate::node::{ClockSample, Node};
use crate::observe::{Exclusion, Observer, PanicSafeObserver};
use crate::protocol::Membership;
use crate::registry::ResourceRegistry;
use crate::scripts::Scripts;
use crate::time::{after, bounded};

/// The task that watches a node until the cluster is dropped. A parameter, because the monitor uses the
/// cluster.
pub(crate) type Monitor = fn(Arc<Node>, Endpoint, Weak<Cluster>) -> BoxFuture<'static, ()>;

/// The nodes of a client, and what all calls to them need.
pub(crate) struct Cluster {
    pub(crate) scripts: Scripts,
    pub(crate) registry: ResourceRegistry,
    /// The client's name, the prefix of its owners' names.
    pub(crate) client_id: Arc<str>,
    pub(crate) observer: Arc<dyn Observer>,
    /// How long a node is excluded whose data or clock cannot be relied on.
    pub(crate) longest_lease: Duration,
    /// See [`Config::renew_from`].
    pub(crate) renew_from: Duration,
    node_timeout: Duration,
    /// The log-in and TLS of nodes that a change of the membership adds.
    first: Endpoint,
    members: RwLock<Arc<Members>>,
    next_index: AtomicUsize,
    monitor: Monitor,
    /// A node was admitted once, so this is not the first use of the nodes.
    has_admitted: AtomicBool,
    /// The run ids of the nodes, if all were blank at the same time.
    first_use_run_ids: Mutex<HashSet<String>>,
    #[cfg(feature = "ablation")]
    pub(crate) quarantine_is_off: bool,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").field("client_id", &self.client_id).finish_non_exhaustive()
    }
}

impl Cluster {
    /// Starts a monitor for each configured node.
    pub(crate) fn start(
        config: &Config,
        scripts: Scripts,
        observer: Arc<dyn Observer>,
        monitor: Monitor,
    ) -> Result<Arc<Self>, AcquireError> {
        config.validate()?;
        let endpoints = endpoints(&config.nodes, config.ca_file.as_deref())?;
        let Some(first) = endpoints.first() else { return Err(AcquireError::NoNodes) };
        let members = Members {
            membership: Membership::default(),
            since: Instant::now(),
            nodes: vec![],
            sets: vec![],
        };
        let cluster = Arc::new(Self {
            scripts,
            registry: ResourceRegistry::new(),
            client_id: format!("{:016x}", rand::random::<u64>()).into(),
            observer: Arc::new(PanicSafeObserver(observer)),
            longest_lease: bounded(config.longest_lease),
            renew_from: config.renew_from,
            node_timeout: bounded(config.node_timeout),
            first: first.clone(),
            members: RwLock::new(Arc::new(members)),
            next_index: AtomicUsize::new(0),
            monitor,
            has_admitted: AtomicBool::new(false),
            first_use_run_ids: Mutex::default(),
            #[cfg(feature = "ablation")]
            quarantine_is_off: config.ablation.quarantine_is_off,
        });
        let nodes = endpoints.iter().map(Endpoint::address).collect();
        let members =
            cluster.build(Membership { epoch: 0, nodes, joining: Vec::new() }, &endpoints);
        cluster.registry.set_quorum(members.largest_quorum());
        *cluster.members.write().unwrap_or_else(PoisonError::into_inner) = members;
        Ok(cluster)
    }

    /// Checks that a lease has an allowed length.
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

    /// The present members.
    pub(crate) fn members(&self) -> Arc<Members> {
        Arc::clone(&self.members.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Switches to a membership that a node stores, if it is later than the present one.
    pub(crate) fn adopt(self: &Arc<Self>, membership: Membership) {
        if membership.epoch > self.members().membership.epoch {
            let members = self.build(membership, &[]);
            self.install(members);
        }
    }

    /// Switches to these members, if they are later than the present ones.
    pub(crate) fn install(&self, later: Arc<Members>) {
        let mut members = self.members.write().unwrap_or_else(PoisonError::into_inner);
        if later.membership.epoch <= members.membership.epoch {
            return;
        }
        info!(membership = ?later.membership, "lock nodes change");
        self.registry.set_quorum(later.largest_quorum());
        *members = later;
        drop(members);
        self.report_quorum();
    }

    /// The members of a membership. Keeps the nodes that are present and starts to connect to new ones.
    pub(crate) fn build(
        self: &Arc<Self>,
        membership: Membership,
        endpoints: &[Endpoint],
    ) -> Arc<Members> {
        let present = self.members();
        let mut nodes: Vec<Arc<Member>> = Vec::new();
        let mut positions = |addresses: &[String]| -> Vec<usize> {
            let mut position = |address: &String| {
                let there = nodes.iter().position(|node| node.address() == address);
                there.or_else(|| {
                    let kept = present.nodes.iter().find(|node| node.address() == address);
                    let endpoint = endpoints.iter().find(|one| one.address() == *address);
                    nodes.push(match kept {
                        Some(node) => Arc::clone(node),
                        None => self.start_member(address, endpoint)?,
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
        Arc::new(Members { membership, since: Instant::now(), nodes, sets })
    }

    fn start_member(
        self: &Arc<Self>,
        address: &str,
        endpoint: Option<&Endpoint>,
    ) -> Option<Arc<Member>> {
        let endpoint = endpoint
            .map_or_else(|| self.first.beside(address), |endpoint| Ok(endpoint.clone()))
            .inspect_err(|error| warn!(address, %error, "lock node cannot be used"))
            .ok()?;
        let index = self.next_index.fetch_add(1, Ordering::Relaxed);
        let node = Arc::new(Node::new(index, address.to_owned(), self.node_timeout));
        let stop = CancellationToken::new();
        let monitor = (self.monitor)(Arc::clone(&node), endpoint, Arc::downgrade(self));
        tokio::spawn(stop.clone().run_until_cancelled_owned(monitor));
        Some(Arc::new(Member { node, _monitor: stop.drop_guard() }))
    }

    /// Reports to the observer how many nodes may vote.
    pub(crate) fn report_quorum(&self) {
        let (voting, nodes) = self.members().voting();
        self.observer.quorum(voting, nodes);
    }

    /// Lets this process of a node vote from now on.
    pub(crate) fn admit(&self, node: &Node, run_id: &str) {
        node.set_admitted(run_id);
        self.has_admitted.store(true, Ordering::Release);
        self.report_quorum();
    }

    /// Records a reading of a node's clock. Returns false after a jump: the node is excluded, and the
    /// reply that carried the reading does not count.
    pub(crate) fn check_clock(&self, node: &Node, sample: ClockSample) -> bool {
        let Some(micros) = node.clock_jumped(sample) else { return true };
        warn!(node = node.address(), micros, "lock node excluded: its clock jumped");
        node.exclude_until(after(Instant::now(), self.longest_lease));
        self.observer.node_excluded(node.index(), Exclusion::ClockJumped);
        self.report_quorum();
        false
    }

    /// Whether this process of a blank node was there when all nodes were blank and this client knew no
    /// vote and no token. Then nobody has used the nodes before, and they may vote at once.
    pub(crate) fn is_first_use(&self, run_id: &str) -> bool {
        let mut run_ids = self.first_use_run_ids.lock().unwrap_or_else(PoisonError::into_inner);
        if run_ids.is_empty()
            && !self.has_admitted.load(Ordering::Acquire)
            && !self.registry.knows_any_token()
        {
            let members = self.members();
            let blank = |node: &Arc<Member>| node.restarted().filter(|restarted| restarted.blank);
            let all: Option<HashSet<String>> = members
                .nodes
                .iter()
                .map(|node| blank(node).map(|restarted| restarted.run_id))
                .collect();
            *run_ids = all.unwrap_or_default();
        }
        run_ids.contains(run_id)
    }

    /// Records that this process of a node was in use before it lost its data.
    pub(crate) fn end_first_use(&self, run_id: &str) {
        self.first_use_run_ids.lock().unwrap_or_else(PoisonError::into_inner).remove(run_id);
    }
}
