//! The cause of a part's outage from the status of its pods, and old replicas that still sell.

use flashsale_operator::crd::{DatabaseStatus, Phase};
use flashsale_operator::flash_sale::app_client::DatabaseReport;
use flashsale_operator::flash_sale::cause::{self, Warning};
use flashsale_operator::flash_sale::database::{self, DatabaseIdentity};
use flashsale_operator::flash_sale::names::Component;
use flashsale_operator::flash_sale::phase::{Inputs, Progress, phase};
use flashsale_operator::flash_sale::rollout;
use flashsale_operator::flash_sale::seed::Seed;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use crate::sale;

const NOON: &str = "2026-11-27T12:00:00Z";

fn at(time: &str) -> Timestamp {
    time.parse().unwrap()
}

fn pod(component: &str, status: &Value) -> Pod {
    serde_json::from_value(json!({
        "metadata": {
            "name": format!("black-friday-{component}-0"),
            "labels": { "app.kubernetes.io/component": component },
        },
        "status": status,
    }))
    .unwrap()
}

fn container(state: &Value, last: &Value) -> Value {
    json!({ "phase": "Running", "containerStatuses": [{
        "name": "app", "image": "app:typo", "imageID": "", "ready": false, "restartCount": 1,
        "state": state, "lastState": last,
    }] })
}

fn found(component: Component, pods: &[Pod], warnings: &[Warning]) -> (&'static str, String) {
    let found = cause::find(component, pods, warnings, at(NOON));
    found.map(|cause| (cause.reason, cause.message)).unwrap_or_default()
}

fn of_app(state: &Value, last: &Value) -> (&'static str, String) {
    found(Component::App, &[pod("app", &container(state, last))], &[])
}

#[test]
fn an_image_that_can_t_be_pulled_is_named_the_same_each_time() {
    let waiting = |reason: &str, message: &str| {
        of_app(&json!({ "waiting": { "reason": reason, "message": message } }), &json!({}))
    };
    let pull = waiting("ErrImagePull", "not found");
    let back_off = "Back-off pulling image \"app:typo\": ErrImagePull: not found";
    assert_eq!(pull, waiting("ImagePullBackOff", back_off), "the status does not flap");
    let message = "pod black-friday-app-0: image app:typo can't be pulled: not found";
    assert_eq!(pull, ("ImagePullBackOff", message.to_owned()));
    let (reason, message) = waiting("CreateContainerConfigError", "couldn't find key jwt-secret");
    assert_eq!(reason, "CreateContainerConfigError");
    assert!(message.ends_with("couldn't find key jwt-secret"), "{message}");
    assert_eq!(waiting("ContainerCreating", "").0, "", "it starts");
}

#[test]
fn a_crash_is_told_in_the_app_s_own_words_also_while_it_runs_again() {
    let log = "{\"level\":\"INFO\"}\nflashsale-app: JWT_SECRET: has fewer than 32 bytes\n";
    let ended = json!({ "terminated": { "exitCode": 2, "message": log } });
    let message = "pod black-friday-app-0: container app exited with 2: JWT_SECRET: has fewer than \
                   32 bytes";
    let crash = ("CrashLoopBackOff", message.to_owned());
    let waiting = json!({ "waiting": { "reason": "CrashLoopBackOff", "message": "back-off 40s" } });
    let running = |since: &str| json!({ "running": { "startedAt": since } });
    assert_eq!(of_app(&waiting, &ended), crash);
    assert_eq!(of_app(&ended, &json!({})), crash);
    assert_eq!(of_app(&running("2026-11-27T11:59:58Z"), &ended), crash);
    assert_eq!(of_app(&running("2026-11-27T11:50:00Z"), &ended).0, "", "it went on since");

    let killed = json!({ "terminated": { "exitCode": 137, "reason": "OOMKilled" } });
    assert_eq!(of_app(&waiting, &killed).0, "OOMKilled");
    let panicked = "thread 'main' panicked at x:\nno\nnote: run with `RUST_BACKTRACE=1`";
    let panicked = json!({ "terminated": { "exitCode": 101, "message": panicked } });
    assert!(of_app(&waiting, &panicked).1.ends_with("exited with 101: no"));
}

#[test]
fn pods_that_fit_nowhere_and_pods_that_can_t_be_made_have_a_cause() {
    let message = "0/1 nodes are available: 1 Insufficient memory.";
    let pending = pod(
        "seed",
        &json!({ "phase": "Pending", "conditions": [{
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message,
        }] }),
    );
    let (reason, text) = found(Component::Seed, std::slice::from_ref(&pending), &[]);
    assert_eq!((reason, text), ("Unschedulable", format!("pod black-friday-seed-0: {message}")));
    assert_eq!(found(Component::App, &[pending], &[]).0, "", "of another part");

    let quota = Warning {
        component: Component::Redis,
        reason: "FailedCreate".to_owned(),
        message: "exceeded quota: pods=3".to_owned(),
    };
    let (reason, message) = found(Component::Redis, &[], &[quota]);
    assert_eq!((reason, message.as_str()), ("FailedCreate", "exceeded quota: pods=3"));
}

