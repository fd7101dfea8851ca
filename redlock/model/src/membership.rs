//! The membership changes while two clients acquire and nodes forget.
//!
//! The model contains only what tokens depend on. It has no locks: a held lock makes a node refuse, and
//! the nodes of the model may refuse without a lock. There is one token, which both clients propose: a
//! client that could get a lower token after a higher one could also get the same token again. A
//! coordinator of a change holds the lock on the membership, but every coordinator may continue at any
//! time, as if its lock had ended.

mod state;

use stateright::{Model, Property};

use state::{
    CLIENTS, Client, Coordinator, Known, Lesson, NODES, Node, SECOND, Second, Standing, contains,
    coordinator_of, is_joint, is_majority, joint_epoch, or_all,
};

pub use state::{Action, Set, State};

/// A promise.
pub const UNIQUE: &str = "no two acquisitions have the same token";
const CHANGED: &str = "a client acquires from the new set";
const READMITTED: &str = "a client acquires from the new set, with a node that forgot";

/// The rules that a test can leave out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Both sets must agree during the change.
    JointPhase,
    /// The coordinator learns only from nodes with the joint epoch, since other nodes may still grant
    /// tokens.
    LearnAtEpoch,
    /// The future nodes learn what the present nodes know.
    TeachNewSet,
    /// During the change a node that forgot learns from a majority of each set.
    LearnFromBothSets,
    /// A node that learns of a later membership starts over under that one.
    StartOver,
    /// Future nodes that restart wait as other nodes do.
    JoiningNodesWait,
    /// The coordinator admits blank future nodes without a wait, but only before a membership that
    /// contains them is written.
    AdmitFirst,
    /// The coordinator admits only future nodes that were blank while it held the lock.
    AdmitWithLock,
    /// Nodes refuse the membership of a coordinator whose lock was granted to another one since.
    FenceCoordinator,
}

/// The model and its bounds.
#[derive(Clone, Debug)]
pub struct Change {
    /// The first set of nodes.
    pub present: Set,
    /// The new set of each coordinator; there are one or two.
    pub targets: Vec<Set>,
    /// How often a node forgets everything.
    pub restarts: u8,
    /// The rule that is left out.
    pub without: Option<Rule>,
}

impl Change {
    fn has(&self, rule: Rule) -> bool {
        self.without != Some(rule)
    }

    /// The set of an epoch, and the future set; the same set twice if the epoch has only one.
    fn sets(&self, state: &State, epoch: u8) -> [Set; 2] {
        if epoch == 0 {
            return [self.present; 2];
        }
        let coordinator = coordinator_of(epoch);
        let target = self.targets[coordinator];
        if is_joint(epoch) {
            [state.coordinators[coordinator].present, target]
        } else {
            [target; 2]
        }
    }

    fn nodes_of(&self, state: &State, epoch: u8) -> Set {
        let [present, joining] = self.sets(state, epoch);
        present | joining
    }

    fn is_quorum(&self, state: &State, epoch: u8, nodes: Set) -> bool {
        self.sets(state, epoch).iter().all(|set| is_majority(nodes, *set))
    }

    /// Whether a node that forgot has learned enough to be admitted.
    fn is_enough(&self, state: &State, lesson: Lesson) -> bool {
        let [present, _] = self.sets(state, lesson.view);
        if self.has(Rule::LearnFromBothSets) {
            self.is_quorum(state, lesson.view, lesson.teachers)
        } else {
            is_majority(lesson.teachers, present)
        }
    }

    /// Whether a node accepts the membership of this epoch from a coordinator.
    fn accepts(&self, node: Node, epoch: u8) -> bool {
        let is_fenced = self.has(Rule::FenceCoordinator) && epoch / 2 < node.known.fence;
        epoch > node.known.epoch && !is_fenced
    }

    fn client_actions(state: &State, client: usize, actions: &mut Vec<Action>) {
        match state.clients[client] {
            // Clients are numbered in the order in which they begin.
            Client::Idle if client == 0 || state.clients[client - 1] != Client::Idle => {
                actions.extend(state.epochs().map(|epoch| Action::Ask { client, epoch }));
            }
            Client::Asking { epoch, asked, .. } => {
                // A request that is refused changes nothing.
                let grants = |node: &usize| {
                    let Known { granted, epoch: at, .. } = state.nodes[*node].known;
                    contains(asked, *node) && state.votes(*node) && epoch >= at && !granted
                };
                let grant = |node| Action::Grant { client, node };
                actions.extend((0..NODES).filter(grants).map(grant));
                if state.is_waited_for(client) {
                    actions.push(Action::GiveUp { client });
                }
            }
            _ => {}
        }
    }

