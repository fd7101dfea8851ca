//! What only the operator can see is named, with its remedy.

use std::time::Duration;

use flashsale_operator::config::DefaultImages;
use flashsale_operator::flash_sale::dereference::References;
use flashsale_operator::flash_sale::not_ready::NotReady;
use flashsale_operator::flash_sale::ownership::{ExistingPart, ExistingParts};
use flashsale_operator::flash_sale::secret_names::SecretNames;
use flashsale_operator::flash_sale::validate::validate;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::ResourceExt;

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

/// A Service of this name, controlled by an object of this kind, name and uid.
fn service(name: &str, owner: Option<(&str, &str, &str)>) -> Service {
    let owner = owner.map(|(kind, name, uid)| OwnerReference {
        api_version: "flashsale.dev/v1alpha1".to_owned(),
        kind: kind.to_owned(),
        name: name.to_owned(),
        uid: uid.to_owned(),
        controller: Some(true),
        block_owner_deletion: None,
    });
    Service {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            owner_references: owner.map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        ..Service::default()
    }
}

fn found(services: &[Service]) -> References {
    let sale = sale("");
    let parts = services.iter().map(|service| ExistingPart::new(&sale, service)).collect();
    References { parts: ExistingParts(parts), ..references() }
}

#[test]
fn parts_of_an_earlier_sale_are_waited_out() {
    let earlier = Some(("FlashSale", "black-friday", "another"));
    let why = refused("", found(&[service("x", earlier)]), &images());
    assert_eq!(why.reason, "EarlierSaleLeaving");
    assert!(why.message.starts_with("Service x of an earlier sale"));
}

#[test]
fn names_of_others_are_all_named_with_their_owners() {
    let own = sale("").uid().unwrap();
    let others = [
        service("a", Some(("FlashSale", "black-friday", &own))),
        service("b", None),
        service("c", Some(("FlashSale", "black", "another"))),
        service("d", Some(("Deployment", "black-friday", "another"))),
        service("e", Some(("FlashSale", "black-friday", "another"))),
    ];
    let why = refused("", found(&others), &images());
    assert_eq!((why.reason, why.requeue_after), ("NameTaken", Some(Duration::from_secs(10))));
    let named = "Service b (owner: none), Service c (owner: FlashSale black), \
                 Service d (owner: Deployment black-friday); it is left unchanged. Delete it, or";
    assert!(why.message.contains(named), "{}", why.message);
}

#[test]
fn a_volume_is_the_sale_s_by_its_labels() {
    let sale = sale("");
    let labelled = |labels: &[(&str, &str)]| {
        let label =
            |&(key, value): &(&str, &str)| (format!("app.kubernetes.io/{key}"), value.to_owned());
        let metadata = ObjectMeta {
            labels: Some(labels.iter().map(label).collect()),
            ..ObjectMeta::default()
        };
        ExistingParts(vec![ExistingPart::volume(&sale, &metadata)]).check().is_ok()
    };
    let manager = ("managed-by", "flashsale-operator");
    assert!(labelled(&[("instance", "black-friday"), manager]));
    assert!(!labelled(&[("instance", "black"), manager]));
    assert!(!labelled(&[("instance", "black-friday"), ("managed-by", "Helm")]));
}

#[test]
fn a_value_that_the_app_would_refuse_is_named_by_its_key() {
    let why = |entries: &[(&str, &str)]| {
        let mut auth = references().auth.unwrap();
        auth.extend(data(entries));
        let references = References { auth: Some(auth), ..references() };
        let why = refused("auth: {secretRef: {name: keys}}", references, &images());
        assert_eq!(
            (why.reason, why.requeue_after),
            ("SecretInvalid", Some(Duration::from_secs(5)))
        );
        why.message
    };
    let starts = |entries: &[(&str, &str)], key: &str| {
        let message = why(entries);
        assert!(message.starts_with(&format!("Secret keys: {key} ")), "{message}");
    };
    starts(&[("jwt-secret", "short")], "jwt-secret");
    starts(&[("jwt-secret", "thirty-one bytes are not enough\n")], "jwt-secret");
    starts(&[("jwt-secret-accepted", "short")], "jwt-secret-accepted");
    starts(&[("jwks.json", "{")], "jwks.json");
    starts(&[("jwks.json", "[]")], "jwks.json");
    starts(&[("jwks-issuer", "https://id.example")], "jwks-issuer");
    starts(&[("admin-password", "short")], "admin-password");
    starts(&[("admin-password", "")], "admin-password");
    starts(&[("admin-id", "no blanks")], "admin-id");

    let url =
        References { database: Some(data(&[("uri", "mysql://a:b@db/shop")])), ..references() };
    let why = refused("database: {secretRef: {name: shop-db}}", url, &images());
    assert!(why.message.starts_with("Secret shop-db: uri must be postgres://"), "{}", why.message);
}

/// The watch of Secrets finds the sale by these names.
#[test]
fn a_sale_uses_the_secrets_that_it_names_and_that_of_the_adopted_database() {
    let names = SecretNames::of(&sale(
        "{database: {adopt: spring}, app: {tls: {secretRef: {name: certificate}}}}",
    ));
    for name in ["black-friday-auth", "black-friday-redis", "black-friday-operator"] {
        assert!(names.contains(name), "{name}");
    }
    assert!(names.contains("spring-db") && names.contains("certificate"), "{names:?}");
    assert!(!names.contains("black-friday-db"), "it belongs to another sale");
    let external = SecretNames::of(&sale("database: {secretRef: {name: shop-db}}"));
    assert!(external.contains("shop-db") && !external.contains("black-friday-db"));
}
