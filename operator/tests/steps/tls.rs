//! TLS of the purchase API.

use flashsale_operator::flash_sale::dereference::{References, SecretData};
use flashsale_operator::flash_sale::not_ready::NotReady;
use flashsale_operator::flash_sale::validate::validate;
use k8s_openapi::api::core::v1::{PodTemplateSpec, ServicePort};
use kube::ResourceExt;

use crate::build::{built, container, value};
use crate::{data, images, references, sale};

const TLS: &str = "app: {tls: {secretRef: {name: shop-tls}}}";

fn template(changes: &str, references: References) -> PodTemplateSpec {
    built(changes, references).app.spec.unwrap().template
}

#[test]
fn the_app_is_given_the_certificate_as_files() {
    let app = container(&built(TLS, references()));
    let env = app.env.unwrap();
    assert_eq!(value(&env, "TLS_CERT_FILE"), "/etc/flashsale/tls/tls.crt");
    assert_eq!(value(&env, "TLS_KEY_FILE"), "/etc/flashsale/tls/tls.key");
    let mount = &app.volume_mounts.unwrap()[0];
    assert_eq!((mount.mount_path.as_str(), mount.read_only), ("/etc/flashsale/tls", Some(true)));
    assert_eq!(mount.sub_path, None, "the kubelet updates no subPath");
    assert_eq!(app.ports.unwrap()[0].name.as_deref(), Some("https"));
    let volume = template(TLS, references()).spec.unwrap().volumes.unwrap().remove(0);
    let secret = volume.secret.unwrap();
    assert_eq!(secret.secret_name.as_deref(), Some("shop-tls"));
    let keys: Vec<String> = secret.items.unwrap().into_iter().map(|item| item.key).collect();
    assert_eq!(keys, ["tls.crt", "tls.key"]);
    for probe in [app.readiness_probe, app.liveness_probe] {
        assert_eq!(probe.unwrap().http_get.unwrap().scheme, None, "port 9090 stays plain");
    }
}

#[test]
fn the_certificate_stands_beside_the_keys_of_an_identity_provider() {
    let mut auth = references().auth.unwrap();
    auth.extend(data(&[("jwks.json", r#"{"keys": []}"#)]));
    let references = References { auth: Some(auth), ..references() };
    let pod = template(TLS, references).spec.unwrap();
    let volumes: Vec<String> = pod.volumes.unwrap().into_iter().map(|it| it.name).collect();
    assert_eq!(volumes, ["jwks", "tls"]);
    let mounts = pod.containers[0].volume_mounts.clone().unwrap();
    assert_eq!(mounts.into_iter().map(|it| it.name).collect::<Vec<_>>(), volumes);
}

#[test]
fn a_renewed_certificate_restarts_nothing_and_another_secret_does() {
    let renewed = data(&[
        ("tls.crt", "-----BEGIN CERTIFICATE-----\nrenewed"),
        ("tls.key", "-----BEGIN EC PRIVATE KEY-----\nrenewed"),
    ]);
    let renewed = References { tls: Some(renewed), ..references() };
    assert_eq!(template(TLS, references()), template(TLS, renewed));
    let other = "app: {tls: {secretRef: {name: other-tls}}}";
    assert_ne!(template(TLS, references()), template(other, references()));
    // Without TLS, a Secret that exists changes nothing.
    assert_eq!(template("", references()), template("", References { tls: None, ..references() }));
}

#[test]
fn the_services_say_which_protocol_the_port_has() {
    let ports = |changes: &str| -> Vec<ServicePort> {
        let services = built(changes, references()).services;
        let of_app = services.into_iter().filter(|service| {
            ["black-friday", "black-friday-pods"].contains(&service.name_any().as_str())
        });
        of_app.flat_map(|service| service.spec.unwrap().ports.unwrap()).collect()
    };
    let described = |ports: Vec<ServicePort>| -> Vec<(String, Option<String>, i32)> {
        ports.into_iter().map(|it| (it.name.unwrap(), it.app_protocol, it.port)).collect()
    };
    let https = ("https".to_owned(), Some("https".to_owned()), 8080);
    let metrics = ("metrics".to_owned(), None, 9090);
    let expected = vec![https.clone(), metrics.clone(), https, metrics.clone()];
    assert_eq!(described(ports(TLS)), expected);
    let http = ("http".to_owned(), None, 8080);
    assert_eq!(described(ports("")), vec![http.clone(), metrics.clone(), http, metrics]);
}

#[test]
fn a_secret_without_a_usable_certificate_is_named() {
    let why = |tls: Option<SecretData>| -> NotReady {
        let references = References { tls, ..references() };
        validate(&sale(TLS), references, &images()).expect_err("the sale is not valid")
    };
    let missing = why(None);
    assert_eq!(missing.reason, "SecretMissing");
    assert_eq!(missing.message, "Secret shop-tls does not exist; create it with tls.crt, tls.key");
    let (certificate, key) = ("-----BEGIN CERTIFICATE-----", "-----BEGIN RSA PRIVATE KEY-----");
    let incomplete = why(Some(data(&[("tls.crt", certificate), ("tls.key", "")])));
    assert_eq!(
        (incomplete.reason, incomplete.message.as_str()),
        ("SecretIncomplete", "Secret shop-tls has no value for tls.key")
    );
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----";
    let old_form = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED";
    for (entries, expected) in [
        ([("tls.crt", "MIIB"), ("tls.key", key)], "tls.crt must be a certificate in PEM"),
        ([("tls.crt", certificate), ("tls.key", certificate)], "tls.key must be an unencrypted"),
        ([("tls.crt", certificate), ("tls.key", encrypted)], "tls.key must be an unencrypted"),
        ([("tls.crt", certificate), ("tls.key", old_form)], "tls.key must be an unencrypted"),
    ] {
        let invalid = why(Some(data(&entries)));
        assert_eq!(invalid.reason, "SecretInvalid");
        let expected = format!("Secret shop-tls: {expected}");
        assert!(invalid.message.starts_with(&expected), "{}", invalid.message);
    }
    let usable = References {
        tls: Some(data(&[("tls.crt", certificate), ("tls.key", key)])),
        ..references()
    };
    assert!(validate(&sale(TLS), usable, &images()).is_ok());
}
