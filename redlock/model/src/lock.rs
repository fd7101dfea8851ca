//! Two clients acquire one resource from three nodes while messages are slow, leases end, and nodes
//! restart and forget. Then they change the guarded store. One of them may renew its lease meanwhile.
//!
//! A client acquires once. A client that asks again is one more client to the nodes, with an owner name
//! of its own; so is a renewal, the last client of the model. A node grants a request with any token above its fence, when the request arrives or at
//! any later time. Two special cases of this are that a client proposes a token, and that a refused
//! request waits for a release. A node that is down is a node whose messages are slow and then lost. A
//! client that stops for good takes no further step, which is part of every order of events.

mod state;

use stateright::{Model, Property};

use state::{CLIENTS, Client, Link, NODES, Node, RENEWAL, Stage, Standing};

pub use state::State;

/// A promise: tokens are unique.
pub const UNIQUE: &str = "no two acquisitions have the same token";
/// A promise: tokens are in the order of time.
pub const RISING: &str = "an acquisition that begins later has a higher token";
/// A promise: a writer of the guarded register replaces only the value that it read.
pub const NO_LOST_UPDATE: &str = "the value that is replaced is the one that was read";
/// Usual, not promised: it holds only while all clocks are sound.
pub const EXCLUSION: &str = "only one client at a time believes that it holds the lock";
const ALL: &str = "as many clients acquire as there are tokens";
const ALL_WRITE: &str = "as many clients write as there are tokens";
const READMITTED: &str = "a client acquires after another, with a node that forgot the other";

/// The rules that a test can leave out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// A restarted node has no vote at first.
    Quarantine,
    /// A restarted node waits until every lease that it may have forgotten is over.
    Wait,
    /// A restarted node learns from a majority.
    LearnFromMajority,
    /// A node grants only a token above its fence.
    Counter,
    /// The register refuses tokens that are not the highest.
    Fence,
    /// A holder stores its token before it reads anything.
    InstallFirst,
    /// A node renews only the lock that it holds for the lease that is renewed.
    RenewOwn,
    /// A node renews only with a token above its fence.
    RenewAbove,
    /// A renewal is given up only after the lease that is renewed has ended.
    GiveUpLate,
    /// A lock that is renewed lasts at least as long as before.
    LastLonger,
    /// Nodes' clocks are sound: a lock lasts on its node at least as long as the holder's lease.
    Clocks,
}

/// The model and its bounds.
#[derive(Clone, Debug, Default)]
pub struct Lock {
    /// How often a node restarts.
    pub restarts: u8,
    /// A majority of the nodes may forget at the same time.
    pub majority_forgets: bool,
    /// Leases take time, and locks last at least as long on their nodes. Otherwise a lease may end as
    /// soon as it is granted, and locks end at any time.
    pub timed: bool,
    /// A client may renew its lease.
    pub renews: bool,
    /// The highest token.
    pub tokens: u8,
    /// The rule that is left out.
    pub without: Option<Rule>,
}

/// A step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each step says who takes it, and where")]
pub enum Action {
    /// A client asks all voting nodes.
    Ask { client: usize },
    /// A client asks all voting nodes to renew its lease.
    Renew { of: usize },
    /// A node grants a client's request.
    Grant { client: usize, node: usize, token: u8 },
    /// A release arrives.
    Release { client: usize, node: usize },
    /// A client stops counting votes and releases.
    GiveUp { client: usize },
    /// A lease ends by its holder's clock.
    LeaseEnds { client: usize },
    /// A lock ends on its node.
    LockEnds { node: usize },
    /// A holder stores its token in the register.
    Install { client: usize },
    /// A holder reads the register.
    Read { client: usize },
    /// A holder writes the register and releases.
    Write { client: usize },
    /// A node restarts, and its connections are cut.
    Restart { node: usize, with_data: bool },
    /// A node in quarantine learns from another node, and is admitted when it has learned enough.
    Teach { node: usize, teacher: usize },
}

impl Lock {
    fn has(&self, rule: Rule) -> bool {
        self.without != Some(rule)
    }

