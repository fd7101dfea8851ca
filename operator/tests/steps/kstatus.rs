//! What Flux, Argo CD and `helm --wait` make of the status.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use flashsale_operator::crd::{FlashSale, FlashSaleStatus};
use flashsale_operator::flash_sale::not_ready::NotReady;
use flashsale_operator::flash_sale::observe::Observed;
use flashsale_operator::flash_sale::outcome::Outcome;
use flashsale_operator::flash_sale::seed::Seed;
use flashsale_operator::flash_sale::update_status::status;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde_json::{Value, json};

use crate::sale;
use crate::status::{NOON, after, applied, at, condition, outcome};

/// What kstatus, the library of Flux and Helm, computes; `operator/tests/kstatus` calls it.
pub fn kstatus(generation: i64, status: Option<&FlashSaleStatus>) -> String {
    for conditions in status.iter().map(|status| &status.conditions) {
        let types = ["Ready", "Reconciling", "Stalled"];
        let is_true = |condition: &&Condition| {
            types.contains(&condition.type_.as_str()) && condition.status == "True"
        };
        let together = conditions.iter().filter(is_true).count();
        assert!(together <= 1, "they exclude each other: {conditions:#?}");
    }
    let mut sale = FlashSale { status: status.cloned(), ..sale("") };
    sale.metadata.generation = Some(generation);
    let mut program = Command::new("flashsale-kstatus")
        .env("PATH", format!("{}:/var/tmp/flashsale-cluster/bin", std::env::var("PATH").unwrap()))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("`cargo xtask test unit` builds flashsale-kstatus");
    program.stdin.take().unwrap().write_all(&serde_json::to_vec(&sale).unwrap()).unwrap();
    let output = program.wait_with_output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    let (verdict, _message) = text.split_once('\t').unwrap();
    verdict.to_owned()
}

/// The generation of the fixture.
fn verdict(status: &FlashSaleStatus) -> String {
    kstatus(3, Some(status))
}

/// The status after `elapsed` since noon.
fn later(previous: &FlashSaleStatus, outcome: &Outcome, elapsed: Duration) -> FlashSaleStatus {
    let now = at(NOON) + SignedDuration::try_from(elapsed).unwrap();
    let sale = FlashSale { status: Some(previous.clone()), ..sale("") };
    status(&sale, outcome, now)
}

fn waiting(reason: &'static str) -> Outcome {
    let message = format!("the message of {reason}");
    Outcome::Waiting(NotReady { reason, message, requeue_after: None })
}

/// A pod of a part, with a container that waits for `reason`.
fn pod(component: &str, waiting: &Value) -> Pod {
    serde_json::from_value(json!({
        "metadata": {
            "name": format!("black-friday-{component}-0"),
            "labels": { "app.kubernetes.io/component": component },
        },
        "status": { "phase": "Pending", "containerStatuses": [{
            "name": "c", "image": "app:typo", "imageID": "", "ready": false, "restartCount": 0,
            "state": { "waiting": waiting },
        }] },
    }))
    .unwrap()
}

fn seen(numbers: [i32; 3], seed: Seed, pods: Vec<Pod>) -> Outcome {
    let [redis, database, app] = numbers;
    Outcome::Applied {
        resources: applied(redis, database, app),
        seed,
        observed: Box::new(Observed { pods, ..Observed::default() }),
        refusals: Vec::new(),
    }
}

#[test]
fn a_sale_is_in_progress_until_it_is_ready() {
    assert_eq!(kstatus(1, None), "Current", "hence the default of the definition");
    let unseen = FlashSaleStatus { observed_generation: -1, ..FlashSaleStatus::default() };
    assert_eq!(kstatus(1, Some(&unseen)), "InProgress");
    let starting = after(None, &outcome(0, 0, 0, Seed::Running), NOON);
    assert_eq!(verdict(&starting), "InProgress");
    assert_eq!(kstatus(4, Some(&starting)), "InProgress", "the operator has not seen the change");
    let (_, reason, message) = condition(&starting, "Reconciling");
    assert_eq!(reason, "NodesAway");
    assert_eq!(message, condition(&starting, "Ready").2);
    let ready = later(&starting, &outcome(5, 1, 3, Seed::Done), Duration::from_secs(9));
    assert_eq!(verdict(&ready), "Current");
    let types: Vec<&str> = ready.conditions.iter().map(|it| it.type_.as_str()).collect();
    let parts = ["RedisReady", "DatabaseReady", "StockSeeded", "AppAvailable", "Ready"];
    assert_eq!((types.as_slice(), ready.waiting_for.as_ref()), (&parts[..], None));

    let degraded = later(&ready, &outcome(4, 1, 3, Seed::Done), Duration::from_mins(1));
    assert_eq!(verdict(&degraded), "InProgress", "the node may come back");
    assert_eq!(condition(&degraded, "Degraded").1, "NodesAway");
    let away = later(&degraded, &outcome(4, 1, 3, Seed::Done), Duration::from_mins(16));
    assert_eq!(verdict(&away), "Failed", "it did not");
    let back = later(&away, &outcome(5, 1, 3, Seed::Done), Duration::from_mins(17));
    assert_eq!(verdict(&back), "Current");
}

