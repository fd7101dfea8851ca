//! Clients that are slow, greedy or speak no HTTP, on raw sockets.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::common::{Answer, Database, SaleSpec, TestSale, eventually, value};

/// A sale with short timeouts for these settings, and timeouts longer than any test for the rest.
async fn sale(short: &[&'static str]) -> TestSale {
    let mut spec = SaleSpec { nodes: 1, ..SaleSpec::on(Database::Sqlite) };
    for name in
        ["HTTP_HEADER_TIMEOUT_SECONDS", "HTTP_BODY_TIMEOUT_SECONDS", "HTTP_IDLE_TIMEOUT_SECONDS"]
    {
        let seconds = if short.contains(&name) { "0.2" } else { "600" };
        spec.settings.push((name, seconds.to_owned()));
    }
    TestSale::start(spec).await
}

async fn connect(sale: &TestSale) -> TcpStream {
    TcpStream::connect(sale.replicas[0].api.strip_prefix("http://").unwrap()).await.unwrap()
}

/// Reads until the server closes the connection.
async fn rest(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    let closed = timeout(Duration::from_secs(30), stream.read_to_end(&mut text)).await;
    // A reset counts as closed too.
    let _ = closed.expect("the server closes the connection");
    String::from_utf8(text).unwrap()
}

/// Reads the next answer on a connection that stays open.
async fn answer(stream: &mut TcpStream) -> String {
    let mut text = String::new();
    loop {
        let mut more = [0; 4096];
        let read = timeout(Duration::from_secs(30), stream.read(&mut more)).await;
        let length = read.expect("the server answers").unwrap();
        assert!(length > 0, "closed after {text:?}");
        text.push_str(std::str::from_utf8(&more[..length]).unwrap());
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if length.is_some_and(|length| body.len() >= length.parse().unwrap()) {
                return text;
            }
        }
    }
}

fn problem(answer: &str) -> (u16, String) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("content-type: application/problem+json"), "{answer}");
    let body: Value = serde_json::from_str(body).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    assert_eq!(body["status"], status);
    (status, body["code"].as_str().unwrap().to_owned())
}

async fn still_sells(sale: &TestSale) {
    assert_eq!(sale.buyer("ann").buy("1", 1, None).await.status, 201);
}

async fn dropped(sale: &TestSale) -> String {
    value(&sale.metrics().await, "flashsale_http_connections_dropped_total").unwrap()
}

