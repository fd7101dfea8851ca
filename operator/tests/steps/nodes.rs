//! The number of Redis nodes changes on a running sale.

use std::collections::BTreeSet;

use flashsale_operator::crd::{
    DatabaseStatus, FlashSaleStatus, Phase, ProductStatus, RedisStatus, Totals,
};
use flashsale_operator::flash_sale::app_client::SaleReport;
use flashsale_operator::flash_sale::build::credentials::Passwords;
use flashsale_operator::flash_sale::build::{KubernetesResources, Prepared, build};
use flashsale_operator::flash_sale::dereference::References;
use flashsale_operator::flash_sale::node_request::{existing_nodes, to_request};
use flashsale_operator::flash_sale::nodes::{
    ChangeAnswer, ExistingNodes, LockNodes, NodeChange, NodePlan,
};
use flashsale_operator::flash_sale::observe::Observed;
use flashsale_operator::flash_sale::outcome::Outcome;
use flashsale_operator::flash_sale::seed::Seed;
use flashsale_operator::flash_sale::update_status::status;
use flashsale_operator::flash_sale::validate::{ValidatedSale, validate};
use kube::ResourceExt;
use serde_json::json;

use crate::build::{container, value};
use crate::status::{NOON, applied, at};
use crate::{images, references, sale};

fn valid(nodes: i32) -> ValidatedSale {
    validate(&sale(&format!("redis: {{nodes: {nodes}}}")), references(), &images()).unwrap()
}

fn addresses(nodes: i32) -> Vec<String> {
    let node = |i| format!("black-friday-redis-{i}.black-friday-redis.shop.svc:6379");
    (0..nodes).map(node).collect()
}

fn lock(nodes: i32, joining: i32, done: bool) -> ChangeAnswer {
    let (nodes, joining) = (addresses(nodes), addresses(joining));
    ChangeAnswer::Progress(LockNodes { nodes, joining, done, error: None })
}

/// A sale and its lock. `joining` 0: no change is in progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Model {
    declared: i32,
    pods: i32,
    configured: i32,
    nodes: i32,
    joining: i32,
    members: Option<i32>,
}

impl Model {
    fn settled(nodes: i32) -> Self {
        Self { declared: nodes, pods: nodes, configured: nodes, nodes, joining: 0, members: None }
    }

    fn is_settled(self) -> bool {
        let members = self.members.unwrap_or(self.nodes);
        let all = [self.pods, self.configured, self.nodes, members];
        all.iter().all(|nodes| *nodes == self.declared) && self.joining == 0
    }

    /// Nodes without which the lock has no quorum.
    fn needed(self) -> i32 {
        self.nodes.max(self.joining)
    }

    /// One reconcile. Panics if it takes the lock's nodes away, or lets replicas start with others.
    fn reconcile(self, app_answers: bool) -> Self {
        let mut next = self;
        let (pods, configured) = (Some(self.pods), Some(self.configured));
        let existing =
            ExistingNodes { pods, running: self.pods, configured, members: self.members };
        let answer = to_request(&valid(self.declared), existing).map(|asked| {
            assert_eq!(asked, addresses(self.declared));
            if !app_answers {
                return ChangeAnswer::None;
            }
            let done = next.joining == 0 && next.nodes == self.declared;
            if next.joining == 0 && !done {
                next.joining = self.declared;
            }
            lock(next.nodes, next.joining, done)
        });
        let plan = NodePlan::next(self.declared, existing, answer.as_ref());
        let removes_a_member = plan.pods < self.pods && plan.pods < next.needed();
        assert!(!removes_a_member, "{self:?} {plan:?}");
        let other = plan.configured != self.configured;
        assert!(
            !other || (next.joining == 0 && next.nodes == plan.configured),
            "{self:?} {plan:?}"
        );
        assert_eq!(plan.removes, plan.pods < self.pods, "{self:?} {plan:?}");
        next.pods = plan.pods;
        next.configured = plan.configured;
        if app_answers {
            let ChangeAnswer::Progress(lock) = lock(next.nodes, next.joining, false) else {
                return next;
            };
            next.members = Some(lock.members(next.declared));
        }
        next
    }

    /// The app completes the change if all of the lock's nodes run.
    fn completes(self) -> Self {
        if self.joining == 0 || self.pods < self.needed() {
            return self;
        }
        Self { nodes: self.joining, joining: 0, ..self }
    }

    fn declares(self, declared: i32) -> Self {
        Self { declared, ..self }
    }
}

