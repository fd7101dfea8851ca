//! Coupons: exactly as many as there are, one for each buyer.

use std::collections::HashSet;
use std::sync::atomic::{AtomicI64, Ordering};

use futures::future::join_all;
use ledger::coupons::Issued;
use ledger::{Applicant, LedgerError};
use serde_json::{Value, json};
use sqlx::Connection;

use crate::common::{Answer, BOTH, Buyer, Database, SaleSpec, TestSale, eventually};

async fn sale(database: Database, replicas: usize) -> TestSale {
    TestSale::start(SaleSpec { replicas, ..SaleSpec::on(database) }).await
}

async fn create(sale: &TestSale, coupon: &Value) -> Answer {
    sale.admin("shop").send(0, ("POST", "/v1/coupons"), Some(coupon), None).await
}

async fn issue(buyer: &Buyer<'_>, replica: usize, id: &str) -> Answer {
    buyer.send(replica, ("POST", &format!("/v1/coupons/{id}/issue")), None, None).await
}

#[tokio::test(flavor = "multi_thread")]
async fn three_hundred_buyers_at_once_get_exactly_as_many_as_there_are() {
    for (database, service) in [(Database::Postgres, "Unordered"), (Database::Sqlite, "Fair")] {
        let settings = vec![("LOCK_ORDER", service.to_owned())];
        let spec = SaleSpec { replicas: 3, settings, ..SaleSpec::on(database) };
        let sale = TestSale::start(spec).await;
        let made = create(&sale, &json!({"id": "ten", "quantity": 100})).await;
        assert_eq!((made.status, &made.body["remaining"]), (201, &json!(100)));
        let buyers: Vec<_> = (0..300).map(|i| sale.buyer(&format!("buyer-{i}"))).collect();
        // Some ask two replicas at the same moment, the others one after the other.
        let at_once = (0..360).map(|i| issue(&buyers[i % 300], (i + i / 300) % 3, "ten"));
        let mut answers = join_all(at_once).await;
        let later = (60..300).map(|i| issue(&buyers[i], (i + 1) % 3, "ten"));
        answers.extend(join_all(later).await);
        let both = |i: usize| [&answers[i], &answers[i + 300]];

        let mut ids = HashSet::new();
        let mut holders = 0;
        for both in (0..300).map(both) {
            let had: HashSet<&str> =
                both.iter().filter_map(|answer| answer.body["issue_id"].as_str()).collect();
            assert!(had.len() <= 1, "{both:?}");
            holders += had.len();
            ids.extend(had);
            for answer in both {
                match answer.status {
                    200 => assert_eq!(answer.headers["idempotent-replayed"], "true"),
                    201 => assert!(!answer.is_replayed()),
                    _ => assert_eq!(answer.problem(), (409, "coupon_exhausted")),
                }
            }
        }
        assert_eq!((holders, ids.len()), (100, 100), "{database:?}");
        let new = answers.iter().filter(|answer| answer.status == 201).count();
        assert_eq!(new, 100, "each was issued once");
        let path = "/v1/coupons/ten";
        let shown = sale.buyer("ann").send(1, ("GET", path), None, None).await.body;
        assert_eq!((&shown["issued"], &shown["remaining"]), (&json!(100), &json!(0)));
        eventually("every node knows", async || {
            let left = |node: &testkit::RedisServer| node.get("coupon:issue:ten").unwrap();
            sale.nodes.iter().all(|node| left(node).as_deref() == Some("0"))
        })
        .await;
    }
}

#[tokio::test]
async fn a_buyer_has_the_same_coupon_again_even_when_all_are_issued() {
    for database in BOTH {
        let sale = sale(database, 2).await;
        create(&sale, &json!({"id": "one", "quantity": 1})).await;
        let (ann, bob) = (sale.buyer("ann"), sale.buyer("bob"));
        let first = issue(&ann, 0, "one").await;
        assert_eq!((first.status, &first.body["buyer"]), (201, &json!("ann")));
        for replica in [0, 1, 0] {
            let again = issue(&ann, replica, "one").await;
            assert_eq!((again.status, &again.body), (200, &first.body), "{database:?}");
            assert_eq!(issue(&bob, replica, "one").await.problem(), (409, "coupon_exhausted"));
        }
    }
}