#[test]
fn a_pod_that_is_ready_or_leaves_is_no_cause() {
    let crashed = json!({ "terminated": { "exitCode": 2 } });
    let mut status = container(&json!({ "running": { "startedAt": NOON } }), &crashed);
    let mut leaving = pod("app", &status);
    leaving.metadata.deletion_timestamp =
        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(NOON)));
    assert_eq!(found(Component::App, &[leaving], &[]).0, "");
    status["conditions"] = json!([{ "type": "Ready", "status": "True" }]);
    assert_eq!(found(Component::App, &[pod("app", &status)], &[]).0, "");
}

/// A replica that was started with this end.
fn replica(ends_at: Option<&str>, phase: &str) -> Pod {
    let mut pod = pod("app", &json!({ "phase": phase }));
    let env: Vec<Value> =
        ends_at.iter().map(|end| json!({ "name": "SALE_ENDS_AT", "value": end })).collect();
    pod.spec =
        serde_json::from_value(json!({ "containers": [{ "name": "app", "env": env }] })).unwrap();
    pod
}

#[test]
fn a_sale_has_ended_when_no_replica_sells_by_an_earlier_end() {
    let sells = |pod: Pod| rollout::selling(&[pod], at("2026-11-28T00:00:01Z")).is_some();
    assert!(sells(replica(Some("2026-11-29T00:00:00Z"), "Running")));
    assert!(sells(replica(None, "Running")), "it knows no end");
    assert!(!sells(replica(Some("2026-11-28T00:00:00Z"), "Running")));
    assert!(!sells(replica(None, "Succeeded")) && !sells(replica(None, "Pending")));

    let at_end = |selling, progress| {
        let facts = Inputs { previous: Some(Phase::Open), progress, totals: None, selling };
        phase(&sale("").spec, facts, at("2026-11-28T00:00:01Z"))
    };
    assert_eq!(at_end(true, Progress::RollingOut), Phase::Open);
    assert_eq!(at_end(true, Progress::Ready), Phase::Open);
    assert_eq!(at_end(false, Progress::RollingOut), Phase::Ended);
    // The same with a start that is put off while replicas sell.
    let facts = |selling| Inputs {
        previous: Some(Phase::Open),
        progress: Progress::RollingOut,
        totals: None,
        selling,
    };
    let before = at("2026-11-26T00:00:00Z");
    assert_eq!(phase(&sale("").spec, facts(true), before), Phase::Open);
    assert_eq!(phase(&sale("").spec, facts(false), before), Phase::Scheduled);
}

#[test]
fn a_database_is_the_one_that_was_seeded_or_it_is_lost() {
    let seeded = DatabaseStatus { address: "a".to_owned(), id: "first".to_owned() };
    let judge = |previous, address, accepted, seed: &Seed, id: Option<&str>| {
        database::identify(database::Inputs {
            previous,
            address,
            accepted,
            seed,
            rolled_out: true,
            report: Some(&DatabaseReport { id: id.map(str::to_owned), version: None }),
        })
    };
    let known = |address: &str, id: &str| {
        DatabaseIdentity::Known(Some(DatabaseStatus {
            address: address.to_owned(),
            id: id.to_owned(),
        }))
    };
    let (done, running) = (Seed::Done, Seed::Running);
    assert_eq!(judge(None, "a", None, &running, Some("first")), DatabaseIdentity::Known(None));
    assert_eq!(judge(None, "a", None, &done, Some("first")), known("a", "first"));
    let now = Some(&seeded);
    assert_eq!(judge(now, "a", None, &done, Some("first")), known("a", "first"));
    for found in [None, Some("second")] {
        let lost = DatabaseIdentity::Lost {
            seeded: Some(seeded.clone()),
            found: found.map(str::to_owned),
        };
        assert_eq!(judge(now, "a", None, &done, found), lost);
        assert_eq!(judge(now, "a", None, &running, found), lost, "whatever the seed does");
        assert_eq!(judge(now, "a", Some("another"), &done, found), lost);
    }
    // Accepted, or another address: the next seed identifies the database.
    assert_eq!(judge(now, "a", Some("first"), &running, None), known("a", "first"));
    assert_eq!(judge(now, "a", Some("first"), &done, Some("second")), known("a", "second"));
    assert_eq!(judge(now, "b", None, &running, Some("second")), known("a", "first"));
    assert_eq!(judge(now, "b", None, &done, Some("second")), known("b", "second"));
    // While old replicas can respond, their database is unknown.
    let unknown = database::identify(database::Inputs {
        previous: now,
        address: "a",
        accepted: None,
        seed: &done,
        rolled_out: false,
        report: Some(&DatabaseReport { id: None, version: None }),
    });
    assert_eq!(unknown, known("a", "first"));
}