    fn grants(&self, state: &State, node: &Node, client: usize, token: u8) -> bool {
        match state.renewed_by(client) {
            None => node.lock.is_none() && (token > node.fence || !self.has(Rule::Counter)),
            Some(of) => {
                (node.lock == Some(of) || !self.has(Rule::RenewOwn))
                    && (token > node.fence || !self.has(Rule::RenewAbove))
            }
        }
    }

    /// The number of other nodes from which a restarted node must learn.
    fn teachers_needed(&self, state: &State) -> usize {
        let majority_restarted = state.quarantined() > NODES / 2;
        if majority_restarted || !self.has(Rule::LearnFromMajority) { 1 } else { NODES / 2 + 1 }
    }

    fn client_actions(&self, state: &State, client: usize, actions: &mut Vec<Action>) {
        let Client { stage, in_time, installed, read, .. } = state.clients[client];
        match stage {
            // Clients are numbered in the order in which they begin.
            Stage::Idle if client == RENEWAL => {
                let holds = |of: &usize| state.clients[*of].stage == Stage::Holding;
                let holders = (0..RENEWAL).filter(|of| self.renews && holds(of));
                actions.extend(holders.map(|of| Action::Renew { of }));
            }
            Stage::Idle if client == 0 || state.clients[client - 1].stage != Stage::Idle => {
                actions.push(Action::Ask { client });
            }
            Stage::Idle | Stage::Over => {}
            Stage::Asking if state.is_preceded(client) && self.has(Rule::GiveUpLate) => {}
            Stage::Asking => actions.push(Action::GiveUp { client }),
            // The next batch begins when the present one has ended.
            Stage::Holding if state.is_preceded(client) => {}
            Stage::Holding => actions.push(match (installed, read) {
                (true, Some(_)) => Action::Write { client },
                (false, None) if self.has(Rule::InstallFirst) => Action::Install { client },
                (false, Some(_)) => Action::Install { client },
                (_, None) => Action::Read { client },
            }),
        }
        let precedes = |of: usize| state.clients[of].in_time && self.has(Rule::LastLonger);
        if in_time && !state.renewed_by(client).is_some_and(precedes) {
            actions.push(Action::LeaseEnds { client });
        }
        for (node, is) in state.nodes.iter().enumerate() {
            let Link { request, release, .. } = is.links[client];
            if release {
                actions.push(Action::Release { client, node });
            }
            if request {
                let grants = |token: &u8| self.grants(state, is, client, *token);
                let grant = |token| Action::Grant { client, node, token };
                actions.extend((1..=self.tokens).filter(grants).map(grant));
            }
        }
    }

    fn node_actions(&self, state: &State, node: usize, actions: &mut Vec<Action>) {
        let is = &state.nodes[node];
        let is_over = |owner| !state.is_under_way(owner);
        let lasts = self.timed && self.has(Rule::Clocks);
        if is.lock.is_some_and(|owner| !lasts || is_over(owner)) {
            actions.push(Action::LockEnds { node });
        }
        let quarantined = state.quarantined();
        if state.restarts > 0 && (quarantined == 0 || (self.majority_forgets && is.votes())) {
            actions.push(Action::Restart { node, with_data: false });
            if !self.majority_forgets {
                actions.push(Action::Restart { node, with_data: true });
            }
        }
        if let Standing::Quarantined { waits_for, .. } = is.standing
            && (state.waited(waits_for) || !self.has(Rule::Wait))
        {
            let majority_restarted = quarantined > NODES / 2;
            let knows = |teacher: &usize| {
                let other = &state.nodes[*teacher];
                *teacher != node && !other.has_taught && (other.votes() || majority_restarted)
            };
            let teach = |teacher| Action::Teach { node, teacher };
            actions.extend((0..NODES).filter(knows).map(teach));
        }
    }

    fn grant(&self, next: &mut State, client: usize, node: usize, token: u8) {
        let is = &mut next.nodes[node];
        (is.lock, is.fence, is.links[client].request) = (Some(client), token, false);
        if is.votes() && next.clients[client].stage == Stage::Asking {
            is.links[client].granted = Some(token);
            if next.has_quorum(client, token) {
                next.acquired_by(client, token, self.timed);
            }
        }
    }