#[tokio::test]
async fn when_all_are_issued_the_database_is_not_asked_any_more() {
    let sale = sale(Database::Postgres, 1).await;
    create(&sale, &json!({"id": "one", "quantity": 1})).await;
    let (ann, bob) = (sale.buyer("ann"), sale.buyer("bob"));
    let first = issue(&ann, 0, "one").await;
    assert_eq!(issue(&bob, 0, "one").await.problem(), (409, "coupon_exhausted"));
    let mut database = sqlx::PgConnection::connect(&sale.database_url()).await.unwrap();
    let hide = "ALTER TABLE coupon_issues RENAME TO hidden";
    sqlx::raw_sql(hide).execute(&mut database).await.unwrap();
    assert_eq!(issue(&bob, 0, "one").await.problem(), (409, "coupon_exhausted"));
    let again = issue(&ann, 0, "one").await;
    assert_eq!((again.status, &again.body), (200, &first.body));
}

#[tokio::test]
async fn the_holders_of_few_coupons_are_read_page_by_page_and_those_of_many_looked_up() {
    let sale = sale(Database::Postgres, 1).await;
    let mut database = sqlx::PgConnection::connect(&sale.database_url()).await.unwrap();
    for (id, quantity) in [("few", 2_500), ("many", 20_001)] {
        create(&sale, &json!({"id": id, "quantity": quantity})).await;
        let issue_all = format!(
            "INSERT INTO coupon_issues (id, coupon_id, buyer, fence) \
             SELECT gen_random_uuid(), '{id}', 'buyer-' || n, 1 FROM generate_series(1, {quantity}) n; \
             UPDATE coupons SET issued = quantity, fence = 1 WHERE id = '{id}'"
        );
        sqlx::raw_sql(sqlx::AssertSqlSafe(issue_all)).execute(&mut database).await.unwrap();
        for holder in ["buyer-1", "buyer-2500", "buyer-1000"] {
            let again = issue(&sale.buyer(holder), 0, id).await;
            assert_eq!(again.status, 200, "{again:?}");
        }
        assert_eq!(issue(&sale.buyer("bob"), 0, id).await.problem(), (409, "coupon_exhausted"));
    }
    let hide = "ALTER TABLE coupon_issues RENAME TO hidden";
    sqlx::raw_sql(hide).execute(&mut database).await.unwrap();
    for number in [1, 999, 1_000, 1_001, 2_500] {
        let again = issue(&sale.buyer(&format!("buyer-{number}")), 0, "few").await;
        assert_eq!(again.status, 200, "{number} {again:?}");
    }
    assert_eq!(issue(&sale.buyer("bob"), 0, "few").await.problem(), (409, "coupon_exhausted"));
    let unavailable = issue(&sale.buyer("buyer-1"), 0, "many").await;
    assert_eq!(unavailable.problem(), (503, "database_unavailable"));
}

#[tokio::test]
async fn coupons_are_made_by_administrators_and_once() {
    let sale = sale(Database::Sqlite, 1).await;
    let (ann, coupon) = (sale.buyer("ann"), json!({"id": "ten", "quantity": 10}));
    let answer = ann.send(0, ("POST", "/v1/coupons"), Some(&coupon), None).await;
    assert_eq!(answer.problem(), (403, "forbidden"));
    assert_eq!(issue(&ann, 0, "ten").await.problem(), (404, "unknown_coupon"));
    assert_eq!(create(&sale, &coupon).await.status, 201);
    assert_eq!(create(&sale, &coupon).await.problem(), (409, "coupon_exists"));
    for bad in [
        json!({"id": "a b", "quantity": 1}),
        json!({"id": "", "quantity": 1}),
        json!({"id": "x".repeat(64), "quantity": 1}),
        json!({"id": "a\u{0}", "quantity": 1}),
        json!({"id": "a", "quantity": 0}),
        json!({"id": "a", "quantity": 1_000_000_001}),
        json!({"id": "a"}),
        json!({"id": "a", "quantity": 1, "starts_at": "soon"}),
        json!({"id": "a", "quantity": 1, "starts_at": "2026-01-02T00:00:00Z", "ends_at": "2026-01-01T00:00:00Z"}),
    ] {
        assert_eq!(create(&sale, &bad).await.problem(), (422, "invalid_request"), "{bad}");
    }
    for (field, time) in [
        ("starts_at", "2026-11-28T00:00:00+26:00"),
        ("ends_at", "9999-12-31T23:59:59Z"),
        ("ends_at", "2026-11-28T00:00:00.1234567890123Z"),
    ] {
        let answer = create(&sale, &json!({"id": "a", "quantity": 1, field: time})).await;
        assert_eq!(answer.problem(), (422, "invalid_request"), "{time}");
        let rule = format!("{field}: must be a time by RFC 3339");
        assert!(answer.body["detail"].as_str().unwrap().starts_with(&rule), "{answer:?}");
    }
    for nothing in ["nope", "%00", "a%20b"] {
        assert_eq!(issue(&ann, 0, nothing).await.problem(), (404, "unknown_coupon"));
        let shown = ann.send(0, ("GET", &format!("/v1/coupons/{nothing}")), None, None).await;
        assert_eq!(shown.problem(), (404, "unknown_coupon"));
    }
}

