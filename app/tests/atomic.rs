//! `STRATEGY=Atomic`: one script in Redis decides, and the database follows.

use std::collections::HashSet;
use std::time::Duration;

use futures::future::join_all;
use ledger::{DecidedOrder, Ledger, ProductDeclaration, SoldFor};
use serde_json::{Value, json};
use testkit::{Link, Postgres, Proxy, Way};

use crate::common::{Answer, BOTH, Database, SaleSpec, TestSale, eventually};

fn atomic(database: Database) -> SaleSpec {
    let settings =
        vec![("STRATEGY", "Atomic".to_owned()), ("LOCK_TIMEOUT_SECONDS", "1".to_owned())];
    SaleSpec { nodes: 1, settings, ..SaleSpec::on(database) }
}

/// Waits until the database has everything that Redis sold.
async fn await_recorded(sale: &TestSale, sold: i64) {
    eventually("all is recorded", async || {
        let recorded = sale.sold().await[0]["sold"] == sold;
        recorded && sale.metrics().await.contains("\nflashsale_orders_unrecorded 0\n")
    })
    .await;
}

async fn buy_all(sale: &TestSale, buyers: std::ops::Range<usize>) -> usize {
    let replicas = sale.replicas.len();
    let answers = join_all(buyers.map(async |i| {
        sale.buyer(&format!("buyer-{i}")).buy_from(i % replicas, "1", 1, None).await
    }))
    .await;
    let refused = answers.iter().filter(|answer| answer.status != 201);
    assert!(refused.clone().all(|answer| answer.problem() == (409, "sold_out")), "{answers:?}");
    answers
        .iter()
        .filter(|answer| answer.status == 201)
        .map(Answer::order)
        .collect::<HashSet<_>>()
        .len()
}