#[test]
fn what_is_decided_fails_at_once() {
    let failures = [
        waiting("SecretInvalid"),
        waiting("NameTaken"),
        waiting("NoImage"),
        Outcome::Refused(vec!["exceeded quota: services=1".to_owned()]),
    ];
    for failure in failures {
        let status = after(None, &failure, NOON);
        assert_eq!(verdict(&status), "Failed", "{failure:?}");
        assert_eq!(condition(&status, "Stalled").2, condition(&status, "Ready").2);
        // The same again changes nothing, and a correction is a new start.
        assert_eq!(later(&status, &failure, Duration::ZERO), status);
        let corrected = later(&status, &outcome(5, 1, 0, Seed::Done), Duration::from_mins(20));
        assert_eq!(verdict(&corrected), "InProgress", "{corrected:#?}");
    }
    // One of several parts is refused, and the others sell.
    let mut partly = outcome(5, 1, 3, Seed::Done);
    if let Outcome::Applied { refusals, .. } = &mut partly {
        refusals.push("StatefulSet black-friday-redis was refused: forbidden".to_owned());
    }
    let status = after(None, &partly, NOON);
    assert_eq!(
        (verdict(&status).as_str(), condition(&status, "Stalled").1.as_str()),
        ("Failed", "ChangeRefused")
    );
}

#[test]
fn what_may_still_succeed_fails_after_a_grace() {
    let image = json!({ "reason": "ErrImagePull", "message": "not found" });
    let key = json!({ "reason": "CreateContainerConfigError", "message": "couldn't find key uri" });
    let cases = [
        (
            seen([5, 1, 0], Seed::Running, vec![pod("app", &image)]),
            2,
            "image app:typo can't be pulled",
        ),
        (seen([0, 1, 0], Seed::Running, vec![pod("redis", &key)]), 2, "couldn't find key uri"),
        (seen([0, 0, 0], Seed::Running, vec![pod("seed", &image)]), 15, "0 of 5 nodes ready"),
        (waiting("SecretMissing"), 2, "the message of SecretMissing"),
        (waiting("EarlierSaleLeaving"), 15, "the message of EarlierSaleLeaving"),
    ];
    for (outcome, minutes, message) in cases {
        let status = after(None, &outcome, NOON);
        let grace = Duration::from_mins(minutes);
        let before = later(&status, &outcome, Duration::from_secs(60 * minutes - 1));
        assert_eq!(verdict(&before), "InProgress", "{before:#?}");
        let failed = later(&before, &outcome, grace);
        assert_eq!(verdict(&failed), "Failed", "{failed:#?}");
        let (_, _, said) = condition(&failed, "Stalled");
        assert!(said.contains(message), "{said}");
    }
}

/// The reasons of `docs/OPERATIONS.md`, with the minutes until each is `Stalled`.
fn documented() -> Vec<(&'static str, u64)> {
    let page: &'static str = include_str!("../../../docs/OPERATIONS.md");
    let (_, table) = page.split_once("| reason | `Stalled` after |\n").unwrap();
    let rows = table.lines().skip(1).map_while(|line| line.strip_prefix('|'));
    let row = |row: &'static str| {
        let (reasons, time) = row.split_once('|').unwrap();
        let minutes: u64 = time.split_whitespace().next().unwrap().parse().unwrap_or(0);
        // Names of files and fields have other characters.
        let reasons = reasons.split('`').skip(1).step_by(2);
        let reasons = reasons.filter(|it| it.chars().all(char::is_alphanumeric));
        reasons.map(move |reason| (reason, minutes)).collect::<Vec<_>>()
    };
    rows.flat_map(row).collect()
}

