//! Products made, changed, restocked and deleted by administrators, in both stores.

use futures::future::join_all;
use ledger::orders::{OrderState, OrderedUnits, UnitCount};
use serde_json::{Value, json};

use crate::common::{Answer, BOTH, Database, SaleSpec, TestSale, eventually, value};

async fn await_no_key_on_nodes(sale: &TestSale, product: &str) {
    let key = format!("stock:{product}");
    eventually("no node has the stock", async || {
        sale.nodes.iter().all(|node| node.get(&key).unwrap().is_none())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_product_is_made_changed_restocked_and_deleted_in_both_stores() {
    for database in BOTH {
        let spec = SaleSpec { replicas: 2, products: json!([]), ..SaleSpec::on(database) };
        let sale = TestSale::start(spec).await;
        let (admin, ann) = (sale.admin("admin"), sale.buyer("ann"));

        let game = json!({"id": "game", "name": "Game", "stock": 2, "max_per_buyer": 1});
        let made = admin.call("POST", "/v1/products", Some(&game)).await;
        let expected =
            json!({"id": "game", "name": "Game", "stock": 2, "remaining": 2, "max_per_buyer": 1});
        assert_eq!((made.status, &made.body), (201, &expected), "{database:?}");
        sale.await_stock_on_nodes("game", "2").await;
        let again = admin.call("POST", "/v1/products", Some(&game)).await;
        assert_eq!(again.problem(), (409, "product_exists"));

        ann.buy("game", 1, None).await.order();
        assert_eq!(ann.buy("game", 1, None).await.problem(), (409, "limit_reached"));
        let restock = json!({"add": 0});
        let soon = admin.request(1, "POST", "/v1/products/game/restock").json(&restock);
        let soon = soon.send().await.unwrap().status();
        assert_eq!(soon, 422, "the other replica knows of it as soon as an administrator asks");
        let terms = json!({"name": "The game", "max_per_buyer": 2, "wait_timeout_ms": 9000});
        let revised = admin.call("PUT", "/v1/products/game", Some(&terms)).await;
        assert_eq!((revised.status, &revised.body["name"]), (200, &json!("The game")));
        assert_eq!(revised.body["remaining"], 1);
        ann.buy("game", 1, None).await.order();
        assert_eq!(sale.buyer("bob").buy("game", 1, None).await.problem(), (409, "sold_out"));

        let restock = json!({"add": 3, "from": 2});
        let restocked = admin.call("POST", "/v1/products/game/restock", Some(&restock)).await;
        assert_eq!(restocked.status, 200, "{restocked:?}");
        assert_eq!(
            (&restocked.body["stock"], &restocked.body["remaining"]),
            (&json!(5), &json!(3))
        );
        sale.await_stock_on_nodes("game", "3").await;
        let repeated = admin.call("POST", "/v1/products/game/restock", Some(&restock)).await;
        assert_eq!(repeated.problem(), (409, "stock_changed"), "nothing is added twice");
        let bob = sale.buyer("bob");
        eventually("the other replica knows of the product", async || {
            bob.buy_from(1, "game", 1, Some("first")).await.status == 201
        })
        .await;

        assert_eq!(admin.call("DELETE", "/v1/products/game", None).await.status, 204);
        await_no_key_on_nodes(&sale, "game").await;
        for replica in 0..2 {
            eventually("it cannot be bought", async || {
                sale.buyer("eve").buy_from(replica, "game", 1, None).await.status == 404
            })
            .await;
        }
        await_no_key_on_nodes(&sale, "game").await;
        assert_eq!(sale.sold().await, json!([]));
        assert!(!sale.metrics().await.contains("product=\"game\""));
        for (method, path) in [("DELETE", ""), ("PUT", ""), ("POST", "/restock")] {
            let body = if path.is_empty() { &terms } else { &json!({"add": 1}) };
            let gone = admin.call(method, &format!("/v1/products/game{path}"), Some(body)).await;
            assert_eq!(gone.problem(), (404, "unknown_product"));
        }

        // Its orders are still there: the same product again goes on from them.
        let again = admin.call("POST", "/v1/products", Some(&game)).await;
        assert_eq!((&again.body["stock"], &again.body["remaining"]), (&json!(5), &json!(2)));
        sale.await_stock_on_nodes("game", "2").await;
        assert_eq!(ann.buy("game", 1, None).await.problem(), (409, "limit_reached"));
        assert_eq!(sale.sold().await[0]["sold"], 3);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn purchases_at_the_time_of_a_deletion_are_sold_or_refused_and_leave_no_stock_behind() {
    for (database, setting, value, nodes) in [
        (Database::Postgres, "LOCK_ORDER", "Fair", 5),
        (Database::Sqlite, "LOCK_ORDER", "Unordered", 5),
        (Database::Postgres, "STRATEGY", "Atomic", 1),
        (Database::Sqlite, "STRATEGY", "Atomic", 1),
    ] {
        let settings = vec![(setting, value.to_owned())];
        let spec = SaleSpec { replicas: 2, nodes, settings, ..SaleSpec::on(database) };
        let sale = TestSale::start(spec).await;
        let buyers: Vec<_> = (0..40).map(|i| sale.buyer(&format!("buyer-{i}"))).collect();
        let purchases =
            join_all(buyers.iter().enumerate().map(|(i, b)| b.buy_from(i % 2, "1", 1, None)));
        let admin = sale.admin("admin");
        let (answers, deleted) =
            tokio::join!(purchases, admin.call("DELETE", "/v1/products/1", None));
        assert_eq!(deleted.status, 204, "{deleted:?}");
        let sold = answers.iter().filter(|answer| answer.status == 201).count();
        let refused = answers.iter().filter(|answer| answer.status != 201);
        for answer in refused {
            assert_eq!(answer.problem(), (404, "unknown_product"), "{database:?}");
        }
        await_no_key_on_nodes(&sale, "1").await;
        let product = json!({"id": "1", "name": "Console", "stock": 1});
        let again = admin.call("POST", "/v1/products", Some(&product)).await;
        assert_eq!(again.body["stock"], sold + 1, "every order is counted");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_away_while_a_product_was_deleted_forgets_its_stock_when_it_returns() {
    let mut sale = TestSale::start(SaleSpec::on(Database::Sqlite)).await;
    sale.await_stock_on_nodes("1", "100").await;
    sale.nodes[4].kill().unwrap();
    assert_eq!(sale.admin("admin").call("DELETE", "/v1/products/1", None).await.status, 204);
    // The replica that deleted it goes too: the next one knows from the ledger.
    sale.replicas.remove(0).stop().await;
    sale.add_replica().await;
    sale.await_ready(0).await;
    sale.nodes[4].restart().unwrap();
    await_no_key_on_nodes(&sale, "1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_declaration_that_is_repeated_keeps_what_administrators_did() {
    for database in BOTH {
        let declared = |stock: i64| {
            json!([
                {"id": "1", "name": "Console", "stock": stock},
                {"id": "2", "name": "Game", "stock": 5},
            ])
        };
        let spec = SaleSpec { nodes: 1, products: declared(10), ..SaleSpec::on(database) };
        let sale = TestSale::start(spec).await;
        let admin = sale.admin("admin");
        let restocked =
            admin.call("POST", "/v1/products/1/restock", Some(&json!({"add": 5}))).await;
        assert_eq!(restocked.body["stock"], 15);
        let terms = json!({"name": "Renamed"});
        assert_eq!(admin.call("PUT", "/v1/products/1", Some(&terms)).await.status, 200);
        assert_eq!(admin.call("DELETE", "/v1/products/2", None).await.status, 204);

        sale.seed(&declared(10)).await.unwrap();
        let stock = |sold: &Value| (sold[0]["name"].clone(), sold[0]["stock"].clone());
        assert_eq!(stock(&sale.sold().await), (json!("Console"), json!(15)), "{database:?}");
        sale.seed(&declared(12)).await.unwrap();
        let sold = sale.sold().await;
        assert_eq!(stock(&sold), (json!("Console"), json!(17)), "raised by its own difference");
        assert_eq!(sold.as_array().unwrap().len(), 1, "what was deleted stays deleted");

        let game = json!({"id": "2", "name": "Game", "stock": 8});
        assert_eq!(admin.call("POST", "/v1/products", Some(&game)).await.status, 201);
        sale.seed(&declared(12)).await.unwrap();
        assert_eq!(sale.sold().await[1]["stock"], 8, "{database:?}: nothing is added");
        assert!(sale.seed(&declared(9)).await.is_err(), "never lowered");
    }
}

#[tokio::test]
async fn only_administrators_may_and_bad_requests_name_the_field() {
    let sale = TestSale::start(SaleSpec { nodes: 1, ..SaleSpec::on(Database::Sqlite) }).await;
    let (admin, ann) = (sale.admin("admin"), sale.buyer("ann"));
    let product = json!({"id": "2", "name": "Game", "stock": 1});
    let requests = [
        ("POST", "/v1/products", Some(&product)),
        ("PUT", "/v1/products/1", Some(&product)),
        ("POST", "/v1/products/1/restock", Some(&product)),
        ("DELETE", "/v1/products/1", None),
        ("GET", "/v1/admin/overview", None),
    ];
    for (method, path, body) in requests {
        assert_eq!(ann.call(method, path, body).await.problem(), (403, "forbidden"), "{path}");
        let url = format!("{}{path}", sale.replicas[0].api);
        let nobody = sale.client.request(method.parse().unwrap(), url).send().await.unwrap();
        assert_eq!(nobody.status(), 401, "{path}");
    }
    let bad = [
        ("POST", "/v1/products", json!({"id": "a b", "name": "x", "stock": 1}), "id"),
        ("POST", "/v1/products", json!({"id": "2", "name": "", "stock": 1}), "name"),
        ("POST", "/v1/products", json!({"id": "2", "name": "x", "stock": -1}), "stock"),
        ("PUT", "/v1/products/1", json!({"name": "x", "max_per_buyer": 0}), "max_per_buyer"),
        ("PUT", "/v1/products/1", json!({"name": "x", "lease_time_ms": 5001}), "lease_time_ms"),
        ("POST", "/v1/products/1/restock", json!({"add": 0}), "add"),
        ("POST", "/v1/products/1/restock", json!({"add": 1, "of": 1}), "of"),
    ];
    for (method, path, body, field) in bad {
        let answer = admin.call(method, path, Some(&body)).await;
        assert_eq!(answer.problem(), (422, "invalid_request"), "{body}");
        assert!(answer.body["detail"].as_str().unwrap().contains(field), "{answer:?}");
    }
    assert_eq!(sale.sold().await[0]["stock"], 100, "nothing was changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_quorum_nothing_is_changed_and_the_answer_says_so() {
    let settings = vec![("LOCK_WAIT_SECONDS", "0.5".to_owned())];
    let mut sale = TestSale::start(SaleSpec { settings, ..SaleSpec::on(Database::Sqlite) }).await;
    for node in &mut sale.nodes[..3] {
        node.kill().unwrap();
    }
    let admin = sale.admin("admin");
    eventually("the replica knows that they are away", async || {
        let overview = admin.call("GET", "/v1/admin/overview", None).await.body;
        overview["replica"]["nodes_voting"] == 2
    })
    .await;
    let answer = admin.call("DELETE", "/v1/products/1", None).await;
    assert_eq!(answer.problem(), (503, "quorum_unavailable"));
    assert!(answer.headers.contains_key("retry-after"));
    assert_eq!(sale.sold().await[0]["remaining"], 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_overview_shows_stock_and_lock_waits() {
    let sale = TestSale::start(SaleSpec::on(Database::Sqlite)).await;
    sale.buyer("ann").buy("1", 2, None).await.order();
    let overview = sale.admin("admin").call("GET", "/v1/admin/overview", None).await.body;
    let console = json!({"id": "1", "name": "Console", "stock": 100, "remaining": 98});
    assert_eq!(overview["products"], json!([console]));
    let replica = &overview["replica"];
    assert_eq!((&replica["nodes"], &replica["nodes_voting"]), (&json!(5), &json!(5)));
    let count = &replica["lock_wait"]["count"];
    assert!(count.as_u64().unwrap() > 0);
    let buckets = replica["lock_wait"]["buckets"].as_array().unwrap();
    assert_eq!(&buckets.last().unwrap()[1], count, "cumulative");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_of_a_deleted_product_can_be_cancelled_and_nothing_brings_its_stock_back() {
    for database in BOTH {
        let settings =
            vec![("COMPARE_SECONDS", "0.05".to_owned()), ("LOAD_SECONDS", "0.05".to_owned())];
        let sale = TestSale::start(SaleSpec { settings, ..SaleSpec::on(database) }).await;
        let (admin, ann) = (sale.admin("admin"), sale.buyer("ann"));
        let bought = ann.buy("1", 2, None).await;
        assert_eq!(admin.call("DELETE", "/v1/products/1", None).await.status, 204);
        let cancel = format!("/v1/orders/{}/cancel", bought.order());
        let cancelled = ann.call("POST", &cancel, None).await;
        assert_eq!((cancelled.status, &cancelled.body["state"]), (200, &json!("cancelled")));

        // One comparison may have begun before.
        for _ in 0..2 {
            let done = sale.nodes[0].get("stores:compare").unwrap();
            eventually("the stores are compared", async || {
                sale.nodes[0].get("stores:compare").unwrap() != done
            })
            .await;
        }
        await_no_key_on_nodes(&sale, "1").await;
        let product = json!({"id": "1", "name": "Console", "stock": 3});
        let again = admin.call("POST", "/v1/products", Some(&product)).await;
        assert_eq!((&again.body["stock"], &again.body["remaining"]), (&json!(3), &json!(3)));
        sale.await_stock_on_nodes("1", "3").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_units_of_a_deleted_product_are_measured_until_its_orders_end() {
    let settings = vec![("COMPARE_SECONDS", "0.05".to_owned())];
    let spec = SaleSpec { nodes: 1, settings, ..SaleSpec::on(Database::Sqlite) };
    let sale = TestSale::start(spec).await;
    let (admin, ann) = (sale.admin("admin"), sale.buyer("ann"));
    let items = json!({"items": [{"product_id": "1", "quantity": 2}]});
    let placed = ann.call("POST", "/v1/orders", Some(&items)).await;
    assert_eq!(admin.call("DELETE", "/v1/products/1", None).await.status, 204);
    let pending = "flashsale_order_units{product=\"1\",state=\"pending\"}";
    eventually("the units are counted, and the product is no longer on sale", async || {
        let metrics = sale.metrics().await;
        let declared = value::<i64>(&metrics, "flashsale_stock_declared{product=\"1\"}");
        declared.is_none() && value(&metrics, pending) == Some(2)
    })
    .await;

    let cancel = format!("/v1/orders/{}/cancel", placed.order());
    assert_eq!(ann.call("POST", &cancel, None).await.status, 200);
    eventually("no units are counted", async || {
        value::<i64>(&sale.metrics().await, pending).is_none()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ordered_units_are_counted_with_what_was_put_on_sale() {
    let ordered = |state, units, without_hold| OrderedUnits {
        product_id: "1".to_owned(),
        state,
        units,
        without_hold,
    };
    let count = |stock: i64, ordered: OrderedUnits| UnitCount {
        declared: [("1".to_owned(), stock)].into(),
        ordered: vec![ordered],
    };
    for database in BOTH {
        let sale = TestSale::start(SaleSpec { nodes: 1, ..SaleSpec::on(database) }).await;
        let (admin, ann, ledger) = (sale.admin("admin"), sale.buyer("ann"), sale.ledger());
        let bought = ann.buy("1", 3, None).await;
        ann.buy("1", 2, None).await;
        let counted = ledger.count_units().await.unwrap();
        assert_eq!(counted, count(100, ordered(OrderState::Confirmed, 5, 5)), "{database:?}");

        let cancel = format!("/v1/orders/{}/cancel", bought.order());
        assert_eq!(ann.call("POST", &cancel, None).await.status, 200);
        assert_eq!(admin.call("DELETE", "/v1/products/1", None).await.status, 204);
        let counted = ledger.count_units().await.unwrap();
        let left = vec![ordered(OrderState::Confirmed, 2, 2)];
        assert_eq!(counted, UnitCount { ordered: left, ..UnitCount::default() }, "{database:?}");
        let product = json!({"id": "1", "name": "Console", "stock": 4});
        assert_eq!(admin.call("POST", "/v1/products", Some(&product)).await.status, 201);
        let counted = ledger.count_units().await.unwrap();
        assert_eq!(counted, count(6, ordered(OrderState::Confirmed, 2, 2)), "{database:?}");

        let items = json!({"items": [{"product_id": "1", "quantity": 3}]});
        assert_eq!(ann.call("POST", "/v1/orders", Some(&items)).await.status, 201);
        let counted = ledger.count_units().await.unwrap();
        assert!(counted.ordered.contains(&ordered(OrderState::Pending, 3, 0)), "{counted:?}");
        sale.execute("UPDATE orders SET expires_at_ms = NULL WHERE state = 'pending'").await;
        let counted = ledger.count_units().await.unwrap();
        assert!(counted.ordered.contains(&ordered(OrderState::Pending, 3, 3)), "{counted:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_redis_decides_products_are_made_restocked_and_deleted() {
    let settings = vec![("STRATEGY", "Atomic".to_owned())];
    let spec = SaleSpec { nodes: 1, settings, ..SaleSpec::on(Database::Sqlite) };
    let sale = TestSale::start(spec).await;
    let (admin, ann) = (sale.admin("admin"), sale.buyer("ann"));
    let game = json!({"id": "game", "name": "Game", "stock": 1});
    assert_eq!(admin.call("POST", "/v1/products", Some(&game)).await.status, 201);
    let bought = async |key: &str| ann.buy("game", 1, Some(key)).await.status == 201;
    eventually("it can be bought", async || bought("first").await).await;
    let restock = json!({"add": 2, "from": 1});
    assert_eq!(admin.call("POST", "/v1/products/game/restock", Some(&restock)).await.status, 200);
    eventually("what was added can be bought", async || bought("second").await).await;
    eventually("all of it", async || bought("third").await).await;
    assert_eq!(ann.buy("game", 1, None).await.problem(), (409, "sold_out"));

    // Orders that this replica cannot record must not be lost with their product.
    sale.nodes[0].command("XADD orders:game * version 4 incarnation 1 sold all").unwrap();
    let refused = admin.call("DELETE", "/v1/products/game", None).await;
    assert_eq!(refused.problem(), (503, "stock_unavailable"));
    sale.nodes[0].command("XTRIM orders:game MAXLEN 0").unwrap();
    assert_eq!(admin.call("DELETE", "/v1/products/game", None).await.status, 204);
    assert_eq!(ann.buy("game", 1, None).await.problem(), (404, "unknown_product"));
    await_no_key_on_nodes(&sale, "game").await;
    assert_eq!(sale.nodes[0].command("EXISTS sale:game").unwrap(), ":0\r\n");
    let orders = Answer::of(ann.request(0, "GET", "/v1/orders").send().await.unwrap()).await;
    assert_eq!(orders.body["orders"].as_array().unwrap().len(), 3, "{orders:?}");
    assert_eq!(admin.call("DELETE", "/v1/products/game", None).await.status, 404);

    let again = admin.call("POST", "/v1/products", Some(&game)).await;
    assert_eq!((&again.body["stock"], &again.body["remaining"]), (&json!(4), &json!(1)));
    eventually("it is sold again", async || bought("fourth").await).await;
    eventually("all of it", async || ann.buy("game", 1, None).await.problem() == (409, "sold_out"))
        .await;
}
