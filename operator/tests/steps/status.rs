//! The status of a sale, from the objects that the API server returned.

use std::marker::PhantomData;
use std::time::Duration;

use flashsale_operator::crd::{FlashSale, FlashSaleStatus, Phase, ProductStatus};
use flashsale_operator::flash_sale::app_client::SaleReport;
use flashsale_operator::flash_sale::build::credentials::Passwords;
use flashsale_operator::flash_sale::build::{Applied, KubernetesResources, build};
use flashsale_operator::flash_sale::not_ready::NotReady;
use flashsale_operator::flash_sale::observe::Observed;
use flashsale_operator::flash_sale::outcome::Outcome;
use flashsale_operator::flash_sale::seed::{self, Seed};
use flashsale_operator::flash_sale::update_status::status;
use flashsale_operator::flash_sale::validate::validate;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

use crate::{images, references, sale};

pub fn at(time: &str) -> Timestamp {
    time.parse().unwrap()
}

pub const NOON: &str = "2026-11-27T12:00:00Z";
const LATER: &str = "2026-11-27T12:30:00Z";

/// The parts of the fixture with these numbers of ready pods.
pub fn applied(redis: i32, database: i32, app: i32) -> Box<KubernetesResources<Applied>> {
    let valid = validate(&sale(""), references(), &images()).unwrap();
    let mut built = build(&valid, &Passwords::fixed()).unwrap();
    let ready =
        |pods: i32| json!({ "replicas": pods, "updatedReplicas": pods, "readyReplicas": pods });
    built.redis.status = serde_json::from_value(ready(redis)).unwrap();
    built.database.as_mut().unwrap().status = serde_json::from_value(ready(database)).unwrap();
    let available = json!({
        "replicas": app, "updatedReplicas": app, "readyReplicas": app, "availableReplicas": app,
    });
    built.app.status = serde_json::from_value(available).unwrap();
    Box::new(KubernetesResources {
        missing_secrets: built.missing_secrets,
        certificates: built.certificates,
        catalog: built.catalog,
        services: built.services,
        network: built.network,
        redis: built.redis,
        database: built.database,
        backup: built.backup,
        seed: built.seed,
        app: built.app,
        autoscaler: built.autoscaler,
        disruption_budgets: built.disruption_budgets,
        state: PhantomData,
    })
}

pub fn outcome(redis: i32, database: i32, app: i32, seed: Seed) -> Outcome {
    Outcome::Applied {
        resources: applied(redis, database, app),
        seed,
        observed: Box::default(),
        refusals: Vec::new(),
    }
}

/// The last pod of a rolling update: it has the new template, and only this number of pods is ready.
pub fn rolls_out(set: &mut StatefulSet, ready: i32) {
    let status = set.status.as_mut().unwrap();
    status.ready_replicas = Some(ready);
    status.current_revision = Some("first".to_owned());
    status.update_revision = Some("second".to_owned());
}

pub fn after(previous: Option<FlashSaleStatus>, outcome: &Outcome, now: &str) -> FlashSaleStatus {
    let sale = FlashSale { status: previous, ..sale("") };
    status(&sale, outcome, at(now))
}

pub fn condition(status: &FlashSaleStatus, type_: &str) -> (String, String, String) {
    let found = status.conditions.iter().find(|it| it.type_ == type_).unwrap();
    (found.status.clone(), found.reason.clone(), found.message.clone())
}

fn since(status: &FlashSaleStatus, type_: &str) -> Timestamp {
    status.conditions.iter().find(|it| it.type_ == type_).unwrap().last_transition_time.0
}

#[test]
fn a_time_moves_only_with_its_condition() {
    let ready = after(None, &outcome(5, 1, 3, Seed::Done), NOON);
    assert_eq!(ready.phase, Phase::Open);
    assert_eq!(ready.observed_generation, 3);
    let same = after(Some(ready.clone()), &outcome(5, 1, 3, Seed::Done), LATER);
    assert_eq!(same, ready, "nothing to send");

    let away = after(Some(ready.clone()), &outcome(4, 1, 3, Seed::Done), LATER);
    assert_eq!(since(&away, "RedisReady"), at(LATER));
    assert_eq!(since(&away, "Ready"), at(LATER));
    assert_eq!(since(&away, "DatabaseReady"), at(NOON));
}