#[test]
fn the_documentation_has_each_reason_with_its_grace() {
    let documented = documented();
    for &(reason, minutes) in &documented {
        let outcome = waiting(reason);
        let status = after(None, &outcome, NOON);
        if minutes > 0 {
            let before = later(&status, &outcome, Duration::from_secs(60 * minutes - 1));
            assert!(!before.is_true("Stalled"), "{reason}: {before:#?}");
        }
        let stalled = later(&status, &outcome, Duration::from_mins(minutes));
        assert!(stalled.is_true("Stalled"), "{reason}: {stalled:#?}");
    }
    let rules = include_str!("../../src/flash_sale/kstatus.rs");
    let (_, rules) = rules.split_once("\nfn grace(").unwrap();
    let (rules, _) = rules.split_once("\n}\n").unwrap();
    let reasons: Vec<&str> = rules.split('"').skip(1).step_by(2).collect();
    assert!(reasons.contains(&"ChangeRefused"), "{reasons:?}");
    for reason in reasons {
        assert!(documented.iter().any(|(name, _)| *name == reason), "{reason} is not documented");
    }
}

#[test]
fn a_new_generation_and_another_cause_have_a_grace_of_their_own() {
    let image = json!({ "reason": "ErrImagePull", "message": "not found" });
    let wrong = seen([5, 1, 0], Seed::Running, vec![pod("app", &image)]);
    let status = after(None, &wrong, NOON);
    let failed = later(&status, &wrong, Duration::from_mins(3));
    assert_eq!(verdict(&failed), "Failed");

    // The image was corrected, and the pods of before are still there.
    let mut corrected = FlashSale { status: Some(failed.clone()), ..sale("") };
    corrected.metadata.generation = Some(4);
    let now: Timestamp = "2026-11-27T12:03:05Z".parse().unwrap();
    let again = status_at(&corrected, &wrong, now);
    assert_eq!(kstatus(4, Some(&again)), "InProgress", "{again:#?}");
    corrected.status = Some(again);
    let again = status_at(&corrected, &wrong, now + SignedDuration::from_mins(2));
    assert_eq!(kstatus(4, Some(&again)), "Failed");

    let crash = json!({ "reason": "CreateContainerError", "message": "no such file" });
    let other = seen([5, 1, 0], Seed::Running, vec![pod("app", &crash)]);
    assert_eq!(verdict(&later(&failed, &other, Duration::from_mins(4))), "InProgress");
}

fn status_at(sale: &FlashSale, outcome: &Outcome, now: Timestamp) -> FlashSaleStatus {
    status(sale, outcome, now)
}

#[test]
fn a_seed_that_crashes_and_then_fails_is_one_failure_and_a_correction_has_time_for_another() {
    let mut seed_pod = pod("seed", &json!({}));
    let state =
        json!({ "terminated": { "exitCode": 1, "message": "flashsale-app: no such user" } });
    let container = &mut seed_pod.status.as_mut().unwrap().container_statuses.as_mut().unwrap()[0];
    container.state = serde_json::from_value(state).unwrap();
    let crashing = seen([5, 1, 0], Seed::Running, vec![seed_pod.clone()]);
    let status = after(None, &crashing, NOON);
    assert_eq!(verdict(&status), "InProgress");
    let status = later(&status, &crashing, Duration::from_mins(2));
    assert_eq!(verdict(&status), "Failed");
    assert!(condition(&status, "Stalled").2.contains("no such user"));
    let failure = Seed::Failed { message: "backoff limit".to_owned(), retry_after: Duration::ZERO };
    let failed = seen([5, 1, 0], failure, vec![seed_pod]);
    let status = later(&status, &failed, Duration::from_mins(5));
    assert_eq!(verdict(&status), "Failed", "all the while");
    assert_eq!(condition(&status, "Stalled").1, "SeedFailed");
    let retried = later(&status, &outcome(5, 1, 0, Seed::Running), Duration::from_mins(6));
    assert_eq!(verdict(&retried), "Failed", "until it succeeds");

    let mut corrected = FlashSale { status: Some(status), ..sale("") };
    corrected.metadata.generation = Some(4);
    let now: Timestamp = "2026-11-27T12:07:00Z".parse().unwrap();
    let again = status_at(&corrected, &failed, now);
    assert_eq!(kstatus(4, Some(&again)), "InProgress", "the operator runs it again");
}

#[test]
fn a_stuck_rollout_of_the_previous_template_is_no_failure_of_the_next() {
    let stuck = |observed: i64| {
        let mut resources = applied(5, 1, 3);
        resources.app.metadata.generation = Some(2);
        let app = resources.app.status.as_mut().unwrap();
        app.observed_generation = Some(observed);
        app.updated_replicas = Some(1);
        app.conditions = serde_json::from_value(json!([{
            "type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded",
        }]))
        .unwrap();
        let observed = Box::default();
        let outcome =
            Outcome::Applied { resources, seed: Seed::Done, observed, refusals: Vec::new() };
        verdict(&after(None, &outcome, NOON))
    };
    assert_eq!(stuck(2), "Failed");
    assert_eq!(stuck(1), "InProgress");
}