#[tokio::test]
async fn nothing_is_issued_outside_the_window() {
    let sale = sale(Database::Sqlite, 1).await;
    let ann = sale.buyer("ann");
    for (id, field, time, worth_retrying) in [
        ("early", "starts_at", "2999-01-01T00:00:00Z", true),
        ("late", "ends_at", "2020-01-01T00:00:00Z", false),
    ] {
        let made = create(&sale, &json!({"id": id, "quantity": 1, field: time})).await;
        assert_eq!((made.status, &made.body[field]), (201, &json!(time)));
        let answer = issue(&ann, 0, id).await;
        assert_eq!(answer.problem(), (403, "coupon_not_open"));
        assert_eq!(answer.headers.contains_key("retry-after"), worth_retrying);
    }
}

#[tokio::test]
async fn coupons_wait_for_their_lock_and_fail_with_the_same_codes() {
    let settings = vec![("LOCK_WAIT_SECONDS", "3".to_owned())];
    let mut sale = TestSale::start(SaleSpec { settings, ..SaleSpec::on(Database::Sqlite) }).await;
    create(&sale, &json!({"id": "ten", "quantity": 10})).await;
    let blocker = sale.block("coupon:issue:ten").await;
    let answer = issue(&sale.buyer("ann"), 0, "ten").await;
    assert_eq!(answer.problem(), (423, "lock_timeout"));
    blocker.release().await;
    assert_eq!(issue(&sale.buyer("ann"), 0, "ten").await.status, 201);
    eventually("ann's lock is gone", async || {
        let lock = |node: &testkit::RedisServer| node.get("lock:coupon:issue:ten").unwrap();
        sale.nodes.iter().all(|node| lock(node).is_none())
    })
    .await;
    for node in &mut sale.nodes[..3] {
        node.kill().unwrap();
    }
    eventually("they are missed", async || {
        sale.metrics().await.contains("flashsale_lock_nodes_voting 2")
    })
    .await;
    assert_eq!(issue(&sale.buyer("bob"), 0, "ten").await.problem(), (503, "quorum_unavailable"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ledger_alone_issues_each_buyer_one_and_not_one_too_many() {
    for database in BOTH {
        let sale = sale(database, 1).await;
        create(&sale, &json!({"id": "ten", "quantity": 10})).await;
        let (ledger, token) = (sale.ledger(), AtomicI64::new(100));
        let (ledger, token) = (&ledger, &token);
        let calls = (0..40).map(async |i| {
            let buyers = [format!("buyer-{}", i % 20), format!("buyer-{}", (i + 1) % 20)];
            let buyers = buyers.map(|buyer| Applicant::account(&buyer));
            loop {
                let token = token.fetch_add(1, Ordering::SeqCst);
                match ledger.issue("ten", token, &buyers.each_ref()).await {
                    Err(LedgerError::StaleToken { .. }) => {}
                    issued => return issued.unwrap().outcomes,
                }
            }
        });
        let outcomes = join_all(calls).await;
        let issued = outcomes.iter().flatten().filter_map(|outcome| match outcome {
            Issued::Now(issue) => Some(issue.buyer.as_str()),
            _ => None,
        });
        let buyers: Vec<&str> = issued.collect();
        let distinct: HashSet<&&str> = buyers.iter().collect();
        assert_eq!((buyers.len(), distinct.len()), (10, 10), "{database:?}");
        assert_eq!(ledger.coupon("ten").await.unwrap().unwrap().issued, 10);
    }
}

#[tokio::test]
async fn a_late_holder_issues_nothing_and_tries_again_above() {
    for database in BOTH {
        let sale = sale(database, 1).await;
        create(&sale, &json!({"id": "ten", "quantity": 10})).await;
        let ledger = sale.ledger();
        ledger.issue("ten", 1_000, &[&Applicant::account("bob")]).await.unwrap();
        for token in [999, 1_000] {
            let late = ledger.issue("ten", token, &[&Applicant::account("carl")]).await;
            assert!(matches!(late, Err(LedgerError::StaleToken { seen: 1_000, .. })), "{late:?}");
        }
        assert_eq!(issue(&sale.buyer("ann"), 0, "ten").await.status, 201, "{database:?}");
        let coupon = ledger.coupon("ten").await.unwrap().unwrap();
        assert_eq!((coupon.issued, coupon.fence > 1_000), (2, true));
    }
}