    fn node_actions(&self, state: &State, node: usize, actions: &mut Vec<Action>) {
        match state.nodes[node].standing {
            Standing::Votes if state.may_forget(node) => actions.push(Action::Restart { node }),
            Standing::Quarantined { waits_for: 0, lesson } => {
                let known = lesson.map_or(0, |lesson| lesson.teachers);
                let goes_by = |view: &u8| lesson.is_none_or(|lesson| lesson.view == *view);
                for view in state.epochs().filter(goes_by) {
                    let nodes = self.nodes_of(state, view);
                    let teaches = |teacher: &usize| {
                        contains(nodes & !known, *teacher) && state.votes(*teacher)
                    };
                    let teach = |teacher| Action::Teach { node, view, teacher };
                    if contains(nodes, node) {
                        actions.extend((0..NODES).filter(teaches).map(teach));
                    }
                }
            }
            _ => {}
        }
    }

    fn second_actions(&self, state: &State, actions: &mut Vec<Action>) {
        match state.second {
            Second::Idle => {
                actions.extend(state.epochs().map(|epoch| Action::AskForMembership { epoch }));
            }
            Second::Asking { epoch, .. } => {
                let nodes = self.nodes_of(state, epoch);
                let grants = |node: &usize| {
                    let known = state.nodes[*node].known;
                    contains(nodes, *node)
                        && state.votes(*node)
                        && known.fence == 0
                        && epoch >= known.epoch
                };
                let grant = |node| Action::GrantMembership { node };
                actions.extend((0..NODES).filter(grants).map(grant));
                if state.is_waited_for(SECOND) {
                    actions.push(Action::LeaveMembership);
                }
            }
            Second::Acquired { epoch } => {
                // The coordinator may know of a later one. It continues only a change to the same nodes.
                let may_begin = |later: &u8| {
                    *later >= epoch && (!is_joint(*later) || self.targets[0] == self.targets[1])
                };
                let begin = |epoch| Action::Begin { epoch };
                actions.extend(state.epochs().filter(may_begin).map(begin));
            }
            Second::Over => {}
        }
    }

    fn change_actions(&self, state: &State, coordinator: usize, actions: &mut Vec<Action>) {
        let Coordinator { present, is_first, unused, joint, lesson, taught } =
            state.coordinators[coordinator];
        if present == 0 {
            return;
        }
        let (epoch, target) = (joint_epoch(coordinator), self.targets[coordinator]);
        let has_joint = self.has(Rule::JointPhase);
        let is_joint = self.is_quorum(state, epoch, joint) || !has_joint;
        let has_learnt = is_majority(lesson.teachers, present);
        let has_taught = is_majority(taught, target) || !self.has(Rule::TeachNewSet);
        for node in (0..NODES).filter(|node| contains(present | target, *node)) {
            let is = state.nodes[node];
            let is_first = is_first || !self.has(Rule::AdmitFirst);
            if is_first && !contains(present, node) && !state.votes(node) {
                let has_lock = state.has_lock(coordinator, present);
                if contains(unused, node) {
                    actions.push(Action::Admit { coordinator, node });
                } else if has_lock || !self.has(Rule::AdmitWithLock) {
                    actions.push(Action::See { coordinator, node });
                }
            }
            if has_joint && self.accepts(is, epoch) {
                actions.push(Action::WriteJoint { coordinator, node });
            }
            let counts = is.known.epoch >= epoch || !self.has(Rule::LearnAtEpoch) || !has_joint;
            let unread = contains(present & !lesson.teachers, node);
            if is_joint && !has_learnt && unread && counts && state.votes(node) {
                actions.push(Action::Learn { coordinator, teacher: node });
            }
            if has_learnt && !is_majority(taught, target) && contains(target & !taught, node) {
                actions.push(Action::Raise { coordinator, node });
            }
            if is_joint && has_taught && self.accepts(is, epoch + 1) {
                actions.push(Action::WriteLast { coordinator, node });
            }
        }
    }

    fn granted(&self, next: &mut State, client: usize, node: usize) {
        next.nodes[node].known.granted = true;
        let Client::Asking { epoch, asked, granted } = next.clients[client] else { return };
        let (asked, granted) = (asked & !(1 << node), granted | 1 << node);
        next.clients[client] = Client::Asking { epoch, asked, granted };
        if self.is_quorum(next, epoch, granted) {
            let readmitted = |node: usize| contains(granted, node) && next.nodes[node].forgot;
            let with_readmitted = (0..NODES).any(readmitted);
            next.clients[client] = Client::Acquired { epoch, with_readmitted };
            next.is_over(client);
        }
    }

    /// Ends acquisitions that can no longer win. Further grants would only make nodes refuse others.
    fn end_hopeless(&self, next: &mut State) {
        for client in 0..CLIENTS {
            if let Client::Asking { epoch, asked, granted } = next.clients[client]
                && !self.is_quorum(next, epoch, asked | granted)
            {
                next.clients[client] = Client::GaveUp;
                next.is_over(client);
            }
        }
    }

