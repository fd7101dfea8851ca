//! When a sale has no pods.

use flashsale_operator::crd::{FlashSale, FlashSaleStatus, Phase};
use flashsale_operator::flash_sale::hibernation::is_due;
use flashsale_operator::flash_sale::outcome::Outcome;
use flashsale_operator::flash_sale::phase::until_next_change;
use flashsale_operator::flash_sale::seed::Seed;
use flashsale_operator::flash_sale::update_status::status;

use crate::sale;
use crate::status::{applied, at, condition};

const END: &str = "2026-11-28T00:00:00Z";
const AN_HOUR_LATER: &str = "2026-11-28T01:00:00Z";

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
