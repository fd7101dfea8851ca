//! The seed Job: what makes it another one, and which database it may fill.

use flashsale_operator::crd::{DatabaseStatus, FlashSale, FlashSaleStatus};
use flashsale_operator::flash_sale::build::build;
use flashsale_operator::flash_sale::build::credentials::Passwords;
use flashsale_operator::flash_sale::database::ACCEPT_LOSS;
use flashsale_operator::flash_sale::names::DATABASE_CHECKSUM;
use flashsale_operator::flash_sale::seed::is_outdated;
use flashsale_operator::flash_sale::validate::validate;
use kube::ResourceExt;
use serde_json::{Value, json};

use crate::build::{built, value};
use crate::{data, images, references, sale};

#[test]
fn the_seed_job_is_another_for_another_administrator_or_database() {
    let job = |auth: &[(&str, &str)], uri: &str| {
        let mut references = references();
        references.auth.as_mut().unwrap().extend(data(auth));
        references.database.as_mut().unwrap().extend(data(&[("uri", uri)]));
        let seed = built("database: {secretRef: {name: shop-db, key: uri}}", references).seed;
        (seed.name_any(), seed.annotations()[DATABASE_CHECKSUM].clone())
    };
    let uri = "postgres://u:p@host:5432/shop?sslmode=require";
    let with = |uri: &str| job(&[], uri);
    let same = with(uri);
    assert_eq!(same, with("postgres://u:rotated%40@host:5432/shop?sslmode=require"));
    // The app's driver reads user and password from the parameters too, also with encoded names.
    for parameters in [
        "sslmode=require&user=u&password=p",
        "user=u&password=rotated&sslmode=require",
        "password=twice&sslmode=require&password=p",
        "p%61ssword=p&sslmode=require",
    ] {
        assert_eq!(same, with(&format!("postgres://host:5432/shop?{parameters}")), "{parameters}");
    }
    assert_eq!(with("postgres://u:p@host/d"), with("postgres://host/d?user=u&password=rotated"));
    let sha256_of_host_and_path = "cb49f1b0692ced54dfdfece556990c4d";
    assert_eq!(same.1, sha256_of_host_and_path, "an upgrade makes no database another one");
    for other in [
        "host:5432/other?sslmode=require",
        "another:5432/shop?sslmode=require",
        "host:5432/shop?sslmode=prefer",
    ] {
        let (name, address) = with(&format!("postgres://u:p@{other}"));
        assert!(name != same.0 && address != same.1, "{other}");
    }
    assert_ne!(same.0, job(&[("admin-password", "another one")], uri).0);
    assert_ne!(same.0, job(&[("admin-id", "another")], uri).0);
    // The salt of the password's hash in the name, which more users can read than the Secret.
    let salt = "another key of the tests, thirty-two bytes or more";
    assert_ne!(same.0, job(&[("jwt-secret", salt)], uri).0);
}

#[test]
fn a_seed_job_that_is_not_done_is_outdated_by_another_template() {
    let job = |changes: &str| built(changes, references()).seed;
    let (wrong, right) = (job("app: {image: 'app:typo'}"), job("app: {image: 'app:1'}"));
    assert_eq!(wrong.name_any(), right.name_any(), "it is to do the same");
    assert!(is_outdated(&wrong, &right));
    assert!(!is_outdated(&right, &job("app: {image: 'app:1', replicas: 2}")));
    let memory = "app: {image: 'app:1', resources: {requests: {memory: 1Ti}}}";
    assert!(is_outdated(&job(memory), &right));
    let ended = |type_: &str| {
        let mut job = wrong.clone();
        let condition = json!({ "type": type_, "status": "True" });
        job.status = serde_json::from_value(json!({ "conditions": [condition] })).unwrap();
        job
    };
    assert!(is_outdated(&ended("Failed"), &right), "no need to wait for the next try");
    assert!(!is_outdated(&ended("Complete"), &right), "what is done is done");
}

#[test]
fn a_seed_knows_which_database_it_may_fill() {
    let id = |accepted: Option<&str>, uri: &str| {
        let mut sale = sale("");
        let mut references = references();
        let job = |sale: &FlashSale, references| {
            let valid = validate(sale, references, &images()).unwrap();
            build(&valid, &Passwords::fixed()).unwrap().seed
        };
        let address = job(&sale, references.clone()).annotations()[DATABASE_CHECKSUM].clone();
        let database = DatabaseStatus { address, id: "first".to_owned() };
        sale.status =
            Some(FlashSaleStatus { database: Some(database), ..FlashSaleStatus::default() });
        let accepted = accepted.map(|id| (ACCEPT_LOSS.to_owned(), id.to_owned()));
        sale.metadata.annotations = Some(accepted.into_iter().collect());
        references.database.as_mut().unwrap().extend(data(&[("uri", uri)]));
        let template = job(&sale, references).spec.unwrap().template.spec.unwrap();
        value(template.containers[0].env.as_ref().unwrap(), "DATABASE_ID")
    };
    let same = "postgres://u:p@h/d";
    assert_eq!(id(None, same), "first");
    assert_eq!(id(Some("an earlier one"), same), "first");
    assert_eq!(id(Some("first"), same), "", "a person said so");
    assert_eq!(id(None, "postgres://u:p@another/d"), "", "the Secret says so");
}

#[test]
fn holds_of_products_and_the_claim_that_limits_persons_reach_the_seed() {
    let seeded = |changes: &str| {
        let resources = built(changes, references());
        let catalog = resources.catalog.data.unwrap();
        let catalog: Value = serde_json::from_str(&catalog["catalog.json"]).unwrap();
        (catalog, resources.seed.name_any())
    };
    let held =
        |first: &str| format!("products: [{{id: '1', stock: 1{first}}}, {{id: '2', stock: 1}}]");
    let (catalog, seed) = seeded(&held(", holdFor: 90s"));
    assert_eq!(catalog["products"][0]["hold_seconds"], 90);
    assert_eq!(catalog["products"][1].get("hold_seconds"), None);
    assert_eq!(catalog.get("limit_claim"), None);
    for other in ["", ", holdFor: 91s"] {
        assert_ne!(seed, seeded(&held(other)).1, "it is seeded again: {other}");
    }

    let limited = "{auth: {secretRef: {name: keys}}, limitBy: {claim: person_id}}";
    let (catalog, seed) = seeded(limited);
    assert_eq!(catalog["limit_claim"], "person_id");
    let others = ["{auth: {secretRef: {name: keys}}}", &limited.replace("person_id", "card")];
    for other in others {
        assert_ne!(seed, seeded(other).1, "it is seeded again: {other}");
    }
}
