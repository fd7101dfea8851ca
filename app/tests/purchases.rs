//! Buying, on both databases and five Redis nodes.

use std::collections::HashSet;
use std::time::Duration;

use futures::future::join_all;
use redlock::{Policy, QueueDiscipline};
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use testkit::Postgres;

use crate::common::{Answer, BOTH, Database, SaleSpec, TestSale, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn three_hundred_buyers_at_once_get_exactly_one_hundred() {
    for (database, order) in [(Database::Postgres, "Unordered"), (Database::Sqlite, "Fair")] {
        let settings = vec![("LOCK_ORDER", order.to_owned())];
        let spec = SaleSpec { replicas: 3, settings, ..SaleSpec::on(database) };
        let sale = TestSale::start(spec).await;
        let buyers: Vec<_> = (0..300).map(|i| sale.buyer(&format!("buyer-{i}"))).collect();
        let purchases =
            buyers.iter().enumerate().map(|(i, buyer)| buyer.buy_from(i % 3, "1", 1, None));
        let answers = join_all(purchases).await;

        let sold: Vec<&Answer> = answers.iter().filter(|answer| answer.status == 201).collect();
        let orders: HashSet<&str> = sold.iter().map(|answer| answer.order()).collect();
        let mut refused = answers.iter().filter(|answer| answer.status != 201);
        let otherwise = refused.find(|answer| answer.problem() != (409, "sold_out"));
        assert_eq!(otherwise.map(Answer::problem), None, "{database:?}");
        assert_eq!((sold.len(), orders.len()), (100, 100), "{database:?}");
        assert_eq!(sale.sold().await[0]["sold"], 100);
        sale.await_stock_on_nodes("1", "0").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_key_gives_the_same_order_from_any_replica_even_when_all_is_sold() {
    for database in BOTH {
        let products = json!([{"id": "1", "name": "Console", "stock": 1}]);
        let spec = SaleSpec { replicas: 2, products, ..SaleSpec::on(database) };
        let sale = TestSale::start(spec).await;
        let buyer = sale.buyer("ann");
        let at_once = join_all((0..10).map(|i| buyer.buy_from(i % 2, "1", 1, Some("k")))).await;
        let orders: HashSet<&str> = at_once.iter().map(Answer::order).collect();
        assert_eq!(orders.len(), 1, "{database:?}");

        let again = buyer.buy_from(1, "1", 1, Some("k")).await;
        assert!(orders.contains(again.order()));
        assert_eq!(again.headers["idempotent-replayed"], "true");
        assert_eq!(buyer.buy("1", 2, Some("k")).await.problem(), (422, "idempotency_key_reused"));
        assert_eq!(sale.buyer("bob").buy("1", 1, Some("k")).await.problem(), (409, "sold_out"));
        assert_eq!(sale.sold().await[0]["sold"], 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sold_out_is_answered_from_memory_and_keys_that_bought_are_not_forgotten() {
    let postgres = Postgres::shared().unwrap();
    let url = postgres.create_database("sold_out_from_memory").unwrap();
    let stock = |stock: i64| json!([{"id": "1", "name": "Console", "stock": stock}]);
    let settings = vec![("DATABASE_URL", url.clone())];
    let spec = SaleSpec { products: stock(1), settings, ..SaleSpec::on(Database::Sqlite) };
    let sale = TestSale::start(spec).await;
    let (ann, bob) = (sale.buyer("ann"), sale.buyer("bob"));
    let bought = ann.buy("1", 1, Some("k")).await;
    assert_eq!(bought.status, 201);

    let mut database = PgConnection::connect(&url).await.unwrap();
    let mut rename = async |from: &str, to: &str| {
        let rename = format!("ALTER TABLE {from} RENAME TO {to}");
        sqlx::raw_sql(AssertSqlSafe(rename)).execute(&mut database).await.unwrap();
    };
    loop {
        rename("orders", "hidden").await;
        let refused = bob.buy("1", 1, Some("other")).await;
        let known = ann.buy("1", 1, Some("k")).await;
        rename("hidden", "orders").await;
        assert_eq!(known.problem(), (503, "database_unavailable"), "only the database knows it");
        if refused.problem() == (409, "sold_out") {
            break;
        }
        // The first to ask has them read.
        assert_eq!(bob.buy("1", 1, Some("other")).await.problem(), (409, "sold_out"));
    }
    assert_eq!(ann.buy("1", 1, Some("k")).await.order(), bought.order());

    sale.seed(&stock(2)).await.unwrap();
    eventually("bob gets the unit that came", async || {
        bob.buy("1", 1, Some("b")).await.status == 201
    })
    .await;
    assert_eq!(bob.buy("1", 1, Some("b")).await.headers["idempotent-replayed"], "true");
    assert_eq!(ann.buy("1", 1, Some("k")).await.order(), bought.order());
}

#[tokio::test(flavor = "multi_thread")]
async fn many_products_at_once_sell_exactly_their_stocks() {
    for database in BOTH {
        let products: Vec<_> = (0..12)
            .map(|i| {
                // Some are decided one by one.
                let limit = (i % 4 == 0).then_some(1);
                let id = format!("p{i}");
                json!({"id": id, "name": "Game", "stock": 5, "max_per_buyer": limit})
            })
            .collect();
        let products = json!(products);
        let spec = SaleSpec { products, replicas: 2, ..SaleSpec::on(database) };
        let sale = TestSale::start(spec).await;
        let buyers: Vec<_> = (0..8).map(|i| sale.buyer(&format!("buyer-{i}"))).collect();
        let ids: Vec<String> = (0..12).map(|i| format!("p{i}")).collect();
        let purchases = buyers.iter().enumerate().flat_map(|(i, buyer)| {
            ids.iter().map(move |id| buyer.buy_from(i % 2, id, 1, Some(id.as_str())))
        });
        let answers = join_all(purchases).await;
        let sold = answers.iter().filter(|answer| answer.status == 201).count();
        let refused = answers.iter().filter(|answer| answer.status != 201);
        assert!(refused.clone().all(|answer| answer.problem() == (409, "sold_out")));
        assert_eq!((sold, refused.count()), (60, 36), "{database:?}");
        for (product, id) in sale.sold().await.as_array().unwrap().iter().zip(0..) {
            assert_eq!(product["sold"], 5, "{database:?} {id}");
        }
        for id in &ids {
            sale.await_stock_on_nodes(id, "0").await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_key_for_two_products_at_once_buys_one_of_them_and_harms_nobody() {
    for database in BOTH {
        let products = json!([
            {"id": "1", "name": "Console", "stock": 50},
            {"id": "2", "name": "Game", "stock": 50},
        ]);
        let sale = TestSale::start(SaleSpec { products, ..SaleSpec::on(database) }).await;
        let (ann, bob) = (sale.buyer("ann"), sale.buyer("bob"));
        for round in 0..10 {
            let key = format!("k{round}");
            let (one, two, other) = tokio::join!(
                ann.buy("1", 1, Some(&key)),
                ann.buy("2", 1, Some(&key)),
                bob.buy("1", 1, None),
            );
            let mut statuses = [one.status, two.status];
            statuses.sort_unstable();
            assert_eq!(statuses, [201, 422], "{database:?} {one:?} {two:?}");
            assert_eq!(other.status, 201, "{other:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_per_buyer_holds_across_replicas() {
    for database in BOTH {
        let products = json!([{"id": "1", "name": "Console", "stock": 100, "max_per_buyer": 2}]);
        let spec = SaleSpec { replicas: 2, products, ..SaleSpec::on(database) };
        let sale = TestSale::start(spec).await;
        let ann = sale.buyer("ann");
        assert_eq!(ann.buy("1", 3, None).await.problem(), (409, "limit_reached"));
        let answers = join_all((0..10).map(|i| ann.buy_from(i % 2, "1", 1, None))).await;
        let sold = answers.iter().filter(|answer| answer.status == 201).count();
        assert_eq!(sold, 2, "{database:?}");
        assert_eq!(sale.buyer("bob").buy("1", 2, None).await.status, 201);
    }
}

#[tokio::test]
async fn bad_purchases_are_refused_with_a_stable_code_and_sell_nothing() {
    let sale = TestSale::start(SaleSpec::on(Database::Sqlite)).await;
    let buyer = sale.buyer("ann");
    let bodies = [
        (r#"{"product_id": "1", "quantity": 0}"#, 422, "invalid_request"),
        (r#"{"product_id": "1", "quantity": -1}"#, 422, "invalid_request"),
        (r#"{"product_id": "1", "quantity": 1.5}"#, 422, "invalid_request"),
        (r#"{"product_id": "1", "quantity": 1000000000000}"#, 422, "invalid_request"),
        (r#"{"product_id": "1", "quantity": 1e400}"#, 400, "invalid_json"),
        (r#"{"product_id": "1", "quantity": "1"}"#, 422, "invalid_request"),
        (r#"{"product_id": null}"#, 422, "invalid_request"),
        (r#"{"quantity": 1}"#, 422, "invalid_request"),
        (r#"{"product_id": "1", "quantty": 1}"#, 422, "invalid_request"),
        (r#"{"product_id": "2", "quantity": 1}"#, 404, "unknown_product"),
        (r#"{"product_id": "1\nlock:x", "quantity": 1}"#, 404, "unknown_product"),
        ("not json", 400, "invalid_json"),
        ("", 400, "invalid_json"),
        ("[]", 422, "invalid_request"),
    ];
    for (body, status, code) in bodies {
        let request = buyer.request(0, "POST", "/v1/purchases");
        let request = request.header("content-type", "application/json").body(body);
        let answer = Answer::of(request.send().await.unwrap()).await;
        assert_eq!(answer.problem(), (status, code), "{body}");
    }
    let untyped = buyer.request(0, "POST", "/v1/purchases").body("{}").send().await.unwrap();
    assert_eq!(Answer::of(untyped).await.problem(), (415, "unsupported_media_type"));
    let large = buyer.request(0, "POST", "/v1/purchases").json(&"x".repeat(100_000));
    let large = Answer::of(large.send().await.unwrap()).await;
    assert_eq!(large.problem(), (413, "body_too_large"));
    let long = "k".repeat(256);
    for key in ["", "a b", &long] {
        let answer = buyer.buy("1", 1, Some(key)).await;
        assert_eq!(answer.problem(), (422, "invalid_request"), "{key:?}");
    }
    let long_id = buyer.buy(&"1".repeat(64), 1, None).await;
    assert_eq!(long_id.problem(), (422, "invalid_request"));
    let typed = buyer.request(0, "POST", "/v1/purchases");
    let typed = typed.header("content-type", "application/json; charset=utf-8");
    let typed = typed.body(r#"{"product_id": "2"}"#).send().await.unwrap();
    assert_eq!(Answer::of(typed).await.problem(), (404, "unknown_product"));
    let path = buyer.request(0, "GET", "/v1/products/%FF/stock").send().await.unwrap();
    assert_eq!(Answer::of(path).await.problem(), (422, "invalid_request"));
    assert_eq!(sale.sold().await[0]["sold"], 0);
}

#[tokio::test]
async fn a_product_id_may_be_a_number() {
    let sale = TestSale::start(SaleSpec::on(Database::Sqlite)).await;
    let request = sale.buyer("ann").request(0, "POST", "/v1/purchases");
    let answer = request.json(&json!({"product_id": 1, "quantity": 1})).send().await.unwrap();
    let answer = Answer::of(answer).await;
    assert_eq!((answer.status, &answer.body["product_id"]), (201, &json!("1")));
}

#[tokio::test]
async fn a_large_order_does_not_keep_smaller_ones_from_the_rest() {
    let sale = TestSale::start(SaleSpec::on(Database::Sqlite)).await;
    let buyer = sale.buyer("ann");
    assert_eq!(buyer.buy("1", 60, None).await.status, 201);
    assert_eq!(buyer.buy("1", 60, None).await.problem(), (409, "sold_out"));
    assert_eq!(buyer.buy("1", 40, None).await.status, 201);
    assert_eq!(buyer.stock("1").await, 0);
}

/// The replica before left no unit, so nothing is decided under the lock.
#[tokio::test(flavor = "multi_thread")]
async fn who_waited_while_the_last_unit_was_sold_is_refused_without_a_step_of_the_database() {
    let products = json!([{"id": "1", "name": "Console", "stock": 2}]);
    let settings = vec![("LOCK_ORDER", "Fair".to_owned())];
    let spec = SaleSpec { products, settings, ..SaleSpec::on(Database::Sqlite) };
    let sale = TestSale::start(spec).await;
    let (ann, bob) = (sale.buyer("ann"), sale.buyer("bob"));
    let bought = ann.buy("1", 1, Some("k")).await;
    let fence = sale.query("SELECT CAST(fence AS TEXT) FROM stock").await;
    let policy = Policy {
        wait_timeout: Duration::from_secs(20),
        lease_time: Duration::from_secs(2),
        discipline: QueueDiscipline::Fair,
    };
    let lease = sale.redlock().await.acquire("stock:1", policy).await.unwrap();
    lease.keep_extended();
    let newest = || -> u64 {
        let ticket = sale.nodes[0].get("ticket:stock:1").unwrap();
        ticket.unwrap().parse().unwrap()
    };
    let before = newest();
    let releasing = async {
        eventually("both wait", async || newest() >= before + 2).await;
        // Of a sale that the database does not know of, so that its answer would be another one.
        lease.release_everywhere(&[("stock:1", "0".to_owned())]).await;
    };
    let (again, refused, ()) =
        tokio::join!(ann.buy("1", 1, Some("k")), bob.buy("1", 1, None), releasing);
    assert_eq!(again.order(), bought.order());
    assert_eq!(again.headers["idempotent-replayed"], "true");
    assert_eq!(refused.problem(), (409, "sold_out"));
    assert_eq!(sale.query("SELECT CAST(fence AS TEXT) FROM stock").await, fence);
}

#[tokio::test]
async fn nothing_is_sold_outside_the_window() {
    let windows = [
        ("SALE_STARTS_AT", "2999-01-01T00:00:00Z", true),
        ("SALE_ENDS_AT", "2020-01-01T00:00:00Z", false),
    ];
    for (setting, time, worth_retrying) in windows {
        let spec = SaleSpec {
            nodes: 1,
            settings: vec![(setting, time.to_owned())],
            ..SaleSpec::on(Database::Sqlite)
        };
        let sale = TestSale::start(spec).await;
        let answer = sale.buyer("ann").buy("1", 1, Some("k")).await;
        assert_eq!(answer.problem(), (403, "sale_not_open"));
        assert_eq!(answer.headers.contains_key("retry-after"), worth_retrying);
        assert_eq!(sale.sold().await[0]["sold"], 0);
    }
}

#[tokio::test]
async fn one_node_without_redlock_sells_as_well() {
    let spec = SaleSpec {
        settings: vec![("USE_REDLOCK", "false".to_owned())],
        ..SaleSpec::on(Database::Sqlite)
    };
    let sale = TestSale::start(spec).await;
    assert_eq!(sale.buyer("ann").buy("1", 1, None).await.status, 201);
    assert_eq!(sale.nodes[0].get("stock:1").unwrap().as_deref(), Some("99"));
    assert_eq!(sale.nodes[1].get("stock:1").unwrap(), None);
}
