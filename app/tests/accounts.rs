//! Sign-up, log-in and tokens.

use flashsale_app::auth::{Passwords, Role, Tokens};
use serde_json::{Value, json};
use sqlx::Connection;

use crate::common::{Answer, BOTH, Database, JWT_SECRET, SaleSpec, TestSale, eventually, value};

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

/// Number of passwords hashed so far.
async fn hashes(sale: &TestSale) -> u64 {
    value(&sale.metrics().await, "flashsale_password_hash_seconds_count").unwrap()
}

#[tokio::test]
async fn an_unknown_id_takes_the_same_work_as_a_wrong_password() {
    for database in BOTH {
        let sale = TestSale::start(SaleSpec { nodes: 1, ..SaleSpec::on(database) }).await;
        let ann = json!({"id": "ann", "password": "correct horse"});
        post(&sale, "/v1/auth/signup", &ann).await;
        for id in ["ann", "bob"] {
            let before = hashes(&sale).await;
            let body = json!({"id": id, "password": "battery staple"});
            let answer = post(&sale, "/v1/auth/login", &body).await;
            assert_eq!(answer.problem(), (401, "wrong_credentials"));
            assert_eq!(hashes(&sale).await, before + 1, "{id}");
        }
    }
}

#[tokio::test]
async fn passwords_cannot_be_guessed_and_nobody_else_is_locked_out() {
    let mut spec = SaleSpec { nodes: 1, ..SaleSpec::on(Database::Sqlite) };
    spec.settings.push(("TRUSTED_PROXIES", "1".to_owned()));
    let sale = TestSale::start(spec).await;
    let ann = json!({"id": "ann", "password": "correct horse"});
    post(&sale, "/v1/auth/signup", &ann).await;
    let log_in = async |from: &str, body: &Value| {
        let url = format!("{}/v1/auth/login", sale.replicas[0].api);
        let request = sale.client.post(url).header("x-forwarded-for", from).json(body);
        Answer::of(request.send().await.unwrap()).await
    };
    for n in 0..5 {
        let guess = json!({"id": "ann", "password": format!("password{n}")});
        assert_eq!(log_in("192.0.2.66", &guess).await.problem(), (401, "wrong_credentials"));
    }
    // From now on the right password is refused too.
    let hashed = hashes(&sale).await;
    let refused = log_in("192.0.2.66", &ann).await;
    assert_eq!(refused.problem(), (429, "too_many_attempts"));
    let seconds: u64 = refused.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=30).contains(&seconds), "{seconds}");
    assert_eq!(hashes(&sale).await, hashed);
    // The same limit holds for an unknown id.
    for n in 0..6 {
        let guess = json!({"id": "nobody", "password": format!("password{n}")});
        assert_eq!(log_in("192.0.2.67", &guess).await.status, if n < 5 { 401 } else { 429 });
    }
    // Ann's own address is not limited. Only the last entry of the header counts.
    assert_eq!(log_in("192.0.2.66, 192.0.2.1", &ann).await.status, 200);
    assert_eq!(log_in("192.0.2.1, 192.0.2.66", &ann).await.status, 429);
    let metrics = sale.metrics().await;
    for (outcome, count) in [("succeeded", 1), ("wrong_credentials", 10), ("too_many_attempts", 3)]
    {
        let line = format!("flashsale_log_ins_total{{outcome=\"{outcome}\"}} {count}");
        assert!(metrics.contains(&line), "{line}");
    }
}