    fn granted_membership(&self, next: &mut State, node: usize) {
        next.nodes[node].known.fence = joint_epoch(1) / 2;
        let Second::Asking { epoch, granted } = next.second else { return };
        let granted = granted | 1 << node;
        next.second = Second::Asking { epoch, granted };
        if self.is_quorum(next, epoch, granted) {
            next.second = Second::Acquired { epoch };
            next.is_over(SECOND);
        }
    }

    fn teach(&self, next: &mut State, node: usize, view: u8, teacher: usize) {
        let known = next.nodes[teacher].known;
        let Standing::Quarantined { waits_for, lesson } = next.nodes[node].standing else { return };
        let mut learnt = lesson.unwrap_or(Lesson { view, ..Lesson::default() });
        learnt.learn(teacher, known);
        let is_late = learnt.known.epoch > view && self.has(Rule::StartOver);
        next.nodes[node].standing = if is_late {
            Standing::Quarantined { waits_for, lesson: None }
        } else if self.is_enough(next, learnt) {
            next.nodes[node].known.learn(learnt.known);
            Standing::Votes
        } else {
            Standing::Quarantined { waits_for, lesson: Some(learnt) }
        };
    }
}

impl Model for Change {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::new(self.present, self.targets.len() > 1, self.restarts)]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for client in 0..CLIENTS {
            Self::client_actions(state, client, actions);
        }
        for node in 0..NODES {
            self.node_actions(state, node, actions);
        }
        self.second_actions(state, actions);
        for coordinator in 0..state.coordinators.len() {
            self.change_actions(state, coordinator, actions);
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        match action {
            Action::Ask { client, epoch } => {
                let asked = self.nodes_of(state, epoch);
                next.clients[client] = Client::Asking { epoch, asked, granted: 0 };
            }
            Action::Grant { client, node } => self.granted(&mut next, client, node),
            Action::GiveUp { client } => {
                next.clients[client] = Client::GaveUp;
                next.is_over(client);
            }
            Action::Restart { node } => {
                let is_joining = !contains(self.present, node);
                let waits = !is_joining || self.has(Rule::JoiningNodesWait);
                next.restart(node, if waits { state.under_way() } else { 0 });
            }
            Action::Teach { node, view, teacher } => self.teach(&mut next, node, view, teacher),
            Action::AskForMembership { epoch } => {
                next.second = Second::Asking { epoch, granted: 0 }
            }
            Action::GrantMembership { node } => self.granted_membership(&mut next, node),
            Action::LeaveMembership => {
                next.second = Second::Over;
                next.is_over(SECOND);
            }
            Action::Begin { epoch } => {
                let [present, _] = self.sets(state, epoch);
                let is_first = !is_joint(epoch);
                next.coordinators[1] = Coordinator { present, is_first, ..Coordinator::default() };
                next.second = Second::Over;
            }
            Action::See { coordinator, node } => {
                next.coordinators[coordinator].unused |= 1 << node;
            }
            Action::Admit { node, .. } => next.nodes[node].standing = Standing::Votes,
            Action::WriteJoint { coordinator, node } => {
                next.coordinators[coordinator].is_first = false;
                next.nodes[node].known.epoch = joint_epoch(coordinator);
                let Coordinator { present, joint, .. } = &mut next.coordinators[coordinator];
                *joint = or_all(*joint | 1 << node, [*present, self.targets[coordinator]]);
            }
            Action::Learn { coordinator, teacher } => {
                let known = next.nodes[teacher].known;
                let Coordinator { present, lesson, .. } = &mut next.coordinators[coordinator];
                lesson.learn(teacher, known);
                lesson.teachers = or_all(lesson.teachers, [*present; 2]);
            }
            Action::Raise { coordinator, node } => {
                let Coordinator { lesson, taught, .. } = &mut next.coordinators[coordinator];
                *taught = or_all(*taught | 1 << node, [self.targets[coordinator]; 2]);
                next.nodes[node].known.learn(lesson.known);
            }
            Action::WriteLast { coordinator, node } => {
                next.nodes[node].known.epoch = joint_epoch(coordinator) + 1;
            }
        }
        next.drop_idle_requests();
        self.end_hopeless(&mut next);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always(UNIQUE, |_, state: &State| state.acquired() <= 1),
            Property::sometimes(CHANGED, |_, state: &State| state.acquired_from_new(false)),
        ];
        if self.restarts > 0 {
            properties.push(Property::sometimes(READMITTED, |_, state: &State| {
                state.acquired_from_new(true)
            }));
        }
        properties
    }
}
