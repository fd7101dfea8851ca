//! The annotation that pauses a sale.

use flashsale_operator::crd::{FlashSale, condition::RECONCILIATION_PAUSED};
use flashsale_operator::flash_sale::database::ACCEPT_LOSS;
use flashsale_operator::flash_sale::pause::{PAUSE, is_paused, status, trigger, warning};
use kube::core::DeserializeGuard;

use crate::sale;
use crate::status::{NOON, at};

fn annotated(annotations: &[(&str, &str)]) -> FlashSale {
    let mut sale = sale("");
    let all = annotations.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    sale.metadata.annotations = Some(all.collect());
    sale
}

#[test]
fn only_true_pauses_and_other_values_are_named() {
    let cases =
        [("true", true, false), ("false", false, false), ("yes", false, true), ("", false, true)];
    for (value, pauses, warns) in cases {
        let sale = annotated(&[(PAUSE, value)]);
        assert_eq!((is_paused(&sale), warning(&sale).is_some()), (pauses, warns), "{value:?}");
    }
    assert!(!is_paused(&sale("")));
    assert_eq!(warning(&sale("")), None);
}

#[test]
fn a_reconcile_is_triggered_by_the_spec_and_by_the_operator_s_annotations() {
    let trigger = |sale: FlashSale| trigger(&DeserializeGuard(Ok(sale)));
    let plain = trigger(annotated(&[]));
    assert_ne!(trigger(annotated(&[(PAUSE, "true")])), plain);
    assert_ne!(trigger(annotated(&[(ACCEPT_LOSS, "true")])), plain);
    assert_ne!(trigger(annotated(&[(ACCEPT_LOSS, "x")])), trigger(annotated(&[(PAUSE, "x")])));
    assert_eq!(trigger(annotated(&[("team", "shop")])), plain);
    assert_eq!(trigger(sale("")), plain, "no annotations are as none of them");
    let mut changed = annotated(&[]);
    changed.metadata.generation = Some(7);
    assert_ne!(trigger(changed), plain);
}

#[test]
fn the_rest_of_the_status_is_that_of_the_last_reconcile() {
    let before = annotated(&[(PAUSE, "true")]);
    let mut once = status(&before, at(NOON));
    let paused = once.conditions.pop().unwrap();
    assert_eq!((&*paused.type_, &*paused.status), (RECONCILIATION_PAUSED, "True"));
    assert_eq!(once, before.status.clone().unwrap_or_default());

    let mut again = before.clone();
    again.status = Some(status(&before, at(NOON)));
    assert_eq!(Some(status(&again, at("2026-11-27T13:00:00Z"))), again.status, "no second write");
}