    fn restart(&self, next: &mut State, node: usize, with_data: bool) {
        next.restarts -= 1;
        let mut waits_for = [false; CLIENTS];
        for (client, waits) in waits_for.iter_mut().enumerate() {
            *waits = next.is_under_way(client);
        }
        let is = &mut next.nodes[node];
        is.lose_messages(&next.clients);
        if !with_data {
            is.forgot = is.links.iter().any(|link| link.granted.is_some());
            (is.lock, is.fence) = (None, 0);
        }
        if self.has(Rule::Quarantine) {
            is.standing = Standing::Quarantined { waits_for, learnt: 0 };
        }
    }

    fn teach(&self, next: &mut State, node: usize, teacher: usize) {
        let needed = self.teachers_needed(next);
        next.nodes[teacher].has_taught = true;
        let known = next.nodes[teacher].fence;
        let taught = next.nodes.iter().filter(|node| node.has_taught).count();
        let is = &mut next.nodes[node];
        if let Standing::Quarantined { learnt, .. } = &mut is.standing {
            *learnt = known.max(*learnt);
            if taught >= needed {
                is.fence = is.fence.max(*learnt);
                is.standing = Standing::Votes;
                for node in &mut next.nodes {
                    node.has_taught = false;
                }
            }
        }
    }

    /// A step of a holder.
    fn hold(&self, next: &mut State, action: Action) {
        let (register, clients) = (&mut next.register, &mut next.clients);
        match action {
            Action::Install { client } => {
                let holder = &mut clients[client];
                if holder.token > register.fence {
                    (register.fence, holder.installed) = (holder.token, true);
                } else if !self.has(Rule::Fence) {
                    holder.installed = true;
                } else {
                    next.release(client);
                }
            }
            Action::Read { client } => clients[client].read = Some(register.value),
            Action::Write { client } => {
                let holder = &clients[client];
                if holder.token == register.fence || !self.has(Rule::Fence) {
                    register.lost_update |= holder.read != Some(register.value);
                    register.value += 1;
                }
                next.release(client);
            }
            _ => {}
        }
    }
}

impl Model for Lock {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::new(self.restarts)]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for client in 0..CLIENTS {
            self.client_actions(state, client, actions);
        }
        for node in 0..NODES {
            self.node_actions(state, node, actions);
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        match action {
            Action::Ask { client } => next.ask(client),
            Action::Renew { of } => {
                next.renewed = Some(of);
                next.ask(RENEWAL);
            }
            Action::Grant { client, node, token } => self.grant(&mut next, client, node, token),
            Action::Release { client, node } => next.nodes[node].release(client),
            Action::GiveUp { client } => next.release(client),
            Action::LeaseEnds { client } => next.clients[client].in_time = false,
            Action::LockEnds { node } => next.nodes[node].lock = None,
            Action::Install { .. } | Action::Read { .. } | Action::Write { .. } => {
                self.hold(&mut next, action);
            }
            Action::Restart { node, with_data } => self.restart(&mut next, node, with_data),
            Action::Teach { node, teacher } => self.teach(&mut next, node, teacher),
        }
        if self.has(Rule::Counter) {
            for node in &mut next.nodes {
                node.drop_idle_messages(self.tokens);
            }
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always(UNIQUE, |_, state: &State| state.tokens_are_unique()),
            Property::always(RISING, |_, state: &State| {
                state.tokens().all(|(token, floor)| token > floor)
            }),
            Property::always(NO_LOST_UPDATE, |_, state: &State| !state.register.lost_update),
            Property::sometimes(ALL, |model: &Self, state: &State| {
                state.tokens().count() == usize::from(model.tokens)
            }),
            Property::sometimes(ALL_WRITE, |model: &Self, state: &State| {
                state.register.value == model.tokens
            }),
        ];
        if self.timed {
            properties.push(Property::always(EXCLUSION, |_, state: &State| state.believers() <= 1));
        }
        if self.restarts > 0 {
            properties.push(Property::sometimes(READMITTED, |_, state: &State| {
                state.acquired_from_readmitted()
            }));
        }
        properties
    }
}
