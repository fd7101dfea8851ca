//! What a seed that runs again does: to the administrator's account, and on a database that is not
//! the one that was seeded.

use serde_json::{Value, json};
use sqlx::Connection;

use crate::common::{Answer, BOTH, Database, SaleSpec, TestSale};

fn one_node(database: Database) -> SaleSpec {
    SaleSpec { nodes: 1, ..SaleSpec::on(database) }
}

fn products() -> Value {
    json!([{"id": "1", "name": "Console", "stock": 100}])
}

async fn log_in(sale: &TestSale, password: &str) -> u16 {
    let url = format!("{}/v1/auth/login", sale.replicas[0].api);
    let body = json!({"id": "boss", "password": password});
    Answer::of(sale.client.post(url).json(&body).send().await.unwrap()).await.status
}

#[tokio::test]
async fn the_administrator_s_password_is_what_the_last_seed_was_given() {
    for database in BOTH {
        let mut sale = TestSale::start(one_node(database)).await;
        assert_eq!(log_in(&sale, "first password").await, 401, "no administrator yet");
        for (given, before) in [("first password", None), ("second password", Some("first"))] {
            sale.settings.insert("ADMIN_ID", "boss".to_owned());
            sale.settings.insert("ADMIN_PASSWORD", given.to_owned());
            for _again in 0..2 {
                sale.seed(&products()).await.unwrap();
                assert_eq!(log_in(&sale, given).await, 200, "{database:?}");
            }
            if let Some(before) = before {
                assert_eq!(log_in(&sale, &format!("{before} password")).await, 401);
            }
        }
    }
}

#[tokio::test]
async fn a_buyer_s_account_never_becomes_the_administrator_s() {
    let mut sale = TestSale::start(one_node(Database::Sqlite)).await;
    let url = format!("{}/v1/auth/signup", sale.replicas[0].api);
    let boss = json!({"id": "boss", "password": "a buyer's own"});
    assert_eq!(sale.client.post(url).json(&boss).send().await.unwrap().status(), 201);
    sale.settings.insert("ADMIN_ID", "boss".to_owned());
    sale.settings.insert("ADMIN_PASSWORD", "another one".to_owned());
    let error = sale.seed(&products()).await.unwrap_err();
    assert!(error.to_string().starts_with("ADMIN_ID: "), "{error:#}");
    assert_eq!(log_in(&sale, "a buyer's own").await, 200);
}

/// What `/sale` says of the database.
async fn database_id(sale: &TestSale) -> Value {
    sale.report().await["database"]["id"].clone()
}

async fn drop_tables(sale: &TestSale) {
    let mut postgres = sqlx::PgConnection::connect(&sale.database_url()).await.unwrap();
    let all = "DROP SCHEMA public CASCADE; CREATE SCHEMA public";
    sqlx::raw_sql(all).execute(&mut postgres).await.unwrap();
}

#[tokio::test]
async fn a_database_that_lost_everything_is_recognized_and_not_filled_again() {
    let mut sale = TestSale::start(one_node(Database::Postgres)).await;
    let seeded = database_id(&sale).await;
    let seeded = seeded.as_str().unwrap();
    assert_eq!(sale.buyer("ann").buy("1", 1, None).await.status, 201);
    sale.settings.insert("DATABASE_ID", seeded.to_owned());
    sale.seed(&products()).await.unwrap();
    assert_eq!(database_id(&sale).await, seeded, "the same after another seed");

    drop_tables(&sale).await;
    assert_eq!(database_id(&sale).await, Value::Null);
    let error = sale.seed(&products()).await.unwrap_err().to_string();
    assert!(error.starts_with("DATABASE_ID: ") && error.contains("it is empty"), "{error}");
    assert_eq!(database_id(&sale).await, Value::Null, "the seed made no tables");

    // A replica that starts makes the tables, which makes it no other database.
    sale.ledger().migrate().await.unwrap();
    let other = database_id(&sale).await;
    assert_ne!(other, seeded);
    let error = sale.seed(&products()).await.unwrap_err().to_string();
    assert!(error.contains(other.as_str().unwrap()), "{error}");
    assert_eq!(sale.ledger().products().await.unwrap(), []);

    // Accepted: the stock is put in place anew.
    sale.settings.remove("DATABASE_ID");
    sale.seed(&products()).await.unwrap();
    assert_eq!(sale.ledger().products().await.unwrap()[0].available, 100);
}

#[tokio::test]
async fn a_login_that_the_database_refuses_ends_the_seed_at_once() {
    let mut sale = TestSale::start(one_node(Database::Postgres)).await;
    let url = sale.database_url();
    let (server, _) = url.rsplit_once('/').unwrap();
    sale.settings.insert("DATABASE_URL", format!("{server}/no_such_database"));
    sale.settings.insert("SEED_TIMEOUT_SECONDS", "600".to_owned());
    let error = sale.seed(&products()).await.unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("DATABASE_URL: ") && text.contains("does not exist"), "{text}");
    assert!(error.is::<flashsale_app::config::ConfigError>(), "exit status 2: no try helps");
}
