//! Where a sale stands, by what was seen and by the clock.

use std::time::Duration;

use flashsale_operator::crd::{Phase, Totals};
use flashsale_operator::flash_sale::phase::{Inputs, Progress, phase, until_next_change};
use jiff::Timestamp;

use crate::sale;

fn at(time: &str) -> Timestamp {
    time.parse().unwrap()
}

const BEFORE: &str = "2026-11-26T23:59:59Z";
const DURING: &str = "2026-11-27T12:00:00Z";
const AFTER: &str = "2026-11-28T00:00:00Z";

fn phase_of(previous: Option<Phase>, progress: Progress, remaining: i64, now: &str) -> Phase {
    phase_with("", previous, progress, remaining, now)
}

fn phase_with(
    changes: &str,
    previous: Option<Phase>,
    progress: Progress,
    remaining: i64,
    now: &str,
) -> Phase {
    let totals = Some(Totals { stock: 100, sold: 100 - remaining, remaining });
    phase(&sale(changes).spec, Inputs { previous, progress, totals, selling: false }, at(now))
}

#[test]
fn a_sale_that_is_ready_goes_by_the_clock_and_the_stock() {
    let previous = Some(Phase::Provisioning);
    assert_eq!(phase_of(previous, Progress::Ready, 100, BEFORE), Phase::Scheduled);
    assert_eq!(phase_of(previous, Progress::Ready, 100, DURING), Phase::Open);
    assert_eq!(phase_of(previous, Progress::Ready, 0, DURING), Phase::SoldOut);
    assert_eq!(phase_of(previous, Progress::Ready, 100, AFTER), Phase::Ended);
}

#[test]
fn a_new_sale_is_pending_provisioning_or_failed() {
    for previous in [None, Some(Phase::Pending), Some(Phase::Provisioning), Some(Phase::Failed)] {
        assert_eq!(phase_of(previous, Progress::Waiting, 100, DURING), Phase::Pending);
        assert_eq!(
            phase_of(previous, Progress::PartsUnavailable, 100, DURING),
            Phase::Provisioning
        );
        assert_eq!(phase_of(previous, Progress::Seeding, 100, DURING), Phase::Provisioning);
        assert_eq!(phase_of(previous, Progress::Blocked, 100, DURING), Phase::Failed);
    }
}

#[test]
fn a_sale_that_was_ready_degrades_but_raising_stock_is_no_outage() {
    for previous in [Phase::Scheduled, Phase::Open, Phase::SoldOut, Phase::Degraded] {
        let previous = Some(previous);
        assert_eq!(phase_of(previous, Progress::Waiting, 100, DURING), Phase::Degraded);
        assert_eq!(phase_of(previous, Progress::PartsUnavailable, 100, DURING), Phase::Degraded);
        assert_eq!(phase_of(previous, Progress::Blocked, 100, DURING), Phase::Degraded);
        assert_eq!(phase_of(previous, Progress::Seeding, 100, DURING), Phase::Open);
        assert_eq!(phase_of(previous, Progress::PartsUnavailable, 100, AFTER), Phase::Ended);
    }
}

#[test]
fn a_hibernating_sale_that_waits_has_no_pods_still() {
    let after_end = "hibernation: {mode: AfterEnd, delay: 0s}";
    let never = "hibernation: {mode: Never}";
    let phase =
        |changes, progress| phase_with(changes, Some(Phase::Hibernated), progress, 100, AFTER);
    assert_eq!(phase_of(Some(Phase::Hibernated), Progress::Waiting, 100, AFTER), Phase::Hibernated);
    for progress in [Progress::Waiting, Progress::Blocked, Progress::Hibernated] {
        assert_eq!(phase(after_end, progress), Phase::Hibernated, "{progress:?}");
    }
    // It wakes as soon as it no longer waits.
    assert_eq!(phase(never, Progress::Waiting), Phase::Hibernated);
    assert_eq!(phase(never, Progress::PartsUnavailable), Phase::Provisioning);
    assert_eq!(phase(never, Progress::Blocked), Phase::Failed);
    assert_eq!(phase(never, Progress::Ready), Phase::Ended);
}

#[test]
fn the_clock_says_when_to_look_again() {
    let spec = sale("").spec;
    assert_eq!(until_next_change(&spec, at(BEFORE)), Some(Duration::from_secs(1)));
    assert_eq!(until_next_change(&spec, at(DURING)), Some(Duration::from_hours(12)));
    assert_eq!(until_next_change(&spec, at(AFTER)), None);
}
