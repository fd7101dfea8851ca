//! Certificates that the operator makes and renews, judged by `openssl`.

use std::process::Command;

use flashsale_operator::flash_sale::certificates::{Certificates, EXPIRES, HOSTS, renew};
use flashsale_operator::flash_sale::names::store_hosts;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;

const NODE: &str = "black-friday-redis-4.black-friday-redis.shop.svc";

fn start() -> Timestamp {
    "2026-11-27T00:00:00Z".parse().unwrap()
}

fn after(hours: i64) -> Timestamp {
    start().checked_add(SignedDuration::from_hours(hours)).unwrap()
}

fn hosts() -> Vec<String> {
    store_hosts("shop", "black-friday", "black-friday-db")
}

/// The content after the step at this time; absent: nothing is due.
fn step(found: &Certificates, at: Timestamp) -> Option<Certificates> {
    renew(Some(found), &hosts(), at).unwrap().changed
}

pub(super) fn first(at: Timestamp) -> Certificates {
    renew(None, &hosts(), at).unwrap().changed.unwrap()
}

/// Whether a client with the authorities of one content accepts the server of another.
fn trusts(client: &Certificates, server: &Certificates, host: &str, at: Timestamp) -> bool {
    let folder = tempfile::tempdir().unwrap();
    let file = |key: &str, from: &Certificates| {
        let path = folder.path().join(key);
        std::fs::write(&path, &from.data[key].0).unwrap();
        path
    };
    let verified = Command::new("openssl")
        .args(["verify", "-x509_strict", "-purpose", "sslserver", "-verify_hostname", host])
        .args(["-attime", &at.as_second().to_string(), "-no-CApath", "-CAfile"])
        .arg(file("ca.crt", client))
        .arg(file("tls.crt", server))
        .output()
        .unwrap();
    verified.status.success()
}

#[test]
fn a_certificate_is_valid_for_every_store_of_the_sale_and_no_other() {
    let made = first(start());
    for host in [
        NODE,
        "black-friday-redis-0.black-friday-redis",
        "black-friday-redis-0.black-friday-redis.shop",
        "black-friday-db.shop.svc",
        "localhost",
    ] {
        assert!(trusts(&made, &made, host, start()), "{host}");
    }
    for host in ["black-friday-redis-5.black-friday-redis.shop.svc", "other-db.shop.svc"] {
        assert!(!trusts(&made, &made, host, start()), "{host}");
    }
    assert!(trusts(&made, &made, NODE, after(90 * 24 - 1)));
    assert!(!trusts(&made, &made, NODE, after(90 * 24 + 1)), "it has expired");
    let other = first(start());
    assert!(!trusts(&other, &made, NODE, start()), "another authority");
    let keys: Vec<&str> = made.data.keys().map(String::as_str).collect();
    assert_eq!(keys, ["ca.crt", "tls.crt", "tls.key"], "the authority's key is not stored");
}

/// The kubelets update servers and clients at different times, so the contents of two neighbouring steps meet.
#[test]
fn a_renewal_never_has_a_client_that_does_not_trust_a_server() {
    let first = first(start());
    assert_eq!(first.annotations[EXPIRES], "2027-02-25T00:00:00Z");
    let due = 60 * 24;
    assert_eq!(step(&first, after(due - 1)), None);
    let published = step(&first, after(due)).unwrap();
    assert_eq!(published.data["tls.crt"], first.data["tls.crt"], "not yet in use");
    assert_eq!(step(&published, after(due)), None, "clients read it first");
    let next = renew(Some(&published), &hosts(), after(due)).unwrap().next;
    assert_eq!(next, after(due + 1));
    let promoted = step(&published, next).unwrap();
    assert_ne!(promoted.data["tls.crt"], first.data["tls.crt"]);
    assert_eq!(promoted.data["ca.crt"], published.data["ca.crt"]);
    assert_eq!(promoted.annotations[EXPIRES], "2027-04-26T00:00:00Z");
    assert_eq!(step(&promoted, after(due + 2)), None);
    let second = step(&promoted, after(due + due)).unwrap();
    let third = step(&step(&second, after(due + due + 1)).unwrap(), after(3 * due)).unwrap();

    let states = [&first, &published, &promoted, &second];
    for (one, other) in states.iter().zip(&states[1..]) {
        for (client, server) in [(one, one), (one, other), (other, one)] {
            assert!(trusts(client, server, NODE, after(due + 1)));
        }
    }
    // Without the step between them, they would not.
    assert!(!trusts(&first, &promoted, NODE, next));
    assert!(!trusts(&third, &first, NODE, next), "an authority leaves after two renewals");
    let authorities = |of: &Certificates| {
        String::from_utf8_lossy(&of.data["ca.crt"].0).matches("BEGIN CERTIFICATE").count()
    };
    assert_eq!(states.map(authorities), [1, 2, 2, 3]);
    assert_eq!(authorities(&third), 3);
}

#[test]
fn what_cannot_be_used_is_replaced_at_once() {
    let usable = first(start());
    let replaced = |found: &Certificates, at| {
        let changed = step(found, at).expect("it is replaced");
        assert_ne!(changed.data["tls.crt"], found.data.get("tls.crt").cloned().unwrap_or_default());
        assert!(trusts(&changed, &changed, NODE, at));
        changed
    };
    let late = replaced(&usable, after(90 * 24));
    assert!(
        trusts(&late, &usable, NODE, after(1)),
        "the authority of servers that have not read it"
    );
    for key in ["tls.crt", "tls.key", "ca.crt"] {
        let mut incomplete = usable.clone();
        incomplete.data.insert(key.to_owned(), ByteString::default());
        replaced(&incomplete, start());
    }
    let mut of_another_database = usable.clone();
    of_another_database.annotations.insert(HOSTS.to_owned(), "other-db.shop.svc".to_owned());
    replaced(&of_another_database, start());
}

#[test]
fn without_a_readable_time_a_renewal_begins() {
    let usable = first(start());
    for end in [None, Some("soon")] {
        let mut unknown = usable.clone();
        unknown.annotations.remove(EXPIRES);
        unknown.annotations.extend(end.map(|end| (EXPIRES.to_owned(), end.to_owned())));
        let published = step(&unknown, after(1)).unwrap();
        assert_eq!(published.data["tls.crt"], usable.data["tls.crt"]);
        // A next certificate that somebody broke is made again.
        let mut broken = published.clone();
        broken.data.remove("next-tls.key");
        let again = step(&broken, after(2)).unwrap();
        assert!(again.data.contains_key("next-tls.key"));
        let promoted = step(&again, after(3)).unwrap();
        assert!(
            trusts(&again, &promoted, NODE, after(3)) && trusts(&promoted, &usable, NODE, start())
        );
    }
}