#[tokio::test]
async fn ids_that_differ_in_case_only_are_one_account() {
    for database in BOTH {
        let products = json!([{"id": "1", "name": "Console", "stock": 9, "max_per_buyer": 1}]);
        let spec = SaleSpec { nodes: 1, products, ..SaleSpec::on(database) };
        let sale = TestSale::start(spec).await;
        let account = |id: &str| json!({"id": id, "password": "correct horse"});
        let made = post(&sale, "/v1/auth/signup", &account("Ann@X.org")).await;
        assert_eq!((made.status, &made.body["id"]), (201, &json!("ann@x.org")));
        let again = post(&sale, "/v1/auth/signup", &account("ann@x.ORG")).await;
        assert_eq!(again.problem(), (409, "account_exists"));
        // All spellings at the log-in are the same buyer.
        for (id, status) in [("Ann@X.org", 201), ("ann@x.org", 409), ("ANN@X.ORG", 409)] {
            let login = post(&sale, "/v1/auth/login", &account(id)).await;
            let token = login.body["access_token"].as_str().unwrap();
            assert_eq!(me(&sale, 0, token).await.body["id"], "ann@x.org");
            let url = format!("{}/v1/purchases", sale.replicas[0].api);
            let body = json!({"product_id": "1", "quantity": 1});
            let order = sale.client.post(url).bearer_auth(token).json(&body).send().await.unwrap();
            assert_eq!(order.status(), status, "{id}");
        }
        // All spellings share one budget of attempts.
        for (n, id) in ["bob", "Bob", "bOb", "boB", "BOb", "BOB"].into_iter().enumerate() {
            let answer = post(&sale, "/v1/auth/login", &account(id)).await;
            assert_eq!(answer.status, if n < 5 { 401 } else { 429 }, "{id}");
        }
    }
}

#[tokio::test]
async fn accounts_from_before_that_differ_in_case_only_go_on_apart() {
    for database in BOTH {
        let sale = TestSale::start(SaleSpec { nodes: 1, ..SaleSpec::on(database) }).await;
        for (id, password) in [("Ann", "of the first"), ("ANN", "of the second"), ("Bob", "of bob")]
        {
            made_before(&sale, id, &format!("{password} account")).await;
        }
        let log_in = async |id: &str, password: &str| {
            let body = json!({"id": id, "password": format!("{password} account")});
            let answer = post(&sale, "/v1/auth/login", &body).await;
            let token = answer.body["access_token"].as_str()?;
            Some(Tokens::new(JWT_SECRET).verify(token).unwrap().sub)
        };
        // The buyer's id is unchanged, so earlier orders and limits still count.
        assert_eq!(log_in("Ann", "of the first").await.as_deref(), Some("Ann"));
        assert_eq!(log_in("ANN", "of the second").await.as_deref(), Some("ANN"));
        assert_eq!(log_in("ann", "of the first").await.as_deref(), Some("Ann"), "the oldest");
        assert_eq!(log_in("ann", "of the second").await, None);
        assert_eq!(log_in("bob", "of bob").await.as_deref(), Some("Bob"));
        for id in ["ann", "Ann", "bob", "BOB"] {
            let body = json!({"id": id, "password": "correct horse"});
            let answer = post(&sale, "/v1/auth/signup", &body).await;
            assert_eq!(answer.problem(), (409, "account_exists"), "{id}");
        }
    }
}

/// Creates an account like the previous version did.
async fn made_before(sale: &TestSale, id: &str, password: &str) {
    let hash = Passwords::new().unwrap().hash(password.to_owned()).await.unwrap();
    let insert = "INSERT INTO accounts (id, password_hash, role) VALUES ($1, $2, 'buyer')";
    let url = sale.database_url();
    if url.starts_with("sqlite:") {
        let mut database = sqlx::SqliteConnection::connect(&url).await.unwrap();
        sqlx::query(insert).bind(id).bind(hash).execute(&mut database).await.unwrap();
    } else {
        let mut database = sqlx::PgConnection::connect(&url).await.unwrap();
        sqlx::query(insert).bind(id).bind(hash).execute(&mut database).await.unwrap();
    }
}

#[tokio::test]
async fn a_line_end_after_a_secret_is_no_part_of_it() {
    let mut spec = SaleSpec { nodes: 1, ..SaleSpec::on(Database::Sqlite) };
    spec.settings.push(("JWT_SECRET", format!("{JWT_SECRET}\r\n")));
    spec.settings.push(("ADMIN_ID", "admin\n".to_owned()));
    spec.settings.push(("ADMIN_PASSWORD", "correct horse\n".to_owned()));
    let sale = TestSale::start(spec).await;
    let (token, _) = Tokens::new(JWT_SECRET).sign("ann", Role::Buyer).unwrap();
    assert_eq!(me(&sale, 0, &token).await.status, 200);
    let admin = json!({"id": "admin", "password": "correct horse"});
    assert_eq!(post(&sale, "/v1/auth/login", &admin).await.status, 200);
}

async fn me(sale: &TestSale, replica: usize, token: &str) -> Answer {
    let url = format!("{}/v1/auth/me", sale.replicas[replica].api);
    Answer::of(sale.client.get(url).bearer_auth(token).send().await.unwrap()).await
}