#[tokio::test]
async fn a_header_that_does_not_end_is_not_waited_for() {
    let sale = sale(&["HTTP_HEADER_TIMEOUT_SECONDS"]).await;
    let mut stalled = connect(&sale).await;
    stalled.write_all(b"GET /v1/products HTTP/1.1\r\nhost: a\r\n").await.unwrap();
    // A client that sends a byte now and then times out too.
    let (mut reading, mut writing) = connect(&sale).await.into_split();
    let trickle = tokio::spawn(async move {
        writing.write_all(b"GET / HTTP/1.1\r\n").await?;
        loop {
            writing.write_all(b"x").await?;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        #[expect(unreachable_code, reason = "says what the error is")]
        std::io::Result::Ok(())
    });
    still_sells(&sale).await;
    assert_eq!(rest(&mut stalled).await, "");
    let mut nothing = Vec::new();
    let ended = timeout(Duration::from_secs(30), reading.read_to_end(&mut nothing)).await;
    let _ = ended.expect("the server closes the connection");
    assert!(timeout(Duration::from_secs(30), trickle).await.unwrap().unwrap().is_err());
    assert_eq!(dropped(&sale).await, "2");
    still_sells(&sale).await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_one_in_use_is_not() {
    let sale = sale(&["HTTP_IDLE_TIMEOUT_SECONDS"]).await;
    let mut silent = connect(&sale).await;
    let mut used = connect(&sale).await;
    let request = b"GET /openapi.json HTTP/1.1\r\nhost: a\r\n\r\n";
    used.write_all(request).await.unwrap();
    assert!(answer(&mut used).await.starts_with("HTTP/1.1 200"));
    assert_eq!(rest(&mut silent).await, "");
    assert_eq!(rest(&mut used).await, "");
}

#[tokio::test]
async fn a_body_that_does_not_come_is_answered_with_408() {
    let sale = sale(&["HTTP_BODY_TIMEOUT_SECONDS"]).await;
    for path in ["/v1/auth/login", "/v1/auth/signup"] {
        let mut slow = connect(&sale).await;
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n\
             content-length: 100\r\n\r\n{{"
        );
        slow.write_all(head.as_bytes()).await.unwrap();
        assert_eq!(problem(&rest(&mut slow).await), (408, "request_timeout".to_owned()));
    }
    still_sells(&sale).await;
}

#[tokio::test]
async fn headers_and_bodies_have_bounds() {
    let sale = sale(&[]).await;
    let long = "x".repeat(17 * 1024);
    let many = "x: 1\r\n".repeat(120);
    for (request, status) in [
        (format!("GET / HTTP/1.1\r\nhost: a\r\nx: {long}\r\n\r\n"), "431"),
        (format!("GET /{long} HTTP/1.1\r\nhost: a\r\n\r\n"), "431"),
        (format!("GET / HTTP/1.1\r\nhost: a\r\n{many}\r\n"), "431"),
    ] {
        let mut greedy = connect(&sale).await;
        greedy.write_all(request.as_bytes()).await.unwrap();
        let answer = rest(&mut greedy).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
    }
    let large = "x".repeat(65 * 1024);
    let body = json!({"id": "ann", "password": large}).to_string();
    for length in [format!("content-length: {}", body.len()), "transfer-encoding: chunked".into()] {
        let chunked = length.starts_with("transfer");
        let body = if chunked { format!("{:x}\r\n{body}\r\n", body.len()) } else { body.clone() };
        let head = format!(
            "POST /v1/auth/login HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n\
             {length}\r\n\r\n{body}"
        );
        let mut greedy = connect(&sale).await;
        greedy.write_all(head.as_bytes()).await.unwrap();
        let answer = answer(&mut greedy).await;
        assert_eq!(problem(&answer), (413, "body_too_large".to_owned()));
    }
    still_sells(&sale).await;
}

#[tokio::test]
async fn garbage_harms_nobody() {
    let sale = sale(&["HTTP_HEADER_TIMEOUT_SECONDS"]).await;
    let hello = [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], &[0xAA; 500]].concat();
    for garbage in [
        &hello[..],
        b"\0\0\0\0\0\0\0\0\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /v1/purchases HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\n",
        b"POST /v1/purchases HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        b"POST /v1/purchases HTTP/1.1\r\nhost: a\r\nx : y\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        let mut stream = connect(&sale).await;
        stream.write_all(garbage).await.unwrap();
        let answer = rest(&mut stream).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{answer}");
    }
    // Two lengths: a proxy in front may use the other one.
    let mut smuggler = connect(&sale).await;
    let request = "POST /v1/auth/login HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\
                   content-length: 4\r\n\r\n0\r\n\r\nGET /openapi.json HTTP/1.1\r\nhost: a\r\n\r\n";
    smuggler.write_all(request.as_bytes()).await.unwrap();
    let answer = rest(&mut smuggler).await;
    assert!(!answer.contains("200 OK"), "{answer}");
    still_sells(&sale).await;
}

#[tokio::test]
async fn connections_are_bounded_and_the_next_is_refused() {
    let mut spec = SaleSpec { nodes: 1, ..SaleSpec::on(Database::Sqlite) };
    spec.settings.push(("HTTP_MAX_CONNECTIONS", "3".to_owned()));
    let sale = TestSale::start(spec).await;
    let request = b"GET /nope HTTP/1.1\r\nhost: a\r\n\r\n";
    let mut open = Vec::new();
    for _ in 0..3 {
        let mut stream = connect(&sale).await;
        stream.write_all(request).await.unwrap();
        assert_eq!(problem(&answer(&mut stream).await), (404, "not_found".to_owned()));
        open.push(stream);
    }
    let mut refused = connect(&sale).await;
    refused.write_all(request).await.unwrap();
    let text = answer(&mut refused).await;
    assert_eq!(problem(&text), (503, "overloaded".to_owned()));
    assert!(text.contains("\r\nretry-after: 1\r\n"), "{text}");
    // Open connections keep working, and a closed one makes room for the next.
    for stream in &mut open {
        stream.write_all(request).await.unwrap();
        assert_eq!(problem(&answer(stream).await).0, 404);
    }
    open.clear();
    eventually("there is a place again", async || {
        let url = format!("{}/nope", sale.replicas[0].api);
        sale.client.get(url).send().await.is_ok_and(|answer| answer.status() == 404)
    })
    .await;
}

#[tokio::test]
async fn a_shutdown_answers_what_is_under_way_and_waits_for_nobody_else() {
    let mut sale = sale(&[]).await;
    let mut idle = connect(&sale).await;
    idle.write_all(b"GET /nope HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    answer(&mut idle).await;
    let mut under_way = connect(&sale).await;
    let body = json!({"id": "ann", "password": "correct horse"}).to_string();
    let head = format!(
        "POST /v1/auth/signup HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n\
         expect: 100-continue\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    under_way.write_all(head.as_bytes()).await.unwrap();
    // The handler is reading the body.
    let mut go_on = [0; 25];
    under_way.read_exact(&mut go_on).await.unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");

    let stopping = tokio::spawn(sale.replicas.remove(0).stop());
    assert_eq!(rest(&mut idle).await, "");
    assert!(!stopping.is_finished());
    under_way.write_all(body.as_bytes()).await.unwrap();
    let answer = rest(&mut under_way).await;
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    timeout(Duration::from_secs(30), stopping).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_client_that_does_not_read_is_dropped() {
    let sale = sale(&["HTTP_IDLE_TIMEOUT_SECONDS"]).await;
    let (_reading, mut writing) = connect(&sale).await.into_split();
    // Until the buffers are full of answers, and then of requests.
    let requests = tokio::spawn(async move {
        let request = b"GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nhost: a\r\n\r\n";
        while writing.write_all(request).await.is_ok() {}
    });
    timeout(Duration::from_secs(30), requests).await.expect("the connection is closed").unwrap();
    eventually("it is counted", async || dropped(&sale).await != "0").await;
    let url = format!("{}/nope", sale.replicas[0].api);
    assert_eq!(Answer::of(sale.client.get(url).send().await.unwrap()).await.status, 404);
}