/// A person may change the number at any step, and the operator or the app may die at any step: what was applied last
/// and what the lock has are all that the next reconcile sees.
#[test]
fn from_every_state_the_declared_nodes_are_reached_and_no_node_of_the_lock_is_removed() {
    let mut seen = BTreeSet::new();
    let mut open = vec![Model::settled(1), Model::settled(5)];
    while let Some(model) = open.pop() {
        if !seen.insert(model) {
            continue;
        }
        open.extend([model.reconcile(true), model.reconcile(false), model.completes()]);
        open.extend([1, 5].map(|declared| model.declares(declared)));
    }
    assert!(seen.len() > 20, "{}", seen.len());
    for start in seen {
        let mut model = start;
        for _ in 0..8 {
            model = model.reconcile(true).completes();
        }
        assert!(model.is_settled(), "{start:?} ends in {model:?}");
    }
}

#[test]
fn a_sale_whose_nodes_do_not_change_asks_nothing() {
    for nodes in [1, 5] {
        for existing in [
            ExistingNodes::default(),
            ExistingNodes { pods: Some(nodes), running: nodes, ..ExistingNodes::default() },
            ExistingNodes {
                pods: Some(nodes),
                running: 0,
                configured: Some(nodes),
                members: Some(nodes),
            },
        ] {
            assert_eq!(to_request(&valid(nodes), existing), None, "{existing:?}");
            assert_eq!(NodePlan::next(nodes, existing, None), NodePlan::settled(nodes));
        }
    }
}

/// A sale whose Redis nodes take the whole quota has no replica that could confirm a change.
#[test]
fn a_lock_that_nobody_has_used_gets_the_declared_nodes_at_once() {
    let five = ExistingNodes { pods: Some(5), running: 4, configured: Some(5), members: None };
    let unused = References { nodes: five, ..references() };
    let starting = |phase| FlashSaleStatus { phase, ..FlashSaleStatus::default() };
    let phases = [Phase::Pending, Phase::Provisioning, Phase::Failed].map(starting);
    for status in phases.iter().map(Some).chain([None]) {
        let existing = existing_nodes(&unused, status);
        assert_eq!(to_request(&valid(1), existing), None);
        let plan = NodePlan::next(1, existing, None);
        assert_eq!(plan, NodePlan { removes: true, ..NodePlan::settled(1) }, "{status:?}");
    }

    let seeded = json!({ "status": { "conditions": [{ "type": "Complete", "status": "True" }] } });
    let seeded = vec![serde_json::from_value(seeded).unwrap()];
    for used in [
        References { app_is_ready: true, ..unused.clone() },
        References { seed_jobs: seeded, ..unused.clone() },
    ] {
        assert_eq!(existing_nodes(&used, Some(&phases[1])), five);
    }
    let database = DatabaseStatus { address: "a".to_owned(), id: "b".to_owned() };
    let totals = Totals { stock: 100, sold: 0, remaining: 100 };
    for status in [
        FlashSaleStatus { database: Some(database), ..phases[1].clone() },
        FlashSaleStatus { totals: Some(totals), ..phases[1].clone() },
        starting(Phase::Open),
        starting(Phase::Degraded),
        starting(Phase::Hibernated),
    ] {
        assert_eq!(existing_nodes(&unused, Some(&status)), five, "{status:?}");
    }
    let redis = RedisStatus {
        ready: 5,
        nodes: 5,
        quorum: true,
        members: Some(5),
        summary: "5/5".to_owned(),
    };
    let status = FlashSaleStatus { redis: Some(redis), ..phases[1].clone() };
    let reported = ExistingNodes { members: Some(5), ..five };
    assert_eq!(existing_nodes(&unused, Some(&status)), reported);
}

#[test]
fn a_sale_that_hibernates_changes_its_nodes_when_it_wakes() {
    let asleep = ExistingNodes { pods: Some(0), running: 0, configured: Some(5), members: Some(5) };
    let mut sale = valid(1);
    sale.hibernates = true;
    assert_eq!(to_request(&sale, asleep), None);
    let plan = NodePlan::next(1, asleep, None);
    assert_eq!((plan.pods, plan.configured, plan.removes), (5, 5, false), "its lock has five");
    let awake = ExistingNodes { pods: Some(5), running: 5, ..asleep };
    assert_eq!(to_request(&valid(1), awake), Some(addresses(1)));
}

#[test]
fn the_nodes_of_a_change_that_was_reversed_are_started_again() {
    let existing =
        ExistingNodes { pods: Some(1), running: 1, configured: Some(1), members: Some(5) };
    let plan = NodePlan::next(1, existing, Some(&lock(1, 5, false)));
    assert_eq!((plan.pods, plan.configured), (5, 1), "the lock needs three of five");
}

fn with(sale: &ValidatedSale, plan: NodePlan) -> KubernetesResources<Prepared> {
    let sale = ValidatedSale { nodes: plan, ..sale.clone() };
    build(&sale, &Passwords::fixed()).unwrap()
}