#[tokio::test]
async fn the_key_is_changed_without_a_gap() {
    const NEXT: &str = "the next key of the tests, of thirty-two bytes or more";
    let mut sale = TestSale::start(SaleSpec { nodes: 1, ..SaleSpec::on(Database::Sqlite) }).await;
    let (old, _) = Tokens::new(JWT_SECRET).sign("ann", Role::Buyer).unwrap();
    let (new, _) = Tokens::new(NEXT).sign("ann", Role::Buyer).unwrap();
    assert_eq!(me(&sale, 0, &new).await.problem(), (401, "unauthenticated"));
    // The new key is first accepted, then signs, then is the only one: a new replica for each step.
    for (secret, accepted, old_status, new_status, signs) in [
        (JWT_SECRET, NEXT, 200, 200, JWT_SECRET),
        (NEXT, JWT_SECRET, 200, 200, NEXT),
        (NEXT, "", 401, 200, NEXT),
    ] {
        sale.settings.insert("JWT_SECRET", secret.to_owned());
        sale.settings.remove("JWT_ACCEPTED_SECRET");
        if !accepted.is_empty() {
            sale.settings.insert("JWT_ACCEPTED_SECRET", accepted.to_owned());
        }
        sale.add_replica().await;
        let replica = sale.replicas.len() - 1;
        sale.await_ready(replica).await;
        assert_eq!(me(&sale, replica, &old).await.status, old_status);
        assert_eq!(me(&sale, replica, &new).await.status, new_status);
        let bob = json!({"id": format!("bob{replica}"), "password": "correct horse"});
        for path in ["signup", "login"] {
            let url = format!("{}/v1/auth/{path}", sale.replicas[replica].api);
            let answer = Answer::of(sale.client.post(url).json(&bob).send().await.unwrap()).await;
            assert!(answer.status < 300, "{answer:?}");
            if let Some(token) = answer.body["access_token"].as_str() {
                assert!(Tokens::new(signs).verify(token).is_ok());
            }
        }
    }
}

#[tokio::test]
async fn tokens_of_the_identity_provider_are_accepted_and_its_keys_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("jwks.json");
    let key = || {
        let mut openssl = std::process::Command::new("openssl");
        let pem = openssl.args(["genpkey", "-algorithm", "ed25519"]).output().unwrap().stdout;
        jsonwebtoken::EncodingKey::from_ed_pem(&pem).unwrap()
    };
    let publish = |key: &jsonwebtoken::EncodingKey| {
        let jwk = jsonwebtoken::jwk::Jwk::from_encoding_key(key, jsonwebtoken::Algorithm::EdDSA);
        std::fs::write(&file, json!({"keys": [jwk.unwrap()]}).to_string()).unwrap();
    };
    let sign = |key: &jsonwebtoken::EncodingKey| {
        let claims = json!({"sub": "ann", "exp": 4_000_000_000_i64, "iss": "https://id.example"});
        let header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::EdDSA);
        jsonwebtoken::encode(&header, &claims, key).unwrap()
    };
    let [first, second] = [key(), key()];
    publish(&first);
    let mut spec = SaleSpec { nodes: 1, ..SaleSpec::on(Database::Sqlite) };
    spec.settings.push(("JWKS_FILE", file.display().to_string()));
    spec.settings.push(("JWKS_ISSUER", "https://id.example".to_owned()));
    let sale = TestSale::start(spec).await;
    let answer = me(&sale, 0, &sign(&first)).await;
    assert_eq!(answer.body, json!({"id": "idp:ann", "role": "buyer"}));
    assert_eq!(me(&sale, 0, &sign(&second)).await.problem(), (401, "unauthenticated"));
    publish(&second);
    eventually("the new key is known", async || me(&sale, 0, &sign(&second)).await.status == 200)
        .await;
    assert_eq!(me(&sale, 0, &sign(&first)).await.problem(), (401, "unauthenticated"));
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
    for path in ["/openapi.json", "/docs", "/docs/", "/docs/swagger-ui.css"] {
        let method = sale.client.post(format!("{api}{path}")).send().await.unwrap();
        assert_eq!(Answer::of(method).await.problem(), (405, "method_not_allowed"), "{path}");
    }
}
