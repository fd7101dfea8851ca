//! Sign-up, log-in and tokens.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use common::{Answer, BOTH, Database, SaleSpec, TestSale};
use serde_json::{Value, json};

async fn post(sale: &TestSale, path: &str, body: &Value) -> Answer {
    let url = format!("{}{path}", sale.replicas[0].api);
    Answer::of(sale.client.post(url).json(body).send().await.unwrap()).await
}

#[tokio::test]
async fn sign_up_log_in_and_buy() {
    for database in BOTH {
        let sale = TestSale::start(SaleSpec { nodes: 1, ..SaleSpec::on(database) }).await;
        let ann = json!({"id": "ann", "password": "correct horse"});
        assert_eq!(post(&sale, "/v1/auth/signup", &ann).await.status, 201);
        let again = post(&sale, "/v1/auth/signup", &ann).await;
        assert_eq!(again.problem(), (409, "account_exists"));

        let login = post(&sale, "/v1/auth/login", &ann).await;
        assert_eq!((login.status, &login.body["token_type"]), (200, &json!("Bearer")));
        let token = login.body["access_token"].as_str().unwrap();
        let url = format!("{}/v1/auth/me", sale.replicas[0].api);
        let me = sale.client.get(url).bearer_auth(token).send().await.unwrap();
        assert_eq!(Answer::of(me).await.body, json!({"id": "ann", "role": "buyer"}));
        let url = format!("{}/v1/purchases", sale.replicas[0].api);
        let body = json!({"product_id": "1", "quantity": 1});
        let order = sale.client.post(url).bearer_auth(token).json(&body).send().await.unwrap();
        assert_eq!(Answer::of(order).await.body["buyer"], "ann");
    }
}

#[tokio::test]
async fn wrong_credentials_do_not_say_which_part_is_wrong() {
    let sale = TestSale::start(SaleSpec { nodes: 1, ..SaleSpec::on(Database::Sqlite) }).await;
    let ann = json!({"id": "ann", "password": "correct horse"});
    post(&sale, "/v1/auth/signup", &ann).await;
    let wrong = json!({"id": "ann", "password": "battery staple"});
    let unknown = json!({"id": "bob", "password": "battery staple"});
    let [wrong, unknown] = [
        post(&sale, "/v1/auth/login", &wrong).await,
        post(&sale, "/v1/auth/login", &unknown).await,
    ];
    assert_eq!(wrong.problem(), (401, "wrong_credentials"));
    assert_eq!(wrong.body, unknown.body);
}

#[tokio::test]
async fn bad_sign_ups_are_refused() {
    let sale = TestSale::start(SaleSpec { nodes: 1, ..SaleSpec::on(Database::Sqlite) }).await;
    for body in [
        json!({"id": "", "password": "long enough"}),
        json!({"id": "a b", "password": "long enough"}),
        json!({"id": "a\u{0}", "password": "long enough"}),
        json!({"id": "x".repeat(65), "password": "long enough"}),
        json!({"id": "ann", "password": "short"}),
        json!({"id": "ann", "password": "x".repeat(129)}),
        json!({"id": "ann"}),
        json!({"id": "ann", "password": "long enough", "role": "admin"}),
    ] {
        let answer = post(&sale, "/v1/auth/signup", &body).await;
        assert_eq!(answer.problem(), (422, "invalid_request"), "{body}");
    }
}

#[tokio::test]
async fn without_a_good_token_nothing_is_answered_or_sold() {
    let sale = TestSale::start(SaleSpec { nodes: 1, ..SaleSpec::on(Database::Sqlite) }).await;
    let api = &sale.replicas[0].api;
    for (header, code) in [
        (None, "unauthenticated"),
        (Some("Bearer"), "unauthenticated"),
        (Some("Bearer a.b.c"), "unauthenticated"),
        (Some("Basic YW5uOnB3"), "unauthenticated"),
    ] {
        for path in ["/v1/products", "/v1/products/1/stock", "/v1/auth/me", "/v1/purchases"] {
            let method = if path == "/v1/purchases" { "POST" } else { "GET" };
            let mut request = sale.client.request(method.parse().unwrap(), format!("{api}{path}"));
            if let Some(header) = header {
                request = request.header("authorization", header);
            }
            let answer = Answer::of(request.send().await.unwrap()).await;
            assert_eq!(answer.problem(), (401, code), "{path} {header:?}");
            assert_eq!(answer.headers["www-authenticate"], "Bearer");
        }
    }
    assert_eq!(sale.sold().await[0]["sold"], 0);
}

#[tokio::test]
async fn swagger_ui_and_openapi_are_served() {
    let sale = TestSale::start(SaleSpec { nodes: 1, ..SaleSpec::on(Database::Sqlite) }).await;
    let api = &sale.replicas[0].api;
    let page = sale.client.get(format!("{api}/docs/")).send().await.unwrap();
    assert!(page.text().await.unwrap().contains("swagger-ui"));
    let document = Answer::of(sale.client.get(format!("{api}/openapi.json")).send().await.unwrap());
    let document = document.await.body;
    assert_eq!(document["openapi"], "3.1.0");
    assert!(document["paths"]["/v1/purchases"]["post"]["responses"]["423"].is_object());
    let nothing = Answer::of(sale.client.get(format!("{api}/nope")).send().await.unwrap()).await;
    assert_eq!(nothing.problem(), (404, "not_found"));
    let method = sale.client.delete(format!("{api}/v1/purchases")).send().await.unwrap();
    assert_eq!(Answer::of(method).await.problem(), (405, "method_not_allowed"));
}