#[test]
fn replicas_and_the_seed_start_with_the_nodes_of_the_lock() {
    let (one, five) = (valid(1), valid(5));
    let before = with(&one, NodePlan::settled(1));
    let existing = ExistingNodes { pods: Some(1), running: 1, configured: Some(1), members: None };
    let joins = with(&five, NodePlan::next(5, existing, None));
    assert_eq!(joins.redis.spec.as_ref().unwrap().replicas, Some(5));
    assert_eq!(container(&joins).env, container(&before).env, "no replica restarts yet");
    assert_eq!(joins.seed.name_any(), before.seed.name_any());

    let after = with(&five, NodePlan::settled(5));
    let env = container(&after).env.unwrap();
    assert_eq!(value(&env, "REDIS_NODES"), addresses(5).join(","));
    assert_eq!(value(&env, "USE_REDLOCK"), "true");
    assert_ne!(after.seed.name_any(), before.seed.name_any(), "new nodes get the stock");
}

#[test]
fn volumes_go_with_nodes_that_left_the_lock_and_with_no_other_ones() {
    let when_scaled = |sale: &ValidatedSale, plan| {
        let set = with(sale, plan).redis.spec.unwrap();
        let policy = set.persistent_volume_claim_retention_policy.unwrap();
        (set.replicas.unwrap(), policy.when_scaled.unwrap())
    };
    let existing =
        ExistingNodes { pods: Some(5), running: 5, configured: Some(5), members: Some(5) };
    let mut sale = valid(1);
    let asked = NodePlan::next(1, existing, Some(&lock(5, 1, false)));
    assert_eq!(when_scaled(&sale, asked), (5, "Retain".to_owned()));
    let done = NodePlan::next(1, existing, Some(&lock(1, 0, true)));
    assert_eq!(when_scaled(&sale, done.clone()), (1, "Delete".to_owned()));
    // The pods are still terminating, then they are gone.
    for (running, policy) in [(3, "Delete"), (1, "Retain")] {
        let existing =
            ExistingNodes { pods: Some(1), running, configured: Some(1), members: Some(1) };
        let plan = NodePlan::next(1, existing, None);
        assert_eq!(when_scaled(&sale, plan), (1, policy.to_owned()));
    }
    sale.hibernates = true;
    assert_eq!(when_scaled(&sale, done), (0, "Retain".to_owned()));
}

#[test]
fn a_change_is_no_outage_and_says_what_it_waits_for() {
    let existing =
        ExistingNodes { pods: Some(5), running: 5, configured: Some(1), members: Some(1) };
    let change = |answer| NodePlan::next(5, existing, Some(&answer)).change;
    let outcome = |ready: i32, change: Option<NodeChange>| {
        let lock = LockNodes { nodes: addresses(1), joining: addresses(5), ..LockNodes::default() };
        let products =
            vec![ProductStatus { id: "1".to_owned(), stock: 100, sold: 40, remaining: 60 }];
        let report = SaleReport { redis: Some(lock), products, ..SaleReport::default() };
        Outcome::Applied {
            resources: applied(ready, 1, 3),
            seed: Seed::Done,
            observed: Box::new(Observed {
                report: Some(report),
                node_change: change,
                ..Observed::default()
            }),
            refusals: Vec::new(),
        }
    };
    let mut sale = sale("redis: {nodes: 5}");
    sale.status = Some(status(&sale, &outcome(5, None), at(NOON)));
    assert_eq!(sale.status.as_ref().unwrap().phase, Phase::Open);

    let unsupported = "this version of the app cannot change its nodes: update its image";
    let failed =
        LockNodes { nodes: addresses(1), error: Some("why".to_owned()), ..LockNodes::default() };
    for (answer, step) in [
        (lock(1, 5, false), "the app changes the lock"),
        (ChangeAnswer::None, "no replica of the app answers"),
        (ChangeAnswer::Unsupported, unsupported),
        (ChangeAnswer::Progress(failed), "the app tries again: why"),
    ] {
        let status = status(&sale, &outcome(1, change(answer)), at(NOON));
        assert_eq!(status.phase, Phase::Open, "{step}");
        let redis = status.conditions.iter().find(|it| it.type_ == "RedisReady").unwrap();
        let reason = if step == unsupported { "NodesUnsupported" } else { "ChangingNodes" };
        assert_eq!((redis.status.as_str(), redis.reason.as_str()), ("False", reason));
        let message = format!("1 of 5 nodes ready; from 1 to 5 nodes of the lock: {step}");
        assert_eq!(redis.message, message);
        let nodes = RedisStatus {
            ready: 1,
            nodes: 5,
            quorum: true,
            members: Some(1),
            summary: "1/5".to_owned(),
        };
        assert_eq!(status.redis, Some(nodes));
    }
    let status = status(&sale, &outcome(0, change(lock(1, 5, false))), at(NOON));
    assert_eq!(status.phase, Phase::Degraded, "the only node of the lock is away");
    assert!(!status.redis.unwrap().quorum);
}
