//! Events of orders in a stream of NATS `JetStream`: each change once and in the order of the order's changes, beside the
//! webhook or without it; what a server refuses is repeated and named.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_nats::ConnectOptions;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nkeys::KeyPair;
use serde_json::{Value, json};
use testkit::{Authority, Direction, NatsServer, Packet, PacketFault, Proxy, TlsFolder};

use crate::common::{BOTH, Buyer, Database, SaleSpec, TestSale, eventually, value};
use crate::receiver::{Receiver, Reply, TAKEN};
use crate::stream::{self, STREAM, await_stored, create, create_with, jetstream, kinds, stored};

async fn sale(database: Database, settings: Vec<(&'static str, String)>) -> TestSale {
    let products = json!([{"id": "A", "name": "A", "stock": 100}]);
    TestSale::start(SaleSpec { nodes: 1, products, settings, ..SaleSpec::on(database) }).await
}

async fn ordered(buyer: &Buyer<'_>) -> String {
    let body = json!({"items": [{"product_id": "A"}]});
    buyer.call("POST", "/v1/orders", Some(&body)).await.order().to_owned()
}

async fn cancel(buyer: &Buyer<'_>, order: &str) {
    let answer = buyer.call("POST", &format!("/v1/orders/{order}/cancel"), None).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

/// What an administrator sees of the sink.
async fn sink(sale: &TestSale, name: &str) -> Value {
    let sinks = sale.admin("shop").call("GET", "/v1/admin/events/sinks", None).await.body;
    sinks["sinks"].as_array().unwrap().iter().find(|sink| sink["name"] == name).unwrap().clone()
}

/// Waits until the sink's error has this text.
async fn await_error(sale: &TestSale, text: &str) {
    eventually(&format!("the sink says {text:?}"), async || {
        // As after a pause, which is a minute after four attempts.
        sale.execute("UPDATE failed_events SET retry_at_ms = 1 WHERE sink = 'nats'").await;
        let error = sink(sale, "nats").await["error"].clone();
        error.as_str().is_some_and(|error| error.contains(text))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_change_is_in_the_stream_once_and_the_webhook_is_independent_of_it() {
    for (database, strategy) in [
        (Database::Postgres, "Locked"),
        (Database::Sqlite, "Locked"),
        (Database::Postgres, "Atomic"),
    ] {
        let (mut server, receiver) = (NatsServer::start("").unwrap(), Receiver::start().await);
        let reader = jetstream(&server, ConnectOptions::new()).await;
        create(&reader).await;
        let mut settings = [stream::settings(&server), receiver.settings()].concat();
        settings.extend([
            ("STRATEGY", strategy.to_owned()),
            ("SALE_NAME", "shop/spring".to_owned()),
            ("EVENTS_NATS_STREAM", STREAM.to_owned()),
        ]);
        let sale = sale(database, settings).await;
        let ann = sale.buyer("ann");
        // The webhook takes nothing, the stream does.
        receiver.answer(|_| Reply::Status(500));
        let order = ann.buy("A", 2, None).await.order().to_owned();
        await_stored(&reader, 1).await;
        cancel(&ann, &order).await;
        let all = await_stored(&reader, 2).await;
        assert_eq!(kinds(&all)[order.as_str()], ["confirmed", "cancelled"]);
        eventually("it was tried", async || !receiver.all().is_empty()).await;
        assert_eq!(
            (receiver.taken().len(), &sink(&sale, "webhook").await["pending"]),
            (0, &json!(2))
        );
        eventually("nothing is pending", async || sink(&sale, "nats").await["pending"] == 0).await;

        // The stream takes nothing, the webhook does.
        server.kill().unwrap();
        receiver.answer(|_| TAKEN);
        let second = ann.buy("A", 1, None).await.order().to_owned();
        receiver.await_kinds(&order, &["confirmed", "cancelled"]).await;
        receiver.await_kinds(&second, &["confirmed"]).await;
        await_error(&sale, "cannot connect: ").await;
        server.restart("").unwrap();
        let all = await_stored(&jetstream(&server, ConnectOptions::new()).await, 3).await;
        assert_eq!((all.len(), all[2].order()), (3, second.as_str()));
        for stored in &all {
            assert_eq!(stored.subject, format!("shop.orders.{}", stored.kind()));
            assert_eq!(stored.header("Content-Type"), "application/cloudevents+json");
            assert_eq!(stored.header("Nats-Msg-Id"), stored.id());
            let sent = receiver.taken().into_iter().find(|webhook| {
                (webhook.order(), webhook.kind()) == (stored.order(), stored.kind())
            });
            let (mut ours, mut theirs) = (stored.event.clone(), sent.unwrap().event);
            assert_eq!(ours["source"], "/sales/shop/spring");
            // Each sink has events of its own.
            for event in [&mut ours, &mut theirs] {
                for own in ["id", "sequence", "time"] {
                    event[own].take();
                }
            }
            assert_eq!(ours, theirs);
        }
        let error = async || sink(&sale, "nats").await.get("error").cloned();
        eventually("there is no error", async || error().await.is_none()).await;
    }
}

/// What a stream that knows an event again for this long has of an order that was cancelled, if the acknowledgement of each
/// event is lost once, and its connection with it.
async fn published_again(database: Database, duplicate_window: Duration) -> Vec<String> {
    let server = NatsServer::start("").unwrap();
    let reader = jetstream(&server, ConnectOptions::new()).await;
    create_with(&reader, duplicate_window).await;
    let lost = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&lost);
    let is_ack = |packet: &Packet<'_>| {
        let text = String::from_utf8_lossy(packet.bytes);
        packet.direction == Direction::ToClient && text.contains(r#""stream":"ORDERS""#)
    };
    let proxy = Proxy::start_with(server.address(), move |packet| {
        if is_ack(&packet) && count.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) {
            return PacketFault::Close;
        }
        PacketFault::None
    });
    let proxy = proxy.await.unwrap();
    let mut settings = stream::settings(&server);
    settings[0].1 = format!("nats://{}", proxy.address());
    let sale = sale(database, settings).await;
    let ann = sale.buyer("ann");
    let order = ordered(&ann).await;
    cancel(&ann, &order).await;
    let is_done = async || sink(&sale, "nats").await["pending"] == 0;
    eventually("both are acknowledged", async || {
        lost.load(Ordering::Relaxed) >= 4 && is_done().await
    })
    .await;
    let all = stored(&reader).await;
    assert!(all.iter().all(|stored| stored.order() == order), "{all:?}");
    all.iter().map(|stored| stored.kind().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_is_published_again_is_in_the_stream_once() {
    for database in BOTH {
        // Longer than a test.
        let kinds = published_again(database, Duration::from_hours(1)).await;
        assert_eq!(kinds, ["pending", "cancelled"], "{database:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_stream_that_knows_its_id_an_event_is_in_it_twice() {
    for database in BOTH {
        // The shortest that a server takes; the next attempt is later.
        let kinds = published_again(database, Duration::from_millis(100)).await;
        let twice = ["pending", "pending", "cancelled", "cancelled"];
        assert_eq!(kinds, twice, "{database:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_refuses_is_named_and_delivered_once_it_takes_it() {
    let users = |password: &str, publish: &str| {
        format!(
            "authorization: {{users: [{{user: admin, password: admin}}, {{user: sale, password: {password}, \
             permissions: {{publish: [\"{publish}\"], subscribe: [\"_INBOX.>\"]}}}}]}}"
        )
    };
    let admin = || ConnectOptions::with_user_and_password("admin".to_owned(), "admin".to_owned());
    let mut server = NatsServer::stopped().unwrap();
    let mut settings = stream::settings(&server);
    settings.extend([
        ("EVENTS_NATS_USERNAME", "sale".to_owned()),
        ("EVENTS_NATS_PASSWORD", "hunter2".to_owned()),
        ("EVENTS_NATS_STREAM", STREAM.to_owned()),
    ]);
    let sale = sale(Database::Sqlite, settings).await;
    let ann = sale.buyer("ann");
    let order = ordered(&ann).await;
    await_error(&sale, "cannot connect: IO error: Connection refused").await;
    server.restart(&users("other", "shop.orders.>")).unwrap();
    await_error(&sale, "cannot connect: authorization violation").await;
    server.restart(&users("hunter2", "other")).unwrap();
    await_error(&sale, "Permissions Violation for Publish to \"shop.orders.pending\"").await;
    server.restart(&users("hunter2", "shop.orders.>")).unwrap();
    await_error(&sale, "no stream has the subject").await;
    let reader = jetstream(&server, admin()).await;
    let subjects = vec!["shop.>".to_owned()];
    let other = async_nats::jetstream::stream::Config {
        name: "OTHER".to_owned(),
        subjects,
        ..Default::default()
    };
    reader.create_stream(other).await.unwrap();
    await_error(&sale, "expected stream does not match").await;

    let status = sink(&sale, "nats").await;
    assert!(status["lag_seconds"].as_f64().unwrap() > 0.0, "{status}");
    assert!(!status.to_string().contains("hunter2"), "{status}");
    let failed = r#"flashsale_event_attempts_failed_total{sink="nats"}"#;
    let metrics = sale.metrics().await;
    let failed = value(&metrics, failed);
    assert!(failed >= Some(5_u64), "{metrics}");

    reader.delete_stream("OTHER").await.unwrap();
    create(&reader).await;
    eventually("it is in the stream", async || {
        sale.execute("UPDATE failed_events SET retry_at_ms = 1").await;
        !stored(&reader).await.is_empty()
    })
    .await;
    cancel(&ann, &order).await;
    let all = await_stored(&reader, 2).await;
    assert_eq!(kinds(&all)[order.as_str()], ["pending", "cancelled"]);
}

/// Delivers an event with these settings, whose server has `configuration`.
async fn delivers(configuration: &str, login: &[(&'static str, String)], reader: ConnectOptions) {
    let server = NatsServer::start(configuration).unwrap();
    let reader = jetstream(&server, reader).await;
    create(&reader).await;
    let settings = [stream::settings(&server), login.to_vec()].concat();
    let sale = sale(Database::Sqlite, settings).await;
    let order = ordered(&sale.buyer("ann")).await;
    assert_eq!(await_stored(&reader, 1).await[0].order(), order);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sale_logs_in_by_password_token_key_and_credentials_file() {
    let (user, password) = ("sale".to_owned(), "pass word".to_owned());
    delivers(
        r#"authorization: {user: "sale", password: "pass word"}"#,
        &[("EVENTS_NATS_USERNAME", user.clone()), ("EVENTS_NATS_PASSWORD", password.clone())],
        ConnectOptions::with_user_and_password(user, password),
    )
    .await;
    let token = "a token of the tests".to_owned();
    delivers(
        r#"authorization: {token: "a token of the tests"}"#,
        &[("EVENTS_NATS_TOKEN", token.clone())],
        ConnectOptions::with_token(token),
    )
    .await;
    let key = KeyPair::new_user();
    let seed = key.seed().unwrap();
    delivers(
        &format!("authorization: {{users: [{{nkey: {}}}]}}", key.public_key()),
        &[("EVENTS_NATS_NKEY", seed.clone())],
        ConnectOptions::with_nkey(seed),
    )
    .await;
    let (configuration, file) = credentials();
    let options = ConnectOptions::with_credentials(&file).unwrap();
    delivers(&configuration, &[("EVENTS_NATS_CREDENTIALS", file)], options).await;
}

/// A server with an operator, and the credentials file of a user of one of its accounts.
fn credentials() -> (String, String) {
    let [operator, system, account, user] = [
        KeyPair::new_operator(),
        KeyPair::new_account(),
        KeyPair::new_account(),
        KeyPair::new_user(),
    ];
    let signed = |by: &KeyPair, subject: &KeyPair, claims: Value| {
        let (issuer, subject) = (by.public_key(), subject.public_key());
        let claims = json!({"jti": "1", "iat": 1, "iss": issuer, "sub": subject, "name": "a", "nats": claims});
        let parts = [json!({"typ": "JWT", "alg": "ed25519-nkey"}), claims];
        let text = parts.map(|part| URL_SAFE_NO_PAD.encode(part.to_string())).join(".");
        let signature = URL_SAFE_NO_PAD.encode(by.sign(text.as_bytes()).unwrap());
        format!("{text}.{signature}")
    };
    let claims = json!({"type": "operator", "version": 2, "system_account": system.public_key()});
    let operator_token = signed(&operator, &operator, claims);
    let limits = |storage: i64| {
        json!({"type": "account", "version": 2, "limits": {"subs": -1, "data": -1, "payload": -1,
            "imports": -1, "exports": -1, "wildcards": true, "conn": -1, "leaf": -1,
            "mem_storage": storage, "disk_storage": storage, "streams": storage, "consumer": storage}})
    };
    let [system_token, account_token] = [(&system, 0), (&account, -1)]
        .map(|(key, storage)| signed(&operator, key, limits(storage)));
    let configuration = format!(
        "operator: {operator_token}\nsystem_account: {system}\nresolver: MEMORY\n\
         resolver_preload: {{{system}: {system_token}, {account}: {account_token}}}",
        system = system.public_key(),
        account = account.public_key()
    );
    let claims = json!({"type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1});
    let token = signed(&account, &user, claims);
    let file = format!(
        "-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
        user.seed().unwrap()
    );
    (configuration, file)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_verified_and_a_server_without_tls_is_refused_if_the_url_says_so() {
    let authority = Authority::new().unwrap();
    let certificate = authority.issue("127.0.0.1", 30).unwrap();
    let files = TlsFolder::new(&certificate, authority.certificate()).unwrap();
    let path = |name: &str| files.path(name).display().to_string();
    let tls =
        format!("tls: {{cert_file: \"{}\", key_file: \"{}\"}}", path("tls.crt"), path("tls.key"));
    let mut server = NatsServer::start("").unwrap();
    let mut settings = stream::settings(&server);
    settings[0].1 = format!("tls://{}", server.address());
    let trusting = sale(
        Database::Sqlite,
        [settings.clone(), vec![("EVENTS_NATS_CA_FILE", path("ca.crt"))]].concat(),
    )
    .await;
    let order = ordered(&trusting.buyer("ann")).await;
    await_error(&trusting, "cannot connect: ").await;
    server.restart(&tls).unwrap();
    let options =
        ConnectOptions::new().add_root_certificates(Path::new(&path("ca.crt")).to_owned());
    let reader = jetstream(&server, options.require_tls(true)).await;
    create(&reader).await;
    let all = await_stored(&reader, 1).await;
    assert_eq!(all[0].order(), order);

    let strange = sale(Database::Sqlite, settings).await;
    ordered(&strange.buyer("ann")).await;
    await_error(&strange, "invalid peer certificate").await;
}
