//! The API over TLS: certificates, and clients that do not complete a handshake.

use std::sync::Arc;
use std::time::Duration;

use flashsale_app::config::ConfigError;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::common::certificates::{Authority, MountedSecret, Pair};
use crate::common::{Database, PATIENCE, SaleSpec, TestSale, eventually, value};

const REQUEST: &str = "GET /v1/sale HTTP/1.1\r\nhost: localhost\r\n\r\n";
const EXPIRES: &str = "flashsale_tls_certificate_expiration_timestamp_seconds";
const RELOAD_FAILURES: &str = "flashsale_tls_reload_failures_total";

/// A sale with a certificate from an authority of its own.
struct Shop {
    sale: TestSale,
    authority: Authority,
    secret: MountedSecret,
}

impl Shop {
    async fn start(settings: &[(&'static str, &str)]) -> Self {
        let authority = Authority::new();
        let secret = MountedSecret::new(&authority.issue(10));
        let mut spec = spec(&secret);
        spec.settings.extend(settings.iter().map(|&(name, value)| (name, value.to_owned())));
        Self { sale: TestSale::start(spec).await, authority, secret }
    }

    async fn tcp(&self) -> TcpStream {
        let address = self.sale.replicas[0].api.strip_prefix("http://").unwrap();
        TcpStream::connect(address).await.unwrap()
    }

    async fn tls(&self, versions: &[&'static SupportedProtocolVersion]) -> TlsStream<TcpStream> {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(self.authority.certificate().as_bytes()).unwrap())
            .unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let name = ServerName::try_from("localhost").unwrap();
        let connector = TlsConnector::from(Arc::new(config));
        let connected = timeout(PATIENCE, connector.connect(name, self.tcp().await)).await;
        connected.expect("the server completes the handshake").unwrap()
    }

    async fn metric(&self, name: &str) -> i64 {
        value(&self.sale.metrics().await, name).expect(name)
    }

    async fn failed_handshakes(&self, reason: &str) -> i64 {
        let labels = format!("{{reason=\"{reason}\"}}");
        self.metric(&format!("flashsale_tls_handshake_failures_total{labels}")).await
    }

    /// Waits until new connections are given this certificate.
    async fn await_certificate(&self, pair: &Pair) {
        let expected = CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap();
        eventually("the new certificate is in use", async || {
            certificate(&self.tls(&[&TLS13]).await) == expected
        })
        .await;
    }
}

fn spec(secret: &MountedSecret) -> SaleSpec {
    let mut spec = SaleSpec { nodes: 1, ..SaleSpec::on(Database::Sqlite) };
    let path = |name| secret.path(name).display().to_string();
    spec.settings.push(("TLS_CERT_FILE", path("tls.crt")));
    spec.settings.push(("TLS_KEY_FILE", path("tls.key")));
    spec
}

fn certificate(stream: &TlsStream<TcpStream>) -> CertificateDer<'static> {
    stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
}

/// Status and body of the next answer.
async fn answer<S: AsyncRead + Unpin>(stream: &mut S) -> (u16, Value) {
    let mut text = String::new();
    loop {
        let mut more = [0; 4096];
        let read = timeout(PATIENCE, stream.read(&mut more)).await;
        let length = read.expect("the server answers").unwrap();
        assert!(length > 0, "closed after {text:?}");
        text.push_str(std::str::from_utf8(&more[..length]).unwrap());
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        if length.is_some_and(|length| body.len() >= length.parse().unwrap()) {
            let status = head.split(' ').nth(1).unwrap().parse().unwrap();
            return (status, serde_json::from_str(body).unwrap());
        }
    }
}

async fn ask<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, request: &str) -> (u16, Value) {
    stream.write_all(request.as_bytes()).await.unwrap();
    answer(stream).await
}

/// Waits until the server closes the connection. A reset counts too.
async fn closed<S: AsyncRead + Unpin>(stream: &mut S) -> Vec<u8> {
    let mut rest = Vec::new();
    let closed = timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
    let _ = closed.expect("the server closes the connection");
    rest
}

#[tokio::test]
async fn a_buyer_buys_over_tls_and_the_internal_port_stays_plain() {
    let shop = Shop::start(&[]).await;
    for version in [&TLS12, &TLS13] {
        let mut buyer = shop.tls(&[version]).await;
        assert_eq!(buyer.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
        let body = json!({"product_id": "1", "quantity": 1}).to_string();
        let request = format!(
            "POST /v1/purchases HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            shop.sale.buyer("ann").token,
            body.len()
        );
        let (status, order) = ask(&mut buyer, &request).await;
        assert_eq!((status, &order["quantity"]), (201, &json!(1)));
        // The connection stays open, and a long answer arrives whole.
        let (status, document) =
            ask(&mut buyer, &REQUEST.replace("/v1/sale", "/openapi.json")).await;
        assert_eq!((status, document["openapi"].is_string()), (200, true));
    }
    let left = shop.metric(EXPIRES).await - jiff::Timestamp::now().as_second();
    assert!((9 * 86400..=10 * 86400).contains(&left), "{left} s");
    eventually("both connections are closed", async || {
        // The one that is left is the scrape's.
        shop.metric("flashsale_http_connections").await == 1
    })
    .await;
}

#[tokio::test]
async fn a_sale_without_tls_has_no_metrics_of_it() {
    let sale = TestSale::start(SaleSpec { nodes: 1, ..SaleSpec::on(Database::Sqlite) }).await;
    assert!(!sale.metrics().await.contains("flashsale_tls_"));
}

#[tokio::test]
async fn a_new_certificate_is_used_and_no_connection_is_dropped() {
    let shop = Shop::start(&[]).await;
    let mut before = shop.tls(&[&TLS13]).await;
    assert_eq!(ask(&mut before, REQUEST).await.0, 200);
    let expired = shop.metric(EXPIRES).await;
    let next = shop.authority.issue(20);
    shop.secret.replace(&next);
    shop.await_certificate(&next).await;
    assert_eq!(ask(&mut before, REQUEST).await.0, 200, "the first connection goes on");
    let later = shop.metric(EXPIRES).await - expired;
    assert!((9 * 86400..=11 * 86400).contains(&later), "{later} s");
    assert_eq!(shop.metric(RELOAD_FAILURES).await, 0);
}

#[tokio::test]
async fn a_certificate_that_cannot_be_used_does_not_replace_the_last_one() {
    let shop = Shop::start(&[]).await;
    let first = certificate(&shop.tls(&[&TLS13]).await);
    let (one, other) = (shop.authority.issue(20), shop.authority.issue(20));
    for broken in [
        Pair { certificate: "none\n".to_owned(), ..one.clone() },
        Pair { key: other.key.clone(), ..one.clone() },
    ] {
        let failures = shop.metric(RELOAD_FAILURES).await;
        shop.secret.replace(&broken);
        eventually("the failure is counted", async || {
            shop.metric(RELOAD_FAILURES).await > failures
        })
        .await;
        let mut buyer = shop.tls(&[&TLS13]).await;
        assert_eq!(certificate(&buyer), first);
        assert_eq!(ask(&mut buyer, REQUEST).await.0, 200);
    }
    shop.secret.replace(&other);
    shop.await_certificate(&other).await;
}

#[tokio::test]
async fn plain_http_is_answered_and_closed() {
    let shop = Shop::start(&[]).await;
    let mut plain = shop.tcp().await;
    let (status, body) = ask(&mut plain, REQUEST).await;
    assert_eq!((status, body["code"].as_str().unwrap()), (400, "https_required"));
    assert!(closed(&mut plain).await.is_empty());
    assert_eq!(shop.failed_handshakes("plain_http").await, 1);
    // Neither TLS nor HTTP: closed with an alert. A health check of a load balancer is no failure.
    let mut garbage = shop.tcp().await;
    garbage.write_all(&[0; 100]).await.unwrap();
    closed(&mut garbage).await;
    drop(shop.tcp().await);
    eventually("the failure is counted", async || shop.failed_handshakes("failed").await == 1)
        .await;
    assert_eq!(ask(&mut shop.tls(&[&TLS13]).await, REQUEST).await.0, 200);
    assert_eq!(shop.failed_handshakes("failed").await, 1);
}

#[tokio::test]
async fn a_handshake_that_does_not_end_is_dropped() {
    let shop = Shop::start(&[("HTTP_HEADER_TIMEOUT_SECONDS", "0.2")]).await;
    let mut silent = shop.tcp().await;
    let mut stalled = shop.tcp().await;
    stalled.write_all(b"\x16\x03\x01\x02\x00\x01").await.unwrap();
    assert!(closed(&mut silent).await.is_empty());
    assert!(closed(&mut stalled).await.is_empty());
    eventually("both are counted", async || shop.failed_handshakes("timeout").await == 2).await;
    assert_eq!(shop.metric("flashsale_http_connections_dropped_total").await, 2);
}

#[tokio::test]
async fn a_completed_handshake_begins_no_request() {
    let times = [("HTTP_HEADER_TIMEOUT_SECONDS", "2"), ("HTTP_IDLE_TIMEOUT_SECONDS", "600")];
    let shop = Shop::start(&times).await;
    let mut ahead = shop.tls(&[&TLS13]).await;
    let mut late = shop.tls(&[&TLS13]).await;
    // A browser connects ahead of its first request. The time of a header begins with its first byte: when the second
    // connection is dropped, the first one is older than that too.
    late.write_all(b"GET").await.unwrap();
    closed(&mut late).await;
    assert_eq!(ask(&mut ahead, REQUEST).await.0, 200);
}

#[tokio::test]
async fn handshakes_count_as_connections_and_hold_up_no_other() {
    let shop =
        Shop::start(&[("HTTP_HEADER_TIMEOUT_SECONDS", "600"), ("HTTP_MAX_CONNECTIONS", "9")]).await;
    let mut stalled = Vec::new();
    for _ in 0..8 {
        let mut stream = shop.tcp().await;
        stream.write_all(b"\x16\x03\x01\x02\x00\x01").await.unwrap();
        stalled.push(stream);
    }
    let mut last = shop.tls(&[&TLS13]).await;
    assert_eq!(ask(&mut last, REQUEST).await.0, 200);
    let (status, body) = ask(&mut shop.tls(&[&TLS13]).await, REQUEST).await;
    assert_eq!((status, body["code"].as_str().unwrap()), (503, "overloaded"));
    assert_eq!(shop.metric("flashsale_http_connections").await, 9 + 1, "and this scrape");
    drop(stalled);
    eventually("there is a place again", async || {
        ask(&mut shop.tls(&[&TLS13]).await, REQUEST).await.0 == 200
    })
    .await;
}

#[tokio::test]
async fn a_shutdown_waits_for_no_handshake_and_closes_idle_connections() {
    let mut shop = Shop::start(&[("HTTP_HEADER_TIMEOUT_SECONDS", "600")]).await;
    let mut stalled = shop.tcp().await;
    stalled.write_all(b"\x16\x03\x01\x02\x00\x01").await.unwrap();
    let mut idle = shop.tls(&[&TLS13]).await;
    assert_eq!(ask(&mut idle, REQUEST).await.0, 200);
    let stopping = timeout(Duration::from_secs(5), shop.sale.replicas.remove(0).stop());
    stopping.await.expect("the replica stops before its deadline for requests");
    assert!(closed(&mut stalled).await.is_empty());
    assert!(closed(&mut idle).await.is_empty());
}

#[tokio::test]
async fn files_that_cannot_be_used_at_the_start_are_refused_by_name() {
    let authority = Authority::new();
    let (one, other) = (authority.issue(10), authority.issue(10));
    let secret = MountedSecret::new(&one);
    let mut sale = TestSale::start(SaleSpec { replicas: 0, ..spec(&secret) }).await;
    for (pair, expected) in [
        (
            Pair { certificate: String::new(), ..one.clone() },
            "TLS_CERT_FILE: has no valid certificate: give a PEM file",
        ),
        (
            Pair { certificate: one.key.clone(), ..one.clone() },
            "TLS_CERT_FILE: has no valid certificate",
        ),
        (
            Pair { key: one.certificate.clone(), ..one.clone() },
            "TLS_KEY_FILE: has no private key: give a PEM file",
        ),
        (
            Pair { key: other.key, ..one },
            "TLS_KEY_FILE: cannot be used (keys may not be consistent",
        ),
    ] {
        secret.replace(&pair);
        assert_refused(&mut sale, expected).await;
    }
    std::fs::remove_file(secret.path("tls.key")).unwrap();
    assert_refused(&mut sale, "TLS_KEY_FILE: cannot read /").await;
}

async fn assert_refused(sale: &mut TestSale, expected: &str) {
    sale.add_replica().await;
    let replica = sale.replicas.pop().unwrap();
    let refused = timeout(PATIENCE, replica.task).await.expect("it does not start");
    let error = refused.unwrap().unwrap_err();
    assert!(error.is::<ConfigError>(), "{error:?}");
    assert!(error.to_string().starts_with(expected), "{error}");
}
