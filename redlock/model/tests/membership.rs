//! Changes of the membership, in every order of events.

use redlock_model::membership::{Change, Rule, Set, UNIQUE};
use redlock_model::{check, counterexample};
use stateright::{Checker, Model};

const A: Set = 1;
const B: Set = 1 << 1;
const C: Set = 1 << 2;
const D: Set = 1 << 3;
const E: Set = 1 << 4;

fn change(present: Set, targets: &[Set], restarts: u8) -> Change {
    Change { present, targets: targets.to_vec(), restarts, without: None }
}

fn replace_c(restarts: u8) -> Change {
    change(A | B | C, &[A | B | D], restarts)
}

fn to_two_others_at_once() -> Change {
    change(A | B | C, &[D, E], 0)
}

#[track_caller]
fn assert_breaks(without: Rule, model: Change) {
    let steps = counterexample(Change { without: Some(without), ..model }.checker(), UNIQUE);
    println!("without {without:?}: {steps:#?}");
    assert!(steps.is_some(), "without {without:?} it still holds that {UNIQUE}");
}

#[test]
fn a_node_is_replaced_while_one_forgets() {
    check(replace_c(1).checker()).assert_properties();
}

#[test]
fn one_node_becomes_three_while_one_forgets() {
    check(change(A, &[A | B | C], 1).checker()).assert_properties();
}

#[test]
fn three_nodes_become_one_while_one_forgets() {
    check(change(A | B | C, &[A], 1).checker()).assert_properties();
}

#[test]
fn a_change_that_breaks_off_is_ended_by_another() {
    check(change(A, &[A | B | C; 2], 0).checker()).assert_properties();
    check(change(A | B | C, &[A; 2], 0).checker()).assert_properties();
}

#[test]
fn a_node_forgets_while_two_change_the_membership() {
    for targets in [[B, B], [B, C], [A | B, A | C], [B | C, B | D]] {
        check(change(A, &targets, 1).checker()).assert_no_discovery(UNIQUE);
    }
}

#[test]
fn of_two_changes_at_once_one_is_refused() {
    check(to_two_others_at_once().checker()).assert_properties();
}

#[test]
fn without_the_joint_phase_both_sets_grant_a_token() {
    assert_breaks(Rule::JointPhase, replace_c(0));
}

#[test]
fn new_nodes_that_are_not_taught_repeat_a_token() {
    assert_breaks(Rule::TeachNewSet, replace_c(0));
}

#[test]
fn what_nodes_of_an_old_epoch_know_is_not_enough() {
    assert_breaks(Rule::LearnAtEpoch, replace_c(0));
}

#[test]
fn a_node_that_learns_from_one_of_two_sets_repeats_a_token() {
    assert_breaks(Rule::LearnFromBothSets, replace_c(1));
}

#[test]
fn a_node_that_learns_by_an_old_membership_repeats_a_token() {
    assert_breaks(Rule::StartOver, replace_c(1));
}

#[test]
fn a_joining_node_that_does_not_wait_repeats_a_token() {
    assert_breaks(Rule::JoiningNodesWait, replace_c(1));
}

#[test]
fn a_joining_node_that_is_admitted_after_it_voted_repeats_a_token() {
    assert_breaks(Rule::AdmitFirst, replace_c(1));
}

#[test]
fn a_coordinator_that_admits_nodes_long_after_its_lease_repeats_a_token() {
    assert_breaks(Rule::AdmitWithLock, change(A, &[B; 2], 1));
}

#[test]
fn a_coordinator_that_is_not_fenced_splits_the_membership() {
    assert_breaks(Rule::FenceCoordinator, to_two_others_at_once());
}
