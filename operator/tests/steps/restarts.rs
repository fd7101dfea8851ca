//! Parts that a roll-out restarts, and when that is an outage.

use flashsale_operator::crd::{FlashSale, Phase};
use flashsale_operator::flash_sale::build::{Applied, KubernetesResources};
use flashsale_operator::flash_sale::observe::Observed;
use flashsale_operator::flash_sale::outcome::Outcome;
use flashsale_operator::flash_sale::seed::Seed;
use flashsale_operator::flash_sale::update_status::status;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use crate::status::{NOON, after, applied, at, condition, outcome, rolls_out};
use crate::{merge, sale};

type Change = fn(&mut KubernetesResources<Applied>);

/// All parts are ready but the one that this changes.
fn during(change: Change, pods: Vec<Pod>) -> Outcome {
    let mut resources = applied(5, 1, 3);
    change(&mut resources);
    Outcome::Applied {
        resources,
        seed: Seed::Done,
        observed: Box::new(Observed { pods, ..Observed::default() }),
        refusals: Vec::new(),
    }
}

fn database_away(resources: &mut KubernetesResources<Applied>) {
    rolls_out(resources.database.as_mut().unwrap(), 0);
}

/// The pod of a server that has just started: the kubelet tells that before it asks whether the server is ready.
fn started(component: &str) -> Pod {
    serde_json::from_value(json!({
        "metadata": { "name": "it", "labels": { "app.kubernetes.io/component": component } },
        "status": { "phase": "Running", "containerStatuses": [{
            "name": "c", "image": "it:1", "imageID": "", "ready": false, "started": true,
            "restartCount": 0, "state": { "running": { "startedAt": NOON } },
        }] },
    }))
    .unwrap()
}

#[test]
fn a_server_that_has_just_started_is_no_outage() {
    let ready = after(None, &outcome(5, 1, 3, Seed::Done), NOON);
    let restarting: [(&str, &str, Change); 2] = [
        ("RedisReady", "redis", |it| rolls_out(&mut it.redis, 4)),
        ("DatabaseReady", "database", database_away),
    ];
    for (part, component, change) in restarting {
        let restarts = during(change, vec![started(component)]);
        let status = after(Some(ready.clone()), &restarts, "2026-11-27T12:00:05Z");
        assert_eq!(condition(&status, part).1, "Unresponsive");
        assert_eq!(status.phase, Phase::Open, "{component}");
    }
    // Without a roll-out, the server is frozen.
    let frozen = during(
        |it| it.redis.status.as_mut().unwrap().ready_replicas = Some(4),
        vec![started("redis")],
    );
    let status = after(Some(ready), &frozen, "2026-11-27T12:00:05Z");
    assert_eq!(status.phase, Phase::Degraded);
}

#[test]
fn a_change_of_the_sale_ends_no_outage_of_its_database() {
    let away = during(database_away, Vec::new());
    let ready = after(None, &outcome(5, 1, 3, Seed::Done), NOON);
    let restarts = after(Some(ready), &away, "2026-11-27T12:01:00Z");
    assert_eq!(restarts.phase, Phase::Open);
    let lost = after(Some(restarts), &away, "2026-11-27T12:07:00Z");
    assert_eq!(lost.phase, Phase::Degraded);
    let mut changed = FlashSale { status: Some(lost), ..sale("") };
    changed.metadata.generation = Some(4);
    let lost = status(&changed, &away, at("2026-11-27T12:07:05Z"));
    assert_eq!(lost.observed_generation, 4);
    assert_eq!(lost.phase, Phase::Degraded);
    assert_eq!(condition(&lost, "DatabaseReady").1, "DatabaseAway");
}

/// A roll-out that was changed back: the controller takes up the revision of before again.
fn changed_back(set: &mut StatefulSet, ready: i32) {
    rolls_out(set, ready);
    let status = set.status.as_mut().unwrap();
    status.update_revision.clone_from(&status.current_revision);
}

#[test]
fn a_template_that_is_changed_back_during_its_roll_out_is_no_outage() {
    let ready = after(None, &outcome(5, 1, 3, Seed::Done), NOON);
    let parts: [(&str, &str, Change, Change); 2] = [
        (
            "RedisReady",
            "redis",
            |it| rolls_out(&mut it.redis, 4),
            |it| changed_back(&mut it.redis, 4),
        ),
        ("DatabaseReady", "database", database_away, |it| {
            changed_back(it.database.as_mut().unwrap(), 0);
        }),
    ];
    for (part, component, change, back) in parts {
        let rolling = after(Some(ready.clone()), &during(change, Vec::new()), NOON);
        assert_eq!(
            (rolling.phase, condition(&rolling, part).1.as_str()),
            (Phase::Open, "RollingOut")
        );

        // The change back is a change of the sale.
        let mut changed = FlashSale { status: Some(rolling), ..sale("") };
        changed.metadata.generation = Some(4);
        let steps = [(Vec::new(), "RollingOut"), (vec![started(component)], "Unresponsive")];
        for (pods, reason) in steps.into_iter().chain([(Vec::new(), "RollingOut")]) {
            let status = status(&changed, &during(back, pods), at("2026-11-27T12:00:10Z"));
            assert_eq!((status.phase, condition(&status, part).1.as_str()), (Phase::Open, reason));
            changed.status = Some(status);
        }
        // It is over when all pods are ready: one that is lost later is an outage.
        let done = status(&changed, &outcome(5, 1, 3, Seed::Done), at("2026-11-27T12:01:00Z"));
        assert_eq!(condition(&done, part).0, "True");
        changed.status = Some(done);
        let lost = status(&changed, &during(back, Vec::new()), at("2026-11-27T12:02:00Z"));
        assert_eq!(lost.phase, Phase::Degraded, "{component}");
        // An outage stays one.
        changed.status = Some(lost);
        let still =
            status(&changed, &during(back, vec![started(component)]), at("2026-11-27T12:03:00Z"));
        assert_eq!(still.phase, Phase::Degraded, "{component}");
    }
}