#[test]
fn the_first_part_that_is_away_is_the_cause() {
    let status = after(None, &outcome(2, 0, 0, Seed::Running), NOON);
    let (holds, reason, message) = condition(&status, "Ready");
    assert_eq!((holds.as_str(), reason.as_str()), ("False", "NodesAway"));
    assert_eq!(message, "2 of 5 nodes ready; the quorum needs 3");
    assert_eq!(status.phase, Phase::Provisioning);
    let redis = status.redis.unwrap();
    assert_eq!((redis.quorum, redis.summary.as_str()), (false, "2/5"));

    let status = after(None, &outcome(5, 1, 3, Seed::Running), NOON);
    assert_eq!(condition(&status, "Ready").1, "Seeding");
}

#[test]
fn one_node_away_degrades_a_sale_that_goes_on() {
    let ready = after(None, &outcome(5, 1, 3, Seed::Done), NOON);
    let status = after(Some(ready), &outcome(4, 1, 3, Seed::Done), LATER);
    assert_eq!(status.phase, Phase::Degraded);
    assert_eq!(condition(&status, "RedisReady").2, "4 of 5 nodes ready; the quorum holds");
    assert!(status.redis.unwrap().quorum);
}

#[test]
fn what_could_not_be_looked_at_keeps_its_state() {
    let ready = after(None, &outcome(5, 1, 3, Seed::Done), NOON);
    let waiting = Outcome::Waiting(NotReady {
        reason: "SecretMissing",
        message: "Secret shop-db does not exist".to_owned(),
        requeue_after: None,
    });
    let status = after(Some(ready.clone()), &waiting, LATER);
    assert_eq!(condition(&status, "RedisReady"), condition(&ready, "RedisReady"));
    assert_eq!(condition(&status, "Ready").1, "SecretMissing");
    assert_eq!(status.phase, Phase::Degraded);

    let status = after(None, &waiting, NOON);
    let types: Vec<&str> = status.conditions.iter().map(|it| it.type_.as_str()).collect();
    assert_eq!((status.phase, types.as_slice()), (Phase::Pending, &["Ready", "Reconciling"][..]));
    let status = after(None, &Outcome::Refused(vec!["no".to_owned()]), NOON);
    assert_eq!(
        (status.phase, condition(&status, "Ready").1.as_str()),
        (Phase::Failed, "ChangeRefused")
    );
}

#[test]
fn counts_stay_when_nobody_answers() {
    let product = |id: &str, sold| ProductStatus {
        id: id.to_owned(),
        stock: 100,
        sold,
        remaining: 100 - sold,
    };
    let products = vec![product("B", 10), product("1", 40)];
    let report = Some(SaleReport { products, ..SaleReport::default() });
    let counted = Outcome::Applied {
        resources: applied(5, 1, 3),
        seed: Seed::Done,
        observed: Box::new(Observed { report, ..Observed::default() }),
        refusals: Vec::new(),
    };
    let status = after(None, &counted, NOON);
    assert_eq!(status.products, [product("1", 40), product("B", 10)], "sorted");
    assert_eq!(status.totals.unwrap().sold, 50);
    let silent = after(Some(status.clone()), &outcome(5, 1, 3, Seed::Done), LATER);
    assert_eq!(silent, status);
}

#[test]
fn a_seed_job_that_failed_is_tried_again_after_a_minute() {
    let job = |conditions| -> Job {
        serde_json::from_value(json!({
            "metadata": { "name": "now" }, "status": { "conditions": conditions },
        }))
        .unwrap()
    };
    let failed = |at| {
        job(json!([{ "type": "Failed", "status": "True", "message": "no quorum",
                     "lastTransitionTime": at }]))
    };
    assert_eq!(seed::state(&job(json!([])), at(NOON)), Seed::Running);
    let complete = job(json!([{ "type": "Complete", "status": "True" }]));
    assert_eq!(seed::state(&complete, at(NOON)), Seed::Done);
    let fresh = failed("2026-11-27T11:59:50Z");
    let state = seed::state(&fresh, at(NOON));
    assert_eq!(
        state,
        Seed::Failed { message: "no quorum".to_owned(), retry_after: Duration::from_secs(50) }
    );
    assert_eq!(seed::obsolete(std::slice::from_ref(&fresh), &fresh, &state).count(), 0);
    let old = failed("2026-11-27T11:58:00Z");
    let state = seed::state(&old, at(NOON));
    assert_eq!(seed::obsolete(std::slice::from_ref(&old), &old, &state).count(), 1);
}

