//! No known value and nothing that looks like a secret gets through; the rest does.

use serde_json::json;

use super::*;

fn redactor() -> Redactor {
    let mut redactor = Redactor::default();
    let uri = b"postgres://flashsale:p%40ss-w0rd@black-friday-db:5432/flashsale\n";
    redactor.secret("black-friday-db", "uri", uri);
    redactor.secret("black-friday-db", "username", b"flashsale");
    redactor.secret("black-friday-redis", "password", b"hunter2-hunter2");
    redactor.secret(
        "pull",
        ".dockerconfigjson",
        br#"{"auths":{"r":{"username":"u","password":"docker-pass"}}}"#,
    );
    redactor.secret(
        "tls",
        "tls.key",
        b"-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49\n-----END PRIVATE KEY-----\n",
    );
    redactor.secret("short", "pin", b"12");
    redactor
}

#[test]
fn known_values_are_removed_in_every_form() {
    let redactor = redactor();
    for (text, secret) in [
        ("AUTH hunter2-hunter2 failed", "hunter2"),
        ("value aHVudGVyMi1odW50ZXIy in base64", "aHVudGVyMi1odW50ZXIy"),
        ("cannot connect to flashsale:p@ss-w0rd@black-friday-db", "p@ss-w0rd"),
        ("password p%40ss-w0rd", "p%40ss-w0rd"),
        ("pull with docker-pass", "docker-pass"),
        ("MIGHAgEAMBMGByqGSM49", "MIGHAgEAMBMGByqGSM49"),
    ] {
        let redacted = redactor.text(text);
        assert!(!redacted.contains(secret) && redacted.contains("<redacted"), "{text}: {redacted}");
    }
    assert!(redactor.text("hunter2-hunter2").contains("black-friday-redis/password"));
    assert_eq!(redactor.too_short, ["short/pin"]);
    // User names are no secrets, and neither are names of Secrets.
    let plain = "user flashsale of Secret black-friday-db, token=17, 5/5 nodes, see https://shop.example:8080/docs";
    assert_eq!(redactor.text(plain), plain);
}

#[test]
fn unknown_secrets_are_recognized() {
    let redactor = Redactor::default();
    for (text, expected) in [
        ("at redis://u:top%2Fsecret@host:6379/0 now", "at redis://u:<redacted>@host:6379/0 now"),
        ("http://u:a@b@host", "http://u:<redacted>@host"),
        ("Authorization: Bearer abcdefghij", "Authorization: <redacted> <redacted>"),
        ("got eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln here", "got <redacted> here"),
        (r#"{"password":"abc","user":"b"}"#, r#"{"password":"<redacted>","user":"b"}"#),
        ("PGPASSWORD=abc psql", "PGPASSWORD=<redacted> psql"),
        ("--admin-password abc", "--admin-password <redacted>"),
        ("the password is unknown", "the password is unknown"),
        ("client_secret: abc, x", "client_secret: <redacted>, x"),
        (
            "a\n-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\nb",
            "a\n<redacted private key>\nb",
        ),
        ("-----BEGIN PRIVATE KEY-----\nAAAA", "<redacted private key>"),
        ("-----BEGIN CERTIFICATE-----\nAAAA", "-----BEGIN CERTIFICATE-----\nAAAA"),
        ("automountServiceAccountToken: false", "automountServiceAccountToken: false"),
        ("\"token\":42", "\"token\":42"),
        ("password: <redacted a/b>", "password: <redacted a/b>"),
    ] {
        assert_eq!(redactor.text(text), expected);
    }
}

#[test]
fn objects_lose_secrets_in_variables_and_annotations() {
    let mut redactor = redactor();
    let mut object = json!({
        "metadata": {
            "name": "black-friday",
            "managedFields": [{}],
            "annotations": {
                REPEATED: "{\"env\":[{\"name\":\"API_TOKEN\",\"value\":\"literal-secret\"}]}",
                "flashsale.dev/password-checksum": "0123abcd",
                "app-token": "known to nobody",
                "note": "the password is hunter2-hunter2",
                "hunter2-hunter2": "in a key",
            },
        },
        "spec": { "containers": [{ "name": "app", "args": ["--x=literal-secret"], "env": [
            { "name": "API_TOKEN", "value": "literal-secret" },
            { "name": "TLS_KEY_FILE", "value": "/etc/tls.key" },
            { "name": "PRIVATE_KEY_FILE", "value": "/etc/key" },
            { "name": "DATABASE_URL", "value": "postgres://u:other@h/d" },
            { "name": "REDIS_PASSWORD", "valueFrom": { "secretKeyRef": { "name": "black-friday-redis", "key": "password" } } },
        ] }] },
    });
    redactor.variables(&object);
    redactor.object(&mut object);
    let text = object.to_string();
    for secret in
        ["literal-secret", "hunter2-hunter2", "other", "known to nobody", "managedFields", REPEATED]
    {
        assert!(!text.contains(secret), "{secret}: {text}");
    }
    for kept in [
        "0123abcd",
        "/etc/tls.key",
        "/etc/key",
        "secretKeyRef",
        "\"black-friday-redis\"",
        "postgres://u:",
    ] {
        assert!(text.contains(kept), "{kept}: {text}");
    }
}
