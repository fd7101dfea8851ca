//! TLS of the Redis nodes and of the sale's own database.

use flashsale_operator::flash_sale::build::credentials::Passwords;
use flashsale_operator::flash_sale::build::{KubernetesResources, Prepared, build};
use flashsale_operator::flash_sale::dereference::References;
use flashsale_operator::flash_sale::not_ready::NotReady;
use flashsale_operator::flash_sale::outcome::Outcome;
use flashsale_operator::flash_sale::secret_names::SecretNames;
use flashsale_operator::flash_sale::seed::Seed;
use flashsale_operator::flash_sale::validate::validate;
use k8s_openapi::api::core::v1::{Container, PodSpec, Secret};
use kube::ResourceExt;

use crate::build::{built, value};
use crate::certificates::first;
use crate::status::{NOON, after, outcome};
use crate::{data, images, references, sale};

pub(super) const MANAGED: &str = "stores: {tls: {mode: Managed}}";
const NAMED: &str = "stores: {tls: {mode: Secret, secretRef: {name: shop-stores}}}";
const FOLDER: &str = "/etc/flashsale-stores";

/// The pods of Redis, database, app and seed.
fn pods(built: KubernetesResources<Prepared>) -> [PodSpec; 4] {
    [
        built.redis.spec.unwrap().template.spec.unwrap(),
        built.database.unwrap().spec.unwrap().template.spec.unwrap(),
        built.app.spec.unwrap().template.spec.unwrap(),
        built.seed.spec.unwrap().template.spec.unwrap(),
    ]
}

fn named(entries: &[(&str, &str)]) -> References {
    let secret = Secret { data: Some(data(entries)), ..Secret::default() };
    References { stores_tls: Some(secret), ..references() }
}

fn usable() -> References {
    let certificate = "-----BEGIN CERTIFICATE-----\n";
    let key = "-----BEGIN PRIVATE KEY-----\n";
    named(&[("tls.crt", certificate), ("tls.key", key), ("ca.crt", certificate)])
}

fn files(pod: &PodSpec) -> (String, Option<i32>, Vec<String>) {
    let volume = pod.volumes.as_ref().unwrap().iter().find(|it| it.name == "stores-tls").unwrap();
    let secret = volume.secret.clone().unwrap();
    let keys = secret.items.unwrap().into_iter().map(|item| item.key).collect();
    (secret.secret_name.unwrap(), secret.default_mode, keys)
}

#[test]
fn servers_are_given_the_certificate_and_clients_the_authorities() {
    for (changes, references, secret) in
        [(MANAGED, references(), "black-friday-stores-tls"), (NAMED, usable(), "shop-stores")]
    {
        let pods = pods(built(changes, references));
        for pod in &pods {
            let mounts = pod.containers[0].volume_mounts.as_ref().unwrap();
            let mount = mounts.iter().find(|it| it.name == "stores-tls").unwrap();
            assert_eq!((mount.mount_path.as_str(), mount.read_only), (FOLDER, Some(true)));
            assert_eq!(mount.sub_path, None, "the kubelet updates no subPath");
        }
        for server in &pods[..2] {
            let keys = vec!["tls.crt".to_owned(), "tls.key".to_owned()];
            assert_eq!(files(server), (secret.to_owned(), Some(0o440), keys));
        }
        for client in &pods[2..] {
            assert_eq!(files(client), (secret.to_owned(), None, vec!["ca.crt".to_owned()]));
            let env = client.containers[0].env.as_ref().unwrap();
            for name in ["REDIS_CA_FILE", "DATABASE_CA_FILE"] {
                assert_eq!(value(env, name), format!("{FOLDER}/ca.crt"));
            }
        }
        let arguments = |pod: &PodSpec| pod.containers[0].args.clone().unwrap().join(" ");
        assert!(arguments(&pods[0]).starts_with("--port 0 --tls-port 6379 --tls-auth-clients no"));
        assert!(arguments(&pods[1]).ends_with("-c hba_file=/tmp/pg_hba.conf"));
    }
}

#[test]
fn the_uri_of_an_external_database_decides_about_its_tls() {
    let external =
        "{stores: {tls: {mode: Managed}}, database: {secretRef: {name: shop-db, key: uri}}}";
    let resources = built(external, references());
    assert!(resources.database.is_none());
    let app: Container = resources.app.spec.unwrap().template.spec.unwrap().containers.remove(0);
    let env = app.env.unwrap();
    assert_eq!(value(&env, "REDIS_CA_FILE"), format!("{FOLDER}/ca.crt"));
    assert_eq!(value(&env, "DATABASE_CA_FILE"), "");
}