#[test]
fn a_server_that_hangs_after_the_end_of_the_sale_does_not_restart() {
    let all_ready = outcome(5, 1, 3, Seed::Done);
    let ended = after(Some(after(None, &all_ready, NOON)), &all_ready, "2026-11-28T00:00:00Z");
    assert_eq!(ended.phase, Phase::Ended);
    let frozen: [(&str, &str, Change); 2] = [
        ("RedisReady", "redis", |it| it.redis.status.as_mut().unwrap().ready_replicas = Some(4)),
        ("DatabaseReady", "database", |it| {
            it.database.as_mut().unwrap().status.as_mut().unwrap().ready_replicas = Some(0);
        }),
    ];
    for (part, component, change) in frozen {
        let hangs = during(change, vec![started(component)]);
        let mut seen = ended.clone();
        // The second observation finds the reason of the first.
        for now in ["2026-11-28T00:01:00Z", "2026-11-28T00:01:10Z"] {
            seen = after(Some(seen), &hangs, now);
            let (_, reason, message) = condition(&seen, part);
            assert_eq!((seen.phase, reason.as_str()), (Phase::Ended, "Unresponsive"));
            assert!(!message.contains("restarts"), "{now}: {message}");
        }
    }
    // A roll-out that is changed back goes on.
    let rolling = after(Some(ended), &during(database_away, Vec::new()), "2026-11-28T00:01:00Z");
    let back: Change = |it| changed_back(it.database.as_mut().unwrap(), 0);
    let rolling = after(Some(rolling), &during(back, Vec::new()), "2026-11-28T00:01:10Z");
    assert_eq!(
        (rolling.phase, condition(&rolling, "DatabaseReady").1.as_str()),
        (Phase::Ended, "RollingOut")
    );
}

/// A Redis pod that is not ready since 12:00:10, and whose container started at `start`.
fn unready(revision: &str, start: &str, changes: &Value) -> Pod {
    let mut pod = json!({
        "metadata": { "name": "it", "labels": {
            "app.kubernetes.io/component": "redis", "controller-revision-hash": revision,
        } },
        "status": {
            "phase": "Running",
            "conditions": [{
                "type": "Ready", "status": "False", "lastTransitionTime": "2026-11-27T12:00:10Z",
            }],
            "containerStatuses": [{
                "name": "c", "image": "it:1", "imageID": "", "ready": false, "restartCount": 0,
                "state": { "running": { "startedAt": start } },
            }],
        },
    });
    merge(&mut pod, changes.clone());
    serde_json::from_value(pod).unwrap()
}

#[test]
fn a_node_that_is_lost_during_a_roll_out_is_an_outage() {
    let ready = after(None, &outcome(5, 1, 3, Seed::Done), NOON);
    let one: Change = |it| rolls_out(&mut it.redis, 4);
    let (before, after_it) = ("2026-11-27T12:00:00Z", "2026-11-27T12:00:12Z");
    let unchanged = json!({});
    let ends = json!({ "metadata": { "deletionTimestamp": "2026-11-27T12:00:25Z" } });
    let restarted = json!({ "status": { "containerStatuses": [{
        "name": "c", "image": "it:1", "imageID": "", "ready": false, "restartCount": 1,
        "state": { "running": { "startedAt": after_it } },
        "lastState": { "terminated": { "exitCode": 0, "startedAt": before } },
    }] } });
    let (lost, goes_on) = ((Phase::Degraded, "NodesAway"), (Phase::Open, "RollingOut"));
    let cases = [
        (
            "the next one, which the roll-out takes down",
            "first",
            before,
            &ends,
            "12:00:30",
            goes_on,
        ),
        ("it does not end", "first", before, &ends, "12:01:11", lost),
        ("the new one starts", "second", after_it, &unchanged, "12:00:30", goes_on),
        ("the new one was ready", "second", before, &unchanged, "12:00:30", lost),
        ("it was ready before its restart", "second", before, &restarted, "12:00:30", lost),
        ("the roll-out has not come to it", "first", before, &unchanged, "12:00:30", lost),
        ("a lost one is created again as it was", "first", after_it, &unchanged, "12:00:30", lost),
        ("of a change that was changed again", "other", after_it, &unchanged, "12:00:30", goes_on),
    ];
    for (case, revision, start, changes, now, expected) in cases {
        let now = format!("2026-11-27T{now}Z");
        let seen = during(one, vec![unready(revision, start, changes)]);
        let status = after(Some(ready.clone()), &seen, &now);
        let (_, reason, _) = condition(&status, "RedisReady");
        assert_eq!((status.phase, reason.as_str()), expected, "{case}");
    }
    // The controller has not seen the change back, so its former revision is not the one that goes.
    let back = during(
        |it| {
            rolls_out(&mut it.redis, 4);
            it.redis.metadata.generation = Some(1);
        },
        vec![unready("first", after_it, &unchanged)],
    );
    assert_eq!(after(Some(ready), &back, "2026-11-27T12:00:30Z").phase, Phase::Open);
}
