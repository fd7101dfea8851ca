//! The lock, its quarantine and the guarded store, in every order of events.

use redlock_model::lock::{EXCLUSION, Lock, NO_LOST_UPDATE, RISING, Rule, UNIQUE};
use redlock_model::{check, counterexample};
use stateright::{Checker, Model};

const RESTARTS: Lock = Lock {
    restarts: 2,
    majority_forgets: false,
    timed: false,
    renews: false,
    tokens: 2,
    without: None,
};
const TIMED: Lock = Lock { timed: true, ..RESTARTS };
/// Without quarantine, two restarts make a majority forget.
const ONE_RESTART: Lock = Lock { restarts: 1, ..RESTARTS };
const ONE_RESTART_TIMED: Lock = Lock { timed: true, ..ONE_RESTART };
const NO_RESTART: Lock = Lock { restarts: 0, ..RESTARTS };
const NO_RESTART_TIMED: Lock = Lock { timed: true, ..NO_RESTART };

const RENEWS: Lock = Lock { renews: true, tokens: 3, ..NO_RESTART };
const RENEWS_TIMED: Lock = Lock { timed: true, ..RENEWS };

#[track_caller]
fn assert_breaks(property: &'static str, without: Rule, model: &Lock) {
    let model = Lock { without: Some(without), ..model.clone() };
    let steps = counterexample(model.checker().symmetry(), property);
    println!("{property}, without {without:?}: {steps:#?}");
    assert!(steps.is_some(), "without {without:?} it still holds that {property}");
}

#[test]
fn tokens_and_the_register_are_right_whenever_leases_end_and_minorities_forget() {
    check(RESTARTS.checker().symmetry()).assert_properties();
}

#[test]
fn only_one_holds_it_while_clocks_are_sound() {
    check(TIMED.checker().symmetry()).assert_properties();
}

#[test]
fn two_may_believe_that_they_hold_it_when_clocks_are_not_sound() {
    assert_breaks(EXCLUSION, Rule::Clocks, &NO_RESTART_TIMED);
}

#[test]
fn a_majority_that_forgets_repeats_tokens_and_the_register_stays_right() {
    let model = Lock { majority_forgets: true, ..RESTARTS };
    let checker = check(model.checker().symmetry());
    checker.assert_any_discovery(UNIQUE);
    checker.assert_any_discovery(RISING);
    checker.assert_no_discovery(NO_LOST_UPDATE);
}

#[test]
fn a_node_that_forgot_and_votes_at_once_repeats_a_token() {
    assert_breaks(UNIQUE, Rule::Quarantine, &ONE_RESTART);
    assert_breaks(RISING, Rule::Quarantine, &ONE_RESTART);
}

#[test]
fn a_node_that_learns_and_does_not_wait_repeats_a_token() {
    assert_breaks(UNIQUE, Rule::Wait, &ONE_RESTART);
    assert_breaks(EXCLUSION, Rule::Wait, &ONE_RESTART_TIMED);
}

#[test]
fn a_node_that_waits_and_learns_from_one_only_repeats_a_token() {
    assert_breaks(UNIQUE, Rule::LearnFromMajority, &ONE_RESTART);
    assert_breaks(RISING, Rule::LearnFromMajority, &ONE_RESTART);
}

#[test]
fn nodes_that_do_not_compare_tokens_repeat_them() {
    assert_breaks(UNIQUE, Rule::Counter, &NO_RESTART);
    assert_breaks(RISING, Rule::Counter, &NO_RESTART);
}

#[test]
fn a_register_that_does_not_compare_tokens_loses_an_update() {
    assert_breaks(NO_LOST_UPDATE, Rule::Fence, &NO_RESTART);
}

#[test]
fn a_token_that_is_installed_after_the_read_loses_an_update() {
    assert_breaks(NO_LOST_UPDATE, Rule::InstallFirst, &NO_RESTART);
}

#[test]
fn a_renewed_lease_keeps_all_promises() {
    check(RENEWS.checker().symmetry()).assert_properties();
    check(RENEWS_TIMED.checker().symmetry()).assert_properties();
}

#[test]
fn a_node_that_forgot_and_waited_renews_safely() {
    let model = Lock { restarts: 1, tokens: 2, ..RENEWS_TIMED };
    check(model.checker().symmetry()).assert_properties();
}

#[test]
fn a_node_that_renews_the_lock_of_another_client_gives_it_to_two() {
    assert_breaks(EXCLUSION, Rule::RenewOwn, &RENEWS_TIMED);
}

#[test]
fn a_renewal_without_a_higher_token_repeats_one() {
    assert_breaks(UNIQUE, Rule::RenewAbove, &RENEWS);
    assert_breaks(RISING, Rule::RenewAbove, &RENEWS);
}

#[test]
fn a_renewal_that_is_given_up_early_frees_a_lock_in_use() {
    assert_breaks(EXCLUSION, Rule::GiveUpLate, &RENEWS_TIMED);
}

#[test]
fn a_renewal_for_a_shorter_time_ends_a_lease_in_use() {
    assert_breaks(EXCLUSION, Rule::LastLonger, &RENEWS_TIMED);
}