#[test]
fn disabled_is_the_default_and_a_renewed_certificate_restarts_nothing() {
    let plain = pods(built("", references()));
    assert_eq!(plain, pods(built("stores: {tls: {mode: Disabled}}", references())));
    let with = |at: &str| {
        let made = first(at.parse().unwrap());
        let metadata =
            kube::api::ObjectMeta { annotations: Some(made.annotations), ..Default::default() };
        let secret = Secret { metadata, data: Some(made.data), ..Secret::default() };
        References { stores_tls: Some(secret), ..references() }
    };
    let pods_with = |references| pods(built(MANAGED, references));
    assert_eq!(pods_with(with("2026-11-27T00:00:00Z")), pods_with(with("2026-12-27T00:00:00Z")));
    assert_ne!(plain, pods_with(references()));
}

#[test]
fn the_secret_is_written_only_when_it_changes() {
    let mut valid = validate(&sale(MANAGED), references(), &images()).unwrap();
    assert!(build(&valid, &Passwords::fixed()).unwrap().certificates.is_none());
    let made = first("2026-11-27T00:00:00Z".parse().unwrap());
    valid.stores_tls.as_mut().unwrap().changed = Some(made.clone());
    let secret = build(&valid, &Passwords::fixed()).unwrap().certificates.unwrap();
    assert_eq!(secret.name_any(), "black-friday-stores-tls");
    assert_eq!(secret.owner_references()[0].name, "black-friday");
    assert_eq!(secret.data, Some(made.data));
    assert_eq!(secret.metadata.annotations, Some(made.annotations));
    for (changes, secret) in
        [("", None), (MANAGED, Some("black-friday-stores-tls")), (NAMED, Some("shop-stores"))]
    {
        let names = SecretNames::of(&sale(changes));
        assert_eq!(names.stores_tls.as_deref(), secret);
        assert!(secret.is_none_or(|secret| names.contains(secret)), "the watch knows it");
    }
}

#[test]
fn a_named_secret_without_usable_certificates_is_refused_by_key() {
    let why = |references: References| -> NotReady {
        validate(&sale(NAMED), references, &images()).expect_err("the sale is not valid")
    };
    let missing = why(references());
    assert_eq!(missing.reason, "SecretMissing");
    let message = "Secret shop-stores does not exist; create it with tls.crt, tls.key, ca.crt";
    assert_eq!(missing.message, message);
    let (certificate, key) = ("-----BEGIN CERTIFICATE-----", "-----BEGIN PRIVATE KEY-----");
    let incomplete = why(named(&[("tls.crt", certificate), ("tls.key", key)]));
    let message = "Secret shop-stores has no value for ca.crt";
    assert_eq!((incomplete.reason, &*incomplete.message), ("SecretIncomplete", message));
    let invalid = why(named(&[("tls.crt", certificate), ("tls.key", key), ("ca.crt", key)]));
    assert_eq!(invalid.reason, "SecretInvalid");
    assert!(invalid.message.starts_with("Secret shop-stores: ca.crt must be the certificates"));
}

#[test]
fn the_end_of_the_certificate_is_read_whoever_made_it_and_is_in_the_status() {
    let made = first("2026-11-27T00:00:00Z".parse().unwrap());
    let secret = Secret { data: Some(made.data), ..Secret::default() };
    let end = Some("2027-02-25T00:00:00Z".parse().unwrap());
    for changes in [MANAGED, NAMED] {
        let found = References { stores_tls: Some(secret.clone()), ..references() };
        let valid = validate(&sale(changes), found, &images()).unwrap();
        assert_eq!(valid.stores_tls.unwrap().not_after, end, "{changes}");
    }
    let malformed = validate(&sale(NAMED), usable(), &images()).unwrap();
    assert_eq!(malformed.stores_tls.unwrap().not_after, None);

    let mut known = outcome(5, 1, 3, Seed::Done);
    let Outcome::Applied { observed, .. } = &mut known else { panic!("it was applied") };
    observed.stores_not_after = end;
    let before = after(None, &known, NOON);
    assert_eq!(before.stores_certificate_not_after.as_ref().map(|end| end.0), end);
    let plain = after(Some(before), &outcome(5, 1, 3, Seed::Done), NOON);
    assert_eq!(plain.stores_certificate_not_after, None);
}
