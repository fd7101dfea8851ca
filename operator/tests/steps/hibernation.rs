//! When a sale has no pods.

use flashsale_operator::crd::{FlashSale, FlashSaleStatus, Phase};
use flashsale_operator::flash_sale::app_client::{SaleReport, Unfinished};
use flashsale_operator::flash_sale::hibernation::{is_due, is_due_by_clock, remaining, unfinished};
use flashsale_operator::flash_sale::observe::Observed;
use flashsale_operator::flash_sale::outcome::Outcome;
use flashsale_operator::flash_sale::phase::until_next_change;
use flashsale_operator::flash_sale::seed::Seed;
use flashsale_operator::flash_sale::update_status::status;
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

use crate::sale;
use crate::status::{after, applied, at, condition, outcome};

const END: &str = "2026-11-28T00:00:00Z";
const AN_HOUR_LATER: &str = "2026-11-28T01:00:00Z";
const TWO_HOURS_LATER: &str = "2026-11-28T02:00:00Z";

#[test]
fn a_sale_hibernates_after_its_end_or_when_a_person_says_so() {
    let due = |changes: &str, phase, now| is_due(&sale(changes).spec, phase, at(now));
    let ended = Some(Phase::Ended);
    assert!(!due("", ended, AN_HOUR_LATER), "not by default");
    assert!(!due("hibernation: {mode: Never}", ended, AN_HOUR_LATER));
    assert!(due("hibernation: {mode: Now}", Some(Phase::Open), END));

    let after_end = "hibernation: {mode: AfterEnd}";
    assert!(!due(after_end, ended, END));
    assert!(due(after_end, ended, AN_HOUR_LATER));
    assert!(due(after_end, Some(Phase::Hibernated), AN_HOUR_LATER));
    for phase in [Phase::Open, Phase::SoldOut, Phase::Degraded, Phase::Provisioning] {
        assert!(!due(after_end, Some(phase), AN_HOUR_LATER), "{phase}: a replica may sell");
    }
    assert!(!due(after_end, None, AN_HOUR_LATER));
    let soon = "hibernation: {mode: AfterEnd, delay: 1m30s}";
    assert!(!due(soon, ended, "2026-11-28T00:01:29Z"));
    assert!(due(soon, ended, "2026-11-28T00:01:30Z"));
    let later = "{endsAt: '2026-12-01T00:00:00Z', hibernation: {mode: AfterEnd}}";
    assert!(!due(later, Some(Phase::Hibernated), AN_HOUR_LATER), "the sale goes on");

    let next = |changes: &str| until_next_change(&sale(changes).spec, at(END));
    assert_eq!(next(""), None);
    assert_eq!(next(after_end).unwrap().as_secs(), 3600);
}

#[test]
fn only_pods_that_would_end_by_the_clock_are_asked_what_is_unfinished() {
    let asks = |changes: &str, phase, now| is_due_by_clock(&sale(changes).spec, phase, at(now));
    let (after_end, ended) = ("hibernation: {mode: AfterEnd}", Some(Phase::Ended));
    assert!(asks(after_end, ended, AN_HOUR_LATER));
    assert!(!asks(after_end, ended, END));
    assert!(!asks(after_end, Some(Phase::Hibernated), AN_HOUR_LATER), "there are no pods");
    assert!(!asks(after_end, Some(Phase::Open), AN_HOUR_LATER));
    assert!(!asks("hibernation: {mode: Now}", ended, AN_HOUR_LATER), "a person says so");
    assert!(!asks("", ended, AN_HOUR_LATER));
}