#[test]
fn a_change_is_ready_when_it_is_rolled_out() {
    let ready = after(None, &outcome(5, 1, 3, Seed::Done), NOON);
    let rolling = |change: fn(&mut KubernetesResources<Applied>), pods: Vec<Pod>| {
        let mut resources = applied(5, 1, 3);
        change(&mut resources);
        let outcome = Outcome::Applied {
            resources,
            seed: Seed::Done,
            observed: Box::new(Observed { pods, ..Observed::default() }),
            refusals: Vec::new(),
        };
        let status = after(Some(ready.clone()), &outcome, LATER);
        assert_eq!(status.phase, Phase::Open, "it sells all the while");
        let (holds, reason, message) = condition(&status, "Ready");
        assert_eq!(holds, "False");
        (reason, message)
    };
    let reason = |change| rolling(change, Vec::new()).0;
    let generation = |it: &mut KubernetesResources<Applied>| it.app.metadata.generation = Some(2);
    assert_eq!(reason(generation), "RollingOut", "not seen by the Deployment's controller yet");
    let updated = |it: &mut KubernetesResources<Applied>| {
        it.app.status.as_mut().unwrap().updated_replicas = Some(1);
    };
    assert_eq!(reason(updated), "RollingOut");
    let surge = |it: &mut KubernetesResources<Applied>| {
        it.app.status.as_mut().unwrap().replicas = Some(4);
    };
    assert_eq!(reason(surge), "RollingOut");
    let nodes = |it: &mut KubernetesResources<Applied>| {
        it.redis.status.as_mut().unwrap().updated_replicas = Some(4);
    };
    assert_eq!(reason(nodes), "RollingOut");
    let restarts = |it: &mut KubernetesResources<Applied>| rolls_out(&mut it.redis, 4);
    assert_eq!(reason(restarts), "RollingOut");
    let database =
        |it: &mut KubernetesResources<Applied>| rolls_out(it.database.as_mut().unwrap(), 0);
    assert_eq!(reason(database), "RollingOut");

    let ending: Pod = serde_json::from_value(json!({
        "metadata": {
            "name": "black-friday-0", "deletionTimestamp": LATER,
            "labels": { "app.kubernetes.io/component": "app" },
        },
        "spec": { "containers": [], "nodeName": "n1" },
        "status": { "phase": "Running" },
    }))
    .unwrap();
    let (reason, message) = rolling(|_| {}, vec![ending]);
    assert_eq!(reason, "RollingOut");
    assert!(message.contains("pod black-friday-0 on node n1"), "{message}");
}

#[test]
fn a_rolling_update_that_costs_more_than_its_pod_is_an_outage() {
    let ready = after(None, &outcome(5, 1, 3, Seed::Done), NOON);
    let during = |change: fn(&mut KubernetesResources<Applied>), observed: Observed| {
        let mut resources = applied(5, 1, 3);
        change(&mut resources);
        let observed = Box::new(observed);
        let refusals = Vec::new();
        let outcome = Outcome::Applied { resources, seed: Seed::Done, observed, refusals };
        let status = after(Some(ready.clone()), &outcome, LATER);
        (status.phase, condition(&status, "Ready").1)
    };
    let broken = |component: &str| {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": { "name": "it", "labels": { "app.kubernetes.io/component": component } },
            "status": { "phase": "Pending", "containerStatuses": [{
                "name": "c", "image": "typo", "imageID": "", "ready": false, "restartCount": 0,
                "state": { "waiting": { "reason": "ErrImagePull", "message": "not found" } },
            }] },
        }))
        .unwrap();
        Observed { pods: vec![pod], ..Observed::default() }
    };
    let one = |it: &mut KubernetesResources<Applied>| rolls_out(&mut it.redis, 4);
    let two = |it: &mut KubernetesResources<Applied>| rolls_out(&mut it.redis, 3);
    let database =
        |it: &mut KubernetesResources<Applied>| rolls_out(it.database.as_mut().unwrap(), 0);
    let outage = |reason: &str| (Phase::Degraded, reason.to_owned());
    assert_eq!(during(two, Observed::default()), outage("NodesAway"));
    assert_eq!(during(one, broken("redis")), outage("ImagePullBackOff"));
    assert_eq!(during(database, broken("database")), outage("ImagePullBackOff"));

    // The machine of the pod was lost while the pod ended, so none has a cause.
    let mut resources = applied(5, 1, 3);
    rolls_out(resources.database.as_mut().unwrap(), 0);
    let (observed, refusals) = (Box::default(), Vec::new());
    let away = Outcome::Applied { resources, seed: Seed::Done, observed, refusals };
    let restarts = after(Some(ready.clone()), &away, LATER);
    assert_eq!(
        (restarts.phase, condition(&restarts, "Ready").1),
        (Phase::Open, "RollingOut".to_owned())
    );
    let lost = after(Some(restarts), &away, "2026-11-27T12:36:00Z");
    assert_eq!((lost.phase, condition(&lost, "Ready").1), outage("DatabaseAway"));

    // The app notices that the database restarts.
    let problem = br#"{"code": "database_unavailable", "status": 503}"#;
    let report = SaleReport::from_response(503, problem);
    let noticed = during(database, Observed { report, ..Observed::default() });
    assert_eq!(noticed, (Phase::Open, "RollingOut".to_owned()));
}

