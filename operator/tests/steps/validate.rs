//! What only the operator can see is named, with its remedy.

use std::time::Duration;

use flashsale_operator::config::DefaultImages;
use flashsale_operator::flash_sale::dereference::References;
use flashsale_operator::flash_sale::validate::{NotReady, validate};

use crate::{data, images, references, sale};

fn refused(changes: &str, references: References, images: &DefaultImages) -> NotReady {
    validate(&sale(changes), references, images).expect_err("the sale is not valid")
}

#[test]
fn a_new_sale_needs_nothing() {
    let valid = validate(&sale(""), References::default(), &images()).unwrap();
    assert_eq!(valid.images.app, "flashsale-app:1");
    assert_eq!(valid.images.postgres.as_deref(), Some("postgres:1"));
    assert_eq!(valid.owner.name, "black-friday");
    assert_eq!(valid.autoscaled_replicas, None);
}

#[test]
fn a_sale_s_own_images_come_first() {
    let valid = validate(&sale("app: {image: mine}"), references(), &images()).unwrap();
    assert_eq!(valid.images.app, "mine");
    let why = refused("", references(), &DefaultImages { redis: None, ..images() });
    assert_eq!(why.reason, "NoImage");
    assert!(why.message.contains("spec.redis.image"), "{}", why.message);
    assert_eq!(why.requeue_after, None, "only a change helps");
}

#[test]
fn a_secret_that_is_named_must_be_there_and_complete() {
    let external = "database: {secretRef: {name: shop-db, key: url}}";
    let why = refused(external, References { database: None, ..references() }, &images());
    assert_eq!(why.reason, "SecretMissing");
    assert_eq!(why.message, "Secret shop-db does not exist; create it with url");
    assert_eq!(why.requeue_after, Some(Duration::from_secs(5)));

    let why = refused(external, references(), &images());
    assert_eq!(
        (why.reason, why.message.as_str()),
        ("SecretIncomplete", "Secret shop-db has no value for url")
    );

    let empty = References { auth: Some(data(&[("jwt-secret", "")])), ..references() };
    let why = refused("auth: {secretRef: {name: keys}}", empty, &images());
    assert_eq!(why.message, "Secret keys has no value for jwt-secret");
}

#[test]
fn a_database_is_not_given_another_password() {
    let lost = References { database: None, ..references() };
    assert_eq!(refused("", lost, &images()).reason, "SecretMissing");
    let new = References { database: None, database_exists: false, ..references() };
    assert!(validate(&sale(""), new, &images()).is_ok());
}

#[test]
fn parts_of_an_earlier_sale_are_waited_out() {
    let leftover = References { leftover: Some("Secret x".to_owned()), ..references() };
    let why = refused("", leftover, &images());
    assert_eq!(why.reason, "EarlierSaleLeaving");
    assert!(why.message.starts_with("Secret x of an earlier sale"));
}