#[test]
fn a_sale_that_is_over_waits_for_its_holds_and_an_hour_for_its_events() {
    let spec = sale("hibernation: {mode: AfterEnd}").spec;
    let waits = |holds, waitlists, events, now| {
        let counts = Some(Unfinished { holds, waitlists, events });
        let report = SaleReport { unfinished: counts, ..SaleReport::default() };
        unfinished(&spec, Some(&report), at(now))
    };
    assert_eq!(waits(0, 0, 0, AN_HOUR_LATER), None);
    let all =
        "hibernation waits for holds: 3, waitlists: 1, events: 12 (until 2026-11-28T02:00:00Z)";
    assert_eq!(waits(3, 1, 12, AN_HOUR_LATER).as_deref(), Some(all));
    let events = "hibernation waits for events: 12 (until 2026-11-28T02:00:00Z)";
    assert_eq!(waits(0, 0, 12, "2026-11-28T01:59:59Z").as_deref(), Some(events));
    assert_eq!(waits(0, 0, 12, TWO_HOURS_LATER), None, "the receiver may be away for days");
    // Holds end by themselves, and so do those of who is served from a waiting list.
    let held = "hibernation waits for holds: 3";
    assert_eq!(waits(3, 0, 12, "2026-12-24T00:00:00Z").as_deref(), Some(held));
    let served = "hibernation waits for waitlists: 1";
    assert_eq!(waits(0, 1, 0, TWO_HOURS_LATER).as_deref(), Some(served));
}

#[test]
fn a_sale_without_an_answer_waits_for_an_hour_and_one_of_an_earlier_version_does_not() {
    let spec = sale("hibernation: {mode: AfterEnd}").spec;
    let earlier = SaleReport::from_response(200, br#"{"products": []}"#).unwrap();
    assert_eq!(unfinished(&spec, Some(&earlier), at(AN_HOUR_LATER)), None);
    let problem = br#"{"code": "database_unavailable", "status": 503}"#;
    let unavailable = SaleReport::from_response(503, problem).unwrap();
    for report in [None, Some(&unavailable)] {
        let waits = |now| unfinished(&spec, report, at(now));
        let message = waits(AN_HOUR_LATER).unwrap();
        assert!(message.contains("until 2026-11-28T02:00:00Z for a replica"), "{message}");
        assert_eq!(waits(TWO_HOURS_LATER), None, "{report:?}");
    }
}

#[test]
fn the_status_has_what_the_pods_still_run_for() {
    let message = "hibernation waits for holds: 3";
    let observed = Observed { unfinished: Some(message.to_owned()), ..Observed::default() };
    let delayed = Outcome::Applied {
        resources: applied(5, 1, 3),
        seed: Seed::Done,
        observed: Box::new(observed),
        refusals: Vec::new(),
    };
    let delayed = after(None, &delayed, AN_HOUR_LATER);
    let (holds, reason, said) = condition(&delayed, "HibernationDelayed");
    assert_eq!((holds.as_str(), reason.as_str(), said.as_str()), ("True", "Unfinished", message));
    assert_eq!(condition(&delayed, "Ready").0, "True", "all is as declared until then");
    let done = after(Some(delayed), &outcome(5, 1, 3, Seed::Done), AN_HOUR_LATER);
    assert!(done.conditions.iter().all(|it| it.type_ != "HibernationDelayed"), "{done:#?}");
}

#[test]
fn a_hibernating_sale_tells_how_it_is_reached() {
    let asleep = |changes: &str, previous: Option<FlashSaleStatus>| {
        let mut resources = applied(0, 0, 0);
        resources.redis.spec.as_mut().unwrap().replicas = Some(0);
        let (observed, refusals) = (Box::default(), Vec::new());
        let outcome = Outcome::Applied { resources, seed: Seed::Done, observed, refusals };
        status(&FlashSale { status: previous, ..sale(changes) }, &outcome, at(END))
    };
    let declared = asleep("app: {ingress: {hosts: [sale.example]}}", None);
    assert_eq!(declared.phase, Phase::Hibernated);
    assert_eq!(condition(&declared, "Exposed").1, "IngressPending");
    let removed = asleep("", Some(declared));
    assert!(removed.conditions.iter().all(|it| it.type_ != "Exposed"), "{removed:#?}");
}

#[test]
fn a_pod_of_a_backup_keeps_no_sale_from_hibernation() {
    let mut resources = applied(0, 0, 0);
    resources.redis.spec.as_mut().unwrap().replicas = Some(0);
    let pending = |component: &str| -> Vec<Pod> {
        let labels = json!({ "app.kubernetes.io/component": component });
        let pod = json!({ "metadata": { "labels": labels }, "status": { "phase": "Pending" } });
        vec![serde_json::from_value(pod).unwrap()]
    };
    assert_eq!(remaining(&resources, &pending("backup")), None);
    assert!(remaining(&resources, &pending("app")).is_some());
}