#[test]
fn a_wrong_image_is_the_cause_while_the_old_replicas_sell() {
    let ready = after(None, &outcome(5, 1, 3, Seed::Done), NOON);
    let mut resources = applied(5, 1, 3);
    resources.app.status.as_mut().unwrap().updated_replicas = Some(1);
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {
            "name": "black-friday-1", "labels": { "app.kubernetes.io/component": "app" },
        },
        "status": { "phase": "Pending", "containerStatuses": [{
            "name": "app", "image": "app:typo", "imageID": "", "ready": false, "restartCount": 0,
            "state": { "waiting": { "reason": "ErrImagePull", "message": "not found" } },
        }] },
    }))
    .unwrap();
    let outcome = Outcome::Applied {
        resources,
        seed: Seed::Done,
        observed: Box::new(Observed { pods: vec![pod], ..Observed::default() }),
        refusals: Vec::new(),
    };
    let status = after(Some(ready), &outcome, LATER);
    assert_eq!(status.phase, Phase::Open);
    let (holds, reason, message) = condition(&status, "Ready");
    assert_eq!((holds.as_str(), reason.as_str()), ("False", "ImagePullBackOff"));
    assert!(message.contains("image app:typo can't be pulled: not found"), "{message}");
}

#[test]
fn a_seed_that_failed_does_not_flap_while_it_is_tried_again() {
    let failed = Seed::Failed { message: "no".to_owned(), retry_after: Duration::ZERO };
    let before = after(None, &outcome(5, 1, 3, failed), NOON);
    assert_eq!(before.phase, Phase::Failed);
    assert_eq!(condition(&before, "StockSeeded").1, "SeedFailed");
    let soon = "2026-11-27T12:01:00Z";
    let again = after(Some(before.clone()), &outcome(5, 1, 3, Seed::Running), soon);
    assert_eq!(again, before);
    let done = after(Some(again), &outcome(5, 1, 3, Seed::Done), LATER);
    assert_eq!(done.phase, Phase::Open);
    let mut older = before;
    older.observed_generation = 2;
    let changed = after(Some(older), &outcome(5, 1, 3, Seed::Running), LATER);
    assert_eq!(condition(&changed, "StockSeeded").1, "Seeding", "the spec was corrected");
}

#[test]
fn a_database_that_does_not_answer_or_lets_nobody_in_is_not_ready() {
    let ready = after(None, &outcome(5, 1, 3, Seed::Done), NOON);
    let seen = |observed| Outcome::Applied {
        resources: applied(5, 1, 3),
        seed: Seed::Done,
        observed: Box::new(observed),
        refusals: Vec::new(),
    };
    let problem = br#"{"code": "database_unavailable", "status": 503}"#;
    let report = SaleReport::from_response(503, problem);
    let away = seen(Observed { report, ..Observed::default() });
    let status = after(Some(ready.clone()), &away, LATER);
    assert_eq!(status.phase, Phase::Degraded, "every purchase is refused");
    assert_eq!(condition(&status, "DatabaseReady").1, "DatabaseAway");
    assert_eq!(status.products, ready.products, "the last counts stay");
    assert_eq!(SaleReport::from_response(500, br#"{"code": "internal"}"#), None);

    // A replica that starts with a wrong password, while those of before go on.
    let why = "database: password authentication failed for user \"shop\"".to_owned();
    let refused = seen(Observed { unready: vec![why.clone()], ..Observed::default() });
    let status = after(Some(ready), &refused, LATER);
    let (holds, reason, message) = condition(&status, "DatabaseReady");
    assert_eq!((holds.as_str(), reason.as_str(), message), ("False", "DatabaseAway", why));
    assert_eq!(status.phase, Phase::Open);
}