#[tokio::test(flavor = "multi_thread")]
async fn three_hundred_buyers_at_once_get_exactly_one_hundred() {
    for database in BOTH {
        let sale = TestSale::start(SaleSpec { replicas: 3, ..atomic(database) }).await;
        assert_eq!(buy_all(&sale, 0..300).await, 100, "{database:?}");
        assert_eq!(sale.nodes[0].get("stock:1").unwrap().as_deref(), Some("0"));
        await_recorded(&sale, 100).await;
        assert_eq!(sale.buyer("ann").buy("1", 1, None).await.problem(), (409, "sold_out"));
        // After the commit, and of this the database and the gauge say nothing.
        eventually("what is recorded is taken off", async || {
            sale.nodes[0].command("XLEN orders:1").unwrap() == ":0\r\n"
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_key_gives_the_same_order_and_no_other() {
    for database in BOTH {
        let products = json!([
            {"id": "1", "name": "Console", "stock": 1},
            {"id": "2", "name": "Game", "stock": 9},
        ]);
        let sale = TestSale::start(SaleSpec { products, replicas: 2, ..atomic(database) }).await;
        let ann = sale.buyer("ann");
        let at_once = join_all((0..10).map(|i| ann.buy_from(i % 2, "1", 1, Some("k")))).await;
        let orders: HashSet<&str> = at_once.iter().map(Answer::order).collect();
        assert_eq!(orders.len(), 1, "{database:?}");
        let again = ann.buy_from(1, "1", 1, Some("k")).await;
        assert!(orders.contains(again.order()));
        assert_eq!(again.headers["idempotent-replayed"], "true");
        assert_eq!(ann.buy("1", 2, Some("k")).await.problem(), (422, "idempotency_key_reused"));
        assert_eq!(ann.buy("2", 1, Some("k")).await.problem(), (422, "idempotency_key_reused"));
        assert_eq!(sale.buyer("bob").buy("1", 1, Some("k")).await.problem(), (409, "sold_out"));
        await_recorded(&sale, 1).await;

        // A Redis that lost everything learns the keys from the database.
        sale.nodes[0].command("FLUSHALL").unwrap();
        let again = ann.buy("1", 1, Some("k")).await;
        assert!(orders.contains(again.order()));
        eventually("the other product is sold again", async || {
            let answer = ann.buy("2", 1, Some("k")).await;
            answer.status == 422 && answer.body["code"] == "idempotency_key_reused"
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_per_buyer_holds_across_replicas_and_when_redis_is_lost() {
    let products = json!([{"id": "1", "name": "Console", "stock": 100, "max_per_buyer": 2}]);
    let spec = SaleSpec { replicas: 2, products, ..atomic(Database::Postgres) };
    let sale = TestSale::start(spec).await;
    let ann = sale.buyer("ann");
    assert_eq!(ann.buy("1", 3, None).await.problem(), (409, "limit_reached"));
    let answers = join_all((0..10).map(|i| ann.buy_from(i % 2, "1", 1, None))).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 201).count(), 2);
    await_recorded(&sale, 2).await;
    sale.nodes[0].command("FLUSHALL").unwrap();
    assert_eq!(ann.buy("1", 1, None).await.problem(), (409, "limit_reached"));
    assert_eq!(sale.buyer("bob").buy("1", 2, None).await.status, 201);
    await_recorded(&sale, 4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_that_comes_back_goes_on_with_its_data_and_is_rebuilt_without() {
    for database in BOTH {
        let mut sale = TestSale::start(SaleSpec { replicas: 2, ..atomic(database) }).await;
        assert_eq!(buy_all(&sale, 0..30).await, 30);
        sale.nodes[0].restart().unwrap();
        eventually("it sells again", async || {
            sale.buyer("ann").buy("1", 10, Some("k1")).await.status == 201
        })
        .await;
        await_recorded(&sale, 40).await;
        assert_eq!(sale.nodes[0].get("stock:1").unwrap().as_deref(), Some("60"));

        sale.nodes[0].restart_empty().unwrap();
        eventually("it sells again", async || {
            sale.buyer("ann").buy("1", 10, Some("k2")).await.status == 201
        })
        .await;
        assert_eq!(buy_all(&sale, 100..200).await, 50, "{database:?}");
        await_recorded(&sale, 100).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_that_went_back_in_time_is_not_sold_from() {
    let sale = TestSale::start(atomic(Database::Postgres)).await;
    assert_eq!(buy_all(&sale, 0..40).await, 40);
    await_recorded(&sale, 40).await;
    // As an older copy of its data would have it.
    sale.nodes[0].command("HSET sale:1 available 100 sold 0").unwrap();
    eventually("it is made anew", async || {
        sale.nodes[0].get("stock:1").unwrap().as_deref() == Some("60")
            && sale.nodes[0].command("HGET sale:1 available").unwrap().contains("60")
    })
    .await;
    assert_eq!(buy_all(&sale, 100..200).await, 60);
    await_recorded(&sale, 100).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stock_changed_by_hand_is_repaired_and_counted() {
    let sale = TestSale::start(atomic(Database::Sqlite)).await;
    assert_eq!(buy_all(&sale, 0..40).await, 40);
    let available = || sale.nodes[0].command("HGET sale:1 available").unwrap();
    sale.nodes[0].command("HSET sale:1 available 999").unwrap();
    eventually("it is repaired", async || available().contains("\r\n60\r\n")).await;
    let counted = "flashsale_store_drift_total{kind=\"different\"} 1";
    eventually("it is counted", async || sale.metrics().await.contains(counted)).await;
    sale.nodes[0].command("SET stock:1 999").unwrap();
    sale.await_stock_on_nodes("1", "60").await;
    sale.nodes[0].command("DEL sale:1").unwrap();
    assert_eq!(buy_all(&sale, 100..200).await, 60);
    await_recorded(&sale, 100).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stock_that_is_raised_reaches_redis_once() {
    for database in BOTH {
        let sale = TestSale::start(SaleSpec { replicas: 2, ..atomic(database) }).await;
        assert_eq!(buy_all(&sale, 0..120).await, 100);
        sale.seed(&json!([{"id": "1", "name": "Console", "stock": 105}])).await.unwrap();
        eventually("buyers see it", async || sale.buyer("ann").stock("1").await == 5).await;
        eventually("the other replica too", async || {
            sale.buyer("ann").buy_from(1, "1", 5, Some("k")).await.status == 201
        })
        .await;
        assert_eq!(sale.buyer("bob").buy("1", 1, None).await.problem(), (409, "sold_out"));
        await_recorded(&sale, 105).await;
    }
}

fn order(key: Option<&str>, quantity: i64) -> DecidedOrder {
    let id = uuid::Uuid::now_v7();
    let idempotency_key = key.map(str::to_owned);
    let (buyer, sold_for) = ("ann".to_owned(), SoldFor::Nothing);
    DecidedOrder { id, buyer, quantity, idempotency_key, sold_for, limit_key: None }
}

#[tokio::test]
async fn an_order_that_is_delivered_twice_is_recorded_once() {
    let postgres = Postgres::shared().unwrap();
    let url = postgres.new_database().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = format!("sqlite://{}", folder.path().join("sale.db").display());
    for url in [url, file] {
        let ledger = Ledger::connect_lazy(&url, 2).unwrap();
        ledger.migrate().await.unwrap();
        let product = json!({"id": "1", "name": "Console", "stock": 10});
        let product: ProductDeclaration = serde_json::from_value(product).unwrap();
        ledger.declare(&product, 1).await.unwrap();
        assert_eq!(ledger.reincarnate("1", 2).await.unwrap(), 10);
        let state = async || {
            let row = ledger.stock_rows().await.unwrap().remove(0);
            (row.available, row.recorded)
        };
        let (one, two, three) = (order(Some("a"), 1), order(None, 2), order(None, 3));
        let recorded = ledger.record("1", 2, vec![&one, &two]).await.unwrap();
        assert_eq!((recorded.new, state().await), (2, (7, 3)));
        let recorded = ledger.record("1", 2, vec![&two, &three, &one]).await.unwrap();
        assert_eq!((recorded.new, recorded.refused.len(), state().await), (1, 0, (4, 6)));
        // Of an earlier stock: the units are gone, but not from this one.
        ledger.record("1", 1, vec![&order(None, 1)]).await.unwrap();
        assert_eq!(state().await, (3, 6));
        // A key that is another order's, and more than there is.
        let crossed = order(Some("a"), 1);
        let recorded = ledger.record("1", 2, vec![&crossed]).await.unwrap();
        assert_eq!((recorded.new, recorded.refused), (0, vec![crossed.id]));
        ledger.record("1", 2, vec![&order(None, 4)]).await.unwrap_err();
        assert_eq!(state().await, (3, 6));
        // The last units, and then all of it again.
        let last = order(None, 3);
        ledger.record("1", 2, vec![&last]).await.unwrap();
        let recorded = ledger.record("1", 2, vec![&two, &last, &one]).await.unwrap();
        assert_eq!((recorded.new, recorded.refused.len(), state().await), (0, 0, (0, 9)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_of_a_later_version_is_left_in_the_stream() {
    let mut spec = atomic(Database::Postgres);
    spec.settings.push(("LOCK_WAIT_SECONDS", "2".to_owned()));
    let sale = TestSale::start(spec).await;
    assert_eq!(buy_all(&sale, 0..10).await, 10);
    sale.nodes[0].command("XADD orders:1 * version 4 incarnation 1 sold all").unwrap();
    sale.nodes[0].command("XADD orders:1 * version 2 incarnation 1 orders broken").unwrap();
    assert_eq!(buy_all(&sale, 10..20).await, 10);
    await_recorded(&sale, 20).await;
    eventually("only the later one is there", async || {
        sale.nodes[0].command("XLEN orders:1").unwrap() == ":1\r\n"
    })
    .await;
    let left = sale.nodes[0].command("XRANGE orders:1 - +").unwrap();
    assert!(left.contains("version\r\n$1\r\n4\r\n"), "{left}");

    // No stock is made from a row of which it is not known what was sold.
    sale.nodes[0].command("DEL sale:1").unwrap();
    let answer = sale.buyer("ann").buy("1", 1, None).await;
    assert_eq!(answer.problem(), (503, "stock_unavailable"));
    sale.nodes[0].command("XTRIM orders:1 MAXLEN 0").unwrap();
    eventually("it sells again", async || {
        sale.buyer("ann").buy("1", 1, Some("k")).await.status == 201
    })
    .await;
    await_recorded(&sale, 21).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_whose_answer_was_lost_is_found_in_the_stream() {
    for database in BOTH {
        let mut spec = SaleSpec { replicas: 0, ..atomic(database) };
        spec.settings.push(("LOCK_WAIT_SECONDS", "2".to_owned()));
        let mut sale = TestSale::start(spec).await;
        let proxy = Proxy::start(sale.nodes[0].address()).await.unwrap();
        sale.settings.insert("REDIS_NODES", proxy.address().to_owned());
        sale.add_replica().await;
        sale.await_ready(0).await;
        let (ann, node) = (sale.buyer("ann"), &sale.nodes[0]);
        // Again if the connection was found to be lost before the order was on its way.
        eventually("Redis decides and its answer is lost", async || {
            proxy.set(Link::default());
            eventually("it sells", async || ann.buy("1", 1, None).await.status == 201).await;
            proxy.set(Link { to_client: Way::Cut, ..Link::default() });
            let (status, _) = ann.buy("1", 1, Some("k")).await.problem();
            assert_eq!(status, 503, "{database:?}");
            node.command("HEXISTS purchase-keys \"k ann\"").unwrap() == ":1\r\n"
        })
        .await;

        proxy.set(Link::default());
        let sold = node.command("HGET sale:1 sold").unwrap();
        let sold: i64 = sold.lines().nth(1).unwrap().parse().unwrap();
        // Nobody asks for it again.
        await_recorded(&sale, sold).await;
        eventually("what is recorded is taken off", async || {
            node.command("XLEN orders:1").unwrap() == ":0\r\n"
        })
        .await;
        eventually("the key tells", async || ann.buy("1", 1, Some("k")).await.status == 201).await;
        assert_eq!(sale.sold().await[0]["sold"], sold);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_sold_and_nothing_is_lost_while_redis_is_away() {
    let mut sale = TestSale::start(SaleSpec {
        settings: vec![
            ("STRATEGY", "Atomic".to_owned()),
            ("LOCK_TIMEOUT_SECONDS", "1".to_owned()),
            ("LOCK_WAIT_SECONDS", "2".to_owned()),
        ],
        ..atomic(Database::Sqlite)
    })
    .await;
    assert_eq!(buy_all(&sale, 0..10).await, 10);
    sale.nodes[0].kill().unwrap();
    let mut codes = HashSet::new();
    for _ in 0..3 {
        let answer = sale.buyer("ann").buy("1", 1, Some("k")).await;
        assert_eq!(answer.headers["retry-after"], "1");
        let (status, code) = answer.problem();
        assert_eq!(status, 503);
        codes.insert(code.to_owned());
    }
    assert!(codes.contains("stock_unavailable"), "{codes:?}");
    sale.nodes[0].restart().unwrap();
    eventually("it sells again", async || {
        sale.buyer("ann").buy("1", 1, Some("k")).await.status == 201
    })
    .await;
    await_recorded(&sale, 11).await;
    let body: Value = sale.buyer("ann").buy("1", 1, Some("k")).await.body;
    assert_eq!(body["product_id"], "1");
    tokio::time::timeout(Duration::from_secs(30), sale.replicas.pop().unwrap().stop())
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purchase_that_redis_refuses_to_write_was_not_made() {
    let sale = TestSale::start(atomic(Database::Sqlite)).await;
    assert_eq!(buy_all(&sale, 0..3).await, 3);
    await_recorded(&sale, 3).await;
    let ann = sale.buyer("ann");
    let refusals = [
        ("CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0"),
        ("CONFIG SET min-replicas-to-write 1", "CONFIG SET min-replicas-to-write 0"),
        ("REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE"),
        // The stream of orders: the first key that is written.
        ("SET orders:1 x", "DEL orders:1"),
    ];
    for (number, (refuse, take)) in refusals.into_iter().enumerate() {
        sale.nodes[0].command("DEL orders:1").unwrap();
        sale.nodes[0].command(refuse).unwrap();
        let key = format!("key-{number}");
        let answer = ann.buy("1", 1, Some(&key)).await;
        assert_eq!(answer.problem(), (503, "stock_unavailable"), "{refuse}");
        assert_eq!(answer.headers["retry-after"], "1");
        sale.nodes[0].command(take).unwrap();
        eventually("it sells again", async || ann.buy("1", 1, Some(&key)).await.status == 201)
            .await;
        let replayed = ann.buy("1", 1, Some(&key)).await;
        assert_eq!(replayed.headers["idempotent-replayed"], "true");
        await_recorded(&sale, 4 + i64::try_from(number).unwrap()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stock_is_made_again_though_its_lock_never_expires() {
    let sale = TestSale::start(atomic(Database::Sqlite)).await;
    assert_eq!(buy_all(&sale, 0..3).await, 3);
    await_recorded(&sale, 3).await;
    let lose = "redis.call('FLUSHALL') redis.call('SET', 'lock:atomic:1', 'x')";
    sale.nodes[0].command(&format!("EVAL \"{lose}\" 0")).unwrap();
    let ann = sale.buyer("ann");
    eventually("it sells again", async || ann.buy("1", 1, Some("k")).await.status == 201).await;
    await_recorded(&sale, 4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_order_gives_its_units_back_in_both_stores() {
    for database in BOTH {
        let products = json!([{"id": "1", "name": "Console", "stock": 5, "max_per_buyer": 2}]);
        let sale = TestSale::start(SaleSpec { products, ..atomic(database) }).await;
        let ann = sale.buyer("ann");
        let bought = ann.buy("1", 2, None).await;
        assert_eq!(ann.buy("1", 1, None).await.problem(), (409, "limit_reached"));
        await_recorded(&sale, 2).await;
        let path = format!("/v1/orders/{}/cancel", bought.order());
        let cancelled = ann.request(0, "POST", &path).send().await.unwrap();
        assert_eq!(cancelled.status(), 200, "{database:?}");
        // Before somebody takes of the others: the limit is lower at once, the units follow. The lock
        // writes the copy for readers, so the copy says nothing of the units that decide.
        eventually("the units are back", async || {
            sale.nodes[0].command("HGET sale:1 available").unwrap().contains("\r\n5\r\n")
        })
        .await;
        assert_eq!(ann.buy("1", 2, None).await.status, 201);
        assert_eq!(ann.buy("1", 1, None).await.problem(), (409, "limit_reached"));
        let bob = sale.buyer("bob").buy("1", 2, None).await;
        assert_eq!(bob.status, 201, "{database:?}: {}", bob.body);
        await_recorded(&sale, 4).await;
        sale.await_stock_on_nodes("1", "1").await;

        // What takes units where they are not decided is refused.
        let order = ann.request(0, "PATCH", "/v1/stocks/locks/distributed");
        let order = order.json(&json!({"orders": [{"product": "1", "quantity": 1}]}));
        let answer = Answer::of(order.send().await.unwrap()).await;
        assert_eq!(answer.problem(), (409, "not_with_atomic"));
    }
}
