//! When a sale has no pods.

use flashsale_operator::crd::Phase;
use flashsale_operator::flash_sale::hibernation::is_due;
use flashsale_operator::flash_sale::phase::until_next_change;
use jiff::Timestamp;

use crate::sale;

fn at(time: &str) -> Timestamp {
    time.parse().unwrap()
}

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
