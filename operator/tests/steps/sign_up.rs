//! Who may sign up, and how long buyers have their names.

use flashsale_operator::flash_sale::dereference::References;
use flashsale_operator::flash_sale::validate::validate;

use crate::build::{built, container, value};
use crate::{data, images, references, sale};

fn with_codes(codes: &str) -> References {
    let mut references = references();
    references.auth.as_mut().unwrap().extend(data(&[("invite-codes", codes)]));
    references
}

#[test]
fn the_app_is_given_the_mode_its_codes_and_the_days() {
    let changes = "app: {signUp: Invited}\nendsAt: '2026-11-28T00:00:00Z'\nretentionDays: 30";
    let env = container(&built(changes, with_codes("a-code-of-the-tests"))).env.unwrap();
    assert_eq!(value(&env, "SIGN_UP"), "Invited");
    assert_eq!(value(&env, "RETENTION_DAYS"), "30");
    let codes = env.iter().find(|variable| variable.name == "INVITE_CODES").unwrap();
    let source = codes.value_from.as_ref().unwrap().secret_key_ref.as_ref().unwrap();
    assert_eq!(source.key, "invite-codes");
    let without = container(&built("{}", references())).env.unwrap();
    let added = ["SIGN_UP", "INVITE_CODES", "RETENTION_DAYS"];
    assert!(without.iter().all(|variable| !added.contains(&variable.name.as_str())));
}

#[test]
fn codes_that_the_app_would_refuse_are_named_with_their_key() {
    let message = |changes: &str, references: References| {
        validate(&sale(changes), references, &images()).err().map(|refusal| refusal.message)
    };
    let invited = "app: {signUp: Invited}";
    let missing = message(invited, references()).unwrap();
    assert!(missing.contains("invite-codes is required with app.signUp: Invited"), "{missing}");
    for codes in ["short", "long-enough short"] {
        let refused = message("{}", with_codes(codes)).unwrap();
        assert!(refused.contains("invite-codes must have codes of 8"), "{refused}");
    }
    assert_eq!(message(invited, with_codes("long-enough\nand-another\n")), None);
    assert_eq!(message("app: {signUp: Closed}", references()), None);
}
