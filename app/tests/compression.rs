//! What is compressed, for whom, and what never is.

use std::io::Read;

use flate2::read::GzDecoder;
use reqwest::Response;
use reqwest::header::{ACCEPT_ENCODING, CONTENT_LENGTH, ETAG, IF_NONE_MATCH, VARY};
use serde_json::{Value, json};

use crate::common::{Database, SaleSpec, TestSale};

async fn sale_of(products: usize) -> TestSale {
    let product =
        |id: usize| json!({"id": format!("p{id}"), "name": format!("Product {id}"), "stock": 100});
    let products = json!((0..products).map(product).collect::<Vec<Value>>());
    TestSale::start(SaleSpec { nodes: 1, products, ..SaleSpec::on(Database::Sqlite) }).await
}

async fn get(sale: &TestSale, path: &str, accepted: &str) -> Response {
    let url = format!("{}{path}", sale.replicas[0].api);
    sale.client.get(url).header(ACCEPT_ENCODING, accepted).send().await.unwrap()
}

fn is_compressed(response: &Response) -> bool {
    response.headers().get("content-encoding").is_some_and(|encoding| encoding == "gzip")
}

fn varies(response: &Response) -> bool {
    let fields = response.headers().get_all(VARY).iter().map(|field| field.to_str().unwrap());
    let named = fields.filter(|field| field.contains("accept-encoding")).count();
    assert!(named < 2, "once is enough");
    named == 1
}

async fn expanded(response: Response) -> Vec<u8> {
    let compressed = response.bytes().await.unwrap();
    let mut expanded = Vec::new();
    GzDecoder::new(&compressed[..]).read_to_end(&mut expanded).unwrap();
    expanded
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_scripts_styles_and_documents_are_compressed_for_those_who_accept_it() {
    let sale = sale_of(1).await;
    let bundle = "/docs/swagger-ui-bundle.js";
    for path in
        ["/", "/admin", "/app.js", "/common.js", "/admin.js", "/app.css", "/openapi.json", bundle]
    {
        let plain = get(&sale, path, "br, zstd").await;
        assert!(!is_compressed(&plain) && varies(&plain), "{path}");
        let plain_tag = plain.headers().get(ETAG).cloned();
        let plain = plain.bytes().await.unwrap();
        let compressed = get(&sale, path, "br, gzip;q=0.5").await;
        assert!(is_compressed(&compressed) && varies(&compressed), "{path}");
        let tag = compressed.headers().get(ETAG).cloned();
        let length: usize = compressed.headers()[CONTENT_LENGTH].to_str().unwrap().parse().unwrap();
        assert!(length < plain.len() / 2, "{path}: {length} of {}", plain.len());

        let url = format!("{}{path}", sale.replicas[0].api);
        let head = sale.client.head(&url).header(ACCEPT_ENCODING, "gzip").send().await.unwrap();
        assert!(is_compressed(&head) && varies(&head), "{path}");
        assert_eq!(head.headers()[CONTENT_LENGTH].to_str().unwrap(), length.to_string());
        assert!(expanded(compressed).await == plain, "{path}");

        assert!(tag.is_none() || tag != plain_tag, "{path}");
        if let Some(tag) = tag {
            for (accepted, status) in [("gzip", 304), ("identity", 200)] {
                let request = sale.client.get(&url).header(ACCEPT_ENCODING, accepted);
                let again = request.header(IF_NONE_MATCH, &tag).send().await.unwrap();
                assert_eq!(again.status(), status, "{path} {accepted}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn large_answers_are_compressed_and_small_ones_are_not() {
    let (small, large) = (sale_of(2).await, sale_of(60).await);
    let answer = get(&small, "/v1/sale", "gzip").await;
    assert!(!is_compressed(&answer) && varies(&answer));
    let answer = get(&large, "/v1/sale", "identity").await;
    assert!(!is_compressed(&answer) && varies(&answer));
    let plain: Value = answer.json().await.unwrap();
    let answer = get(&large, "/v1/sale", "gzip").await;
    assert!(is_compressed(&answer) && varies(&answer));
    let compressed: Value = serde_json::from_slice(&expanded(answer).await).unwrap();
    assert_eq!(compressed["products"], plain["products"]);

    let ann = large.buyer("ann");
    for _ in 0..8 {
        ann.buy("p0", 1, None).await.order();
    }
    for (buyer, path) in
        [(&ann, "/v1/products"), (&ann, "/v1/orders"), (&large.admin("root"), "/v1/admin/overview")]
    {
        let request = buyer.request(0, "GET", path).header(ACCEPT_ENCODING, "gzip");
        let answer = request.send().await.unwrap();
        assert!(is_compressed(&answer), "{path}");
        assert!(serde_json::from_slice::<Value>(&expanded(answer).await).is_ok(), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn purchases_access_tokens_and_events_are_never_compressed() {
    let sale = sale_of(60).await;
    let mut events = get(&sale, "/v1/sale/events", "gzip").await;
    assert!(!is_compressed(&events) && !varies(&events));
    let mut text = String::new();
    while !text.contains("event: sale") {
        text.push_str(std::str::from_utf8(&events.chunk().await.unwrap().unwrap()).unwrap());
    }
    let credentials = json!({"id": "ann", "password": "correct horse"});
    let purchase = json!({"product_id": "p1", "quantity": 1});
    let order = json!({"items": [{"product_id": "p1", "quantity": 1}]});
    let ann = sale.buyer("ann");
    for (path, body, status) in [
        ("/v1/auth/signup", &credentials, 201),
        ("/v1/auth/login", &credentials, 200),
        ("/v1/purchases", &purchase, 201),
        ("/v1/orders", &order, 201),
    ] {
        let request = ann.request(0, "POST", path).header(ACCEPT_ENCODING, "gzip").json(body);
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), status, "{path}");
        // No layer that compresses sees them, however long they are.
        assert!(!is_compressed(&answer) && !varies(&answer), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_is_in_the_language_that_is_asked_for() {
    let sale = sale_of(1).await;
    let url = format!("{}/", sale.replicas[0].api);
    let mut tags = Vec::new();
    for (languages, cookie, expected) in [
        ("ko-KR,ko;q=0.9,en;q=0.8", "", "ko"),
        ("en-US", "", "en"),
        ("en", "a=b; lang=ko", "ko"),
        ("de", "", "en"),
    ] {
        let request = sale.client.get(&url).header("accept-language", languages);
        let answer = request.header("cookie", cookie).send().await.unwrap();
        assert_eq!(answer.headers()[VARY], "accept-encoding, accept-language, cookie");
        assert_eq!(answer.headers()["content-language"], expected);
        tags.push(answer.headers()[ETAG].clone());
        let page = answer.text().await.unwrap();
        assert!(page.contains(&format!("<html lang=\"{expected}\">")), "{languages} {cookie}");
    }
    assert_eq!((&tags[0], &tags[1]), (&tags[2], &tags[3]));
    assert_ne!(tags[0], tags[1]);
}
