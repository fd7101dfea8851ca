//! More replicas around the start of a sale, by a clock that stands.

use std::time::Duration;

use flashsale_operator::crd::{FlashSale, FlashSaleStatus, Phase};
use flashsale_operator::flash_sale::build::build;
use flashsale_operator::flash_sale::build::credentials::Passwords;
use flashsale_operator::flash_sale::outcome::Outcome;
use flashsale_operator::flash_sale::phase::until_next_change;
use flashsale_operator::flash_sale::prewarm::replicas;
use flashsale_operator::flash_sale::seed::Seed;
use flashsale_operator::flash_sale::update_status::status;
use flashsale_operator::flash_sale::validate::validate;

use crate::kstatus::kstatus;
use crate::status::{after, applied, at, condition, outcome};
use crate::{images, references, sale};

const WARM: &str = "{app: {prewarm: {replicas: 10, before: 10m, after: 5m}}}";

#[test]
fn more_replicas_run_around_the_start_only() {
    let spec = sale(WARM).spec;
    let at_time = |time: &str| replicas(&spec, at(time));
    assert_eq!(at_time("2026-11-26T23:49:59Z"), 3);
    assert_eq!(at_time("2026-11-26T23:50:00Z"), 10);
    assert_eq!(at_time("2026-11-27T00:04:59Z"), 10);
    assert_eq!(at_time("2026-11-27T00:05:00Z"), 3);

    let larger = sale("{app: {replicas: 12, prewarm: {replicas: 10, before: 10m, after: 5m}}}");
    assert_eq!(replicas(&larger.spec, at("2026-11-27T00:00:00Z")), 12, "at least that many");
    let short =
        "{endsAt: '2026-11-27T00:01:00Z', app: {prewarm: {replicas: 10, before: 10m, after: 5m}}}";
    assert_eq!(replicas(&sale(short).spec, at("2026-11-27T00:01:00Z")), 3, "the sale has ended");
    assert_eq!(replicas(&sale("").spec, at("2026-11-27T00:00:00Z")), 3);
}

#[test]
fn the_sale_is_reconciled_when_the_number_changes() {
    let spec = sale(WARM).spec;
    let wait = |time: &str| until_next_change(&spec, at(time));
    assert_eq!(wait("2026-11-26T23:49:59Z"), Some(Duration::from_secs(1)));
    assert_eq!(wait("2026-11-26T23:50:00Z"), Some(Duration::from_mins(10)), "the start");
    assert_eq!(wait("2026-11-27T00:00:00Z"), Some(Duration::from_mins(5)));
    assert_eq!(wait("2026-11-27T00:05:00Z"), Some(Duration::from_mins(24 * 60 - 5)), "the end");
}

#[test]
fn extreme_times_are_no_panic() {
    let extreme = |start: &str| {
        let spec = format!(
            "{{startsAt: '{start}', endsAt: '9999-12-30T22:00:00Z', app: {{prewarm: {{replicas: 9, before: 24h, after: 24h}}}}}}"
        );
        let spec = sale(&spec).spec;
        (replicas(&spec, at(start)), until_next_change(&spec, at(start)).is_some())
    };
    assert_eq!(extreme("0001-01-01T00:00:00Z"), (9, true));
    assert_eq!(extreme("9999-12-30T21:59:59Z"), (9, true));
}

#[test]
fn added_replicas_are_no_outage_and_a_lost_one_is() {
    let step = |previous: FlashSaleStatus, wanted: i32, ready: i32, reason: &'static str| {
        let mut resources = applied(5, 1, ready);
        resources.app.spec.as_mut().unwrap().replicas = Some(wanted);
        if reason != "ReplicasAvailable" {
            // All pods exist, and some are starting.
            let app = resources.app.status.as_mut().unwrap();
            (app.replicas, app.updated_replicas) = (Some(wanted), Some(wanted));
        }
        let observed = Box::default();
        let outcome =
            Outcome::Applied { resources, seed: Seed::Done, observed, refusals: Vec::new() };
        let sale = FlashSale { status: Some(previous), ..sale(WARM) };
        let status = status(&sale, &outcome, at("2026-11-26T23:55:00Z"));
        assert_eq!(condition(&status, "AppAvailable").1, reason);
        status
    };
    let ready = after(None, &outcome(5, 1, 3, Seed::Done), "2026-11-26T23:49:59Z");
    assert_eq!(ready.phase, Phase::Scheduled);
    let scaling = step(ready.clone(), 10, 3, "ScalingUp");
    assert_eq!(scaling.phase, Phase::Scheduled, "no part is lost");
    assert_eq!(kstatus(3, Some(&scaling)), "InProgress");
    assert_eq!(scaling.app.as_ref().unwrap().summary, "3/10");
    let more = step(scaling, 10, 7, "ScalingUp");
    assert_eq!(more.phase, Phase::Scheduled);
    let fewer = step(more.clone(), 10, 6, "ReplicasAway");
    assert_eq!(fewer.phase, Phase::Degraded);
    let all = step(more, 10, 10, "ReplicasAvailable");
    assert_eq!(all.phase, Phase::Scheduled);
    assert_eq!(kstatus(3, Some(&all)), "Current");
    assert_eq!(step(all, 10, 9, "ReplicasAway").phase, Phase::Degraded);
    assert_eq!(step(ready, 3, 2, "ReplicasAway").phase, Phase::Degraded);
}

/// The driver puts the number of this moment into the spec that is built.
#[test]
fn the_autoscaler_s_minimum_goes_up_with_the_replicas() {
    let changes = "{app: {autoscaling: {maxReplicas: 20, targetCpuPercent: 70}, prewarm: {replicas: 10, before: 10m, after: 5m}}}";
    let built = |time: &str, running: i32| {
        let mut references = references();
        references.app_replicas = Some(running);
        let mut valid = validate(&sale(changes), references, &images()).unwrap();
        valid.spec.app.replicas = replicas(&valid.spec, at(time));
        let built = build(&valid, &Passwords::fixed()).unwrap();
        let minimum = built.autoscaler.unwrap().spec.unwrap().min_replicas;
        (minimum, built.app.spec.unwrap().replicas)
    };
    assert_eq!(built("2026-11-26T23:00:00Z", 3), (Some(3), Some(3)));
    assert_eq!(
        built("2026-11-26T23:55:00Z", 3),
        (Some(10), Some(10)),
        "the autoscaler need not act"
    );
    assert_eq!(built("2026-11-26T23:55:00Z", 14), (Some(10), Some(14)));
    assert_eq!(built("2026-11-27T00:05:00Z", 14), (Some(3), Some(14)), "its decision stays");
}
