//! Administrators find and export the orders of all buyers, and what they do is logged.

use std::collections::HashSet;
use std::fs;
use std::time::Duration;

use serde_json::{Value, json};

use crate::common::process::Process;
use crate::common::{Answer, BOTH, Buyer, Database, SaleSpec, TestSale, eventually, execute};

async fn sale(database: Database) -> TestSale {
    let products = json!([
        {"id": "1", "name": "Console", "stock": 100},
        {"id": "2", "name": "Game", "stock": 100},
    ]);
    TestSale::start(SaleSpec { nodes: 1, products, ..SaleSpec::on(database) }).await
}

async fn get(buyer: &Buyer<'_>, path: &str) -> Answer {
    buyer.call("GET", path, None).await
}

async fn order(buyer: &Buyer<'_>, products: &[&str]) -> String {
    let items: Vec<Value> =
        products.iter().map(|id| json!({"product_id": id, "quantity": 1})).collect();
    let placed = buyer.call("POST", "/v1/orders", Some(&json!({"items": items}))).await;
    placed.order().to_owned()
}

async fn pay(admin: &Buyer<'_>, order: &str, report: &Value) {
    let path = format!("/v1/orders/{order}/payment");
    assert_eq!(admin.call("POST", &path, Some(report)).await.status, 200);
}

async fn found(admin: &Buyer<'_>, conditions: &str) -> Vec<String> {
    let page = get(admin, &format!("/v1/admin/orders?{conditions}")).await;
    assert_eq!(page.status, 200, "{page:?}");
    let orders = page.body["orders"].as_array().unwrap().iter();
    orders.map(|order| order["order_id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_are_found_by_each_condition_and_page_by_page() {
    for database in BOTH {
        let sale = sale(database).await;
        let (admin, ann, bob) = (sale.admin("admin"), sale.buyer("ann"), sale.buyer("bob"));
        let confirmed = ann.buy("1", 1, None).await.order().to_owned();
        let pending = order(&ann, &["1", "2"]).await;
        let paid = order(&bob, &["2"]).await;
        let failed = order(&bob, &["1"]).await;
        pay(&admin, &paid, &json!({"result": "paid", "reference": "pay-1"})).await;
        pay(&admin, &failed, &json!({"result": "failed"})).await;

        let all = [&failed, &paid, &pending, &confirmed].map(String::clone);
        assert_eq!(found(&admin, "").await, all, "newest first, {database:?}");
        assert_eq!(found(&admin, "buyer=ann").await, all[2..]);
        assert_eq!(found(&admin, "product_id=2").await, all[1..3], "on any line");
        assert_eq!(found(&admin, "state=pending").await, all[2..3]);
        assert_eq!(found(&admin, "state=payment_failed").await, all[..1]);
        assert_eq!(found(&admin, "buyer=ann&product_id=1&state=confirmed").await, all[3..]);
        assert_eq!(found(&admin, &format!("order_id={paid}")).await, all[1..2]);
        assert_eq!(found(&admin, "buyer=nobody").await, Vec::<String>::new());
        let path = format!("/v1/admin/orders?order_id={pending}");
        let shown = get(&admin, &path).await.body["orders"][0].clone();
        assert_eq!(shown["items"].as_array().unwrap().len(), 2);
        // The moment of an order is part of its range; the end of the range is not.
        let at = shown["created_at"].as_str().unwrap();
        assert_eq!(found(&admin, &format!("from={at}")).await, all[..3]);
        assert_eq!(found(&admin, &format!("until={at}")).await, all[3..]);

        let (mut pages, mut after) = (Vec::new(), String::new());
        loop {
            let page = get(&admin, &format!("/v1/admin/orders?limit=3{after}")).await.body;
            let orders = page["orders"].as_array().unwrap();
            pages.extend(orders.iter().map(|order| order["order_id"].as_str().unwrap().to_owned()));
            let Some(next) = page["next"].as_str() else { break };
            after = format!("&after={next}");
        }
        assert_eq!(pages, all);

        for wrong in ["limit=0", "limit=501", "state=lost", "from=today", "order_id=1", "of=ann"] {
            let refused = get(&admin, &format!("/v1/admin/orders?{wrong}")).await;
            assert_eq!(refused.problem(), (422, "invalid_request"), "{wrong}");
        }
        for path in ["/v1/admin/orders", "/v1/admin/orders/export", "/v1/admin/audit"] {
            assert_eq!(get(&ann, path).await.problem(), (403, "forbidden"));
        }
    }
}

async fn text(buyer: &Buyer<'_>, path: &str) -> (String, String) {
    let answer = buyer.request(0, "GET", path).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
    (kind, answer.text().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_are_exported_with_a_line_for_each_product() {
    for database in BOTH {
        let sale = sale(database).await;
        let (admin, odd) = (sale.admin("admin"), sale.buyer("o,\"d\"\n d"));
        let first = sale.buyer("ann").buy("1", 2, None).await.order().to_owned();
        let second = order(&odd, &["1", "2"]).await;
        pay(&admin, &first, &json!({"result": "paid", "reference": "pay-1"})).await;

        let (kind, csv) = text(&admin, "/v1/admin/orders/export").await;
        assert_eq!(kind, "text/csv; charset=utf-8");
        let lines: Vec<&str> = csv.split("\r\n").collect();
        assert_eq!(lines.len(), 5, "{csv}");
        assert_eq!(
            lines[0],
            "id,line,product,buyer,quantity,state,payment_reference,created_at,amount,currency"
        );
        assert!(lines[1].starts_with(&format!("{first},0,1,ann,2,paid,pay-1,20")), "{csv}");
        assert!(lines[2].starts_with(&format!("{second},0,1,\"o,\"\"d\"\"\n d\",1,pending,,20")));
        assert!(lines[3].starts_with(&format!("{second},1,2,")));

        let path = "/v1/admin/orders/export?format=ndjson&state=pending";
        let (kind, ndjson) = text(&admin, path).await;
        assert_eq!(kind, "application/x-ndjson");
        let lines: Vec<Value> =
            ndjson.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!((&lines[1]["id"], &lines[1]["line"]), (&json!(second), &json!(1)));
        assert_eq!(lines[1]["buyer"], "o,\"d\"\n d");
        assert_eq!(lines[1]["payment_reference"], Value::Null);
        let wrong = get(&admin, "/v1/admin/orders/export?format=xml").await;
        assert_eq!(wrong.problem(), (422, "invalid_request"));
    }
}

/// Orders of some hours, in order of their ids.
async fn insert_orders(database: Database, url: &str, orders: usize) {
    let statement = match database {
        Database::Postgres => format!(
            "INSERT INTO orders (id, product_id, buyer, quantity, fence, state) \
             SELECT (lpad(to_hex(1795737600000 + n), 12, '0') || '70008000000000000000')::uuid, '1', \
             'buyer-' || n, 1, 1, 'confirmed' FROM generate_series(1, {orders}) AS n"
        ),
        Database::Sqlite => format!(
            "WITH RECURSIVE numbers (n) AS \
             (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {orders}) \
             INSERT INTO orders (id, product_id, buyer, quantity, fence, state) SELECT \
             printf('%08x-%04x-7000-8000-000000000000', (1795737600000 + n) >> 16, \
             (1795737600000 + n) & 65535), '1', 'buyer-' || n, 1, 1, 'confirmed' FROM numbers"
        ),
    };
    execute(url, &statement).await.unwrap();
}

/// Bytes that the process has in memory: now, or at most since the last reset.
fn memory(process: u32, field: &str) -> usize {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.trim_start_matches(':').trim_end_matches("kB").trim().parse::<usize>().unwrap() * 1024
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_of_a_million_orders_needs_constant_memory() {
    for (database, orders, format) in
        [(Database::Postgres, 1_000_000, "csv"), (Database::Sqlite, 200_000, "ndjson")]
    {
        let sale = TestSale::start(SaleSpec { nodes: 1, replicas: 0, ..SaleSpec::on(database) });
        let sale = sale.await;
        insert_orders(database, &sale.database_url(), orders).await;
        let replica = Process::start(&sale);
        let (url, admin) = (format!("http://{}", replica.api), sale.admin("admin"));
        eventually("the replica answers", async || {
            sale.client
                .get(format!("{url}/v1/products"))
                .bearer_auth(&admin.token)
                .send()
                .await
                .is_ok_and(|answer| answer.status() == 200)
        })
        .await;
        // A first page, so that all that stays is there.
        let page = format!("{url}/v1/admin/orders?limit=500");
        sale.client.get(page).bearer_auth(&admin.token).send().await.unwrap();
        fs::write(format!("/proc/{}/clear_refs", replica.pid()), "5").unwrap();
        let before = memory(replica.pid(), "VmRSS");
        let export = format!("{url}/v1/admin/orders/export?format={format}");
        let export = sale.client.get(export).bearer_auth(&admin.token);
        let answer = export.timeout(Duration::from_mins(5)).send().await.unwrap();
        let (mut answer, mut lines, mut bytes) = (answer, 0, 0);
        while let Some(chunk) = answer.chunk().await.unwrap() {
            lines += chunk.split(|byte| *byte == b'\n').count() - 1;
            bytes += chunk.len();
        }
        assert_eq!(lines, orders + usize::from(format == "csv"), "{database:?}");
        assert!(bytes > 32 << 20, "{bytes} bytes");
        let grown = memory(replica.pid(), "VmHWM").saturating_sub(before);
        println!("{database:?}: {bytes} bytes exported, {grown} bytes more memory");
        // SQLite's connections fill their page caches, 2 MiB each.
        assert!(grown < 32 << 20, "{grown} bytes more for an export of {bytes}");
    }
}

/// Action, target and detail of the newest entries, the newest first.
async fn log(admin: &Buyer<'_>, conditions: &str) -> Vec<(String, String, Value)> {
    let page = get(admin, &format!("/v1/admin/audit?{conditions}")).await;
    assert_eq!(page.status, 200, "{page:?}");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let entries = page.body["entries"].as_array().unwrap().iter();
    entries
        .map(|entry| (text(&entry["action"]), text(&entry["target"]), entry["detail"].clone()))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_administrators_do_is_logged_and_what_is_refused_is_not() {
    for database in BOTH {
        let sale = sale(database).await;
        let (admin, other, ann) = (sale.admin("admin"), sale.admin("other"), sale.buyer("ann"));
        let product = json!({"id": "3", "name": "Headset", "stock": 5});
        assert_eq!(admin.call("POST", "/v1/products", Some(&product)).await.status, 201);
        assert_eq!(admin.call("POST", "/v1/products", Some(&product)).await.status, 409);
        let terms = json!({"name": "The headset", "max_per_buyer": 2});
        admin.call("PUT", "/v1/products/3", Some(&terms)).await;
        let restock = json!({"add": 2, "from": 5});
        admin.call("POST", "/v1/products/3/restock", Some(&restock)).await;
        admin.call("POST", "/v1/products/3/restock", Some(&restock)).await;
        admin.call("DELETE", "/v1/products/3", None).await;
        let coupon = json!({"id": "ten", "quantity": 10});
        assert_eq!(other.call("POST", "/v1/coupons", Some(&coupon)).await.status, 201);
        assert_eq!(other.call("POST", "/v1/coupons", Some(&coupon)).await.status, 409);
        let (own, paid) = (order(&ann, &["1"]).await, order(&ann, &["1"]).await);
        ann.call("POST", &format!("/v1/orders/{own}/cancel"), None).await;
        let cancelled = order(&ann, &["1"]).await;
        other.call("POST", &format!("/v1/orders/{cancelled}/cancel"), None).await;
        pay(&other, &paid, &json!({"result": "paid", "reference": "pay-1"})).await;
        pay(&other, &paid, &json!({"result": "paid", "reference": "pay-1"})).await;
        text(&admin, "/v1/admin/orders/export?buyer=ann&state=paid").await;

        let entries = log(&admin, "").await;
        let names: Vec<_> =
            entries.iter().map(|(action, of, _)| (action.as_str(), of.as_str())).collect();
        let expected = [
            ("export_orders", "orders"),
            ("report_payment", paid.as_str()),
            ("cancel_order", &cancelled),
            ("create_coupon", "ten"),
            ("delete_product", "3"),
            ("restock_product", "3"),
            ("revise_product", "3"),
            ("create_product", "3"),
        ];
        assert_eq!(names, expected, "{database:?}");
        let details: Vec<&Value> = entries.iter().map(|(.., detail)| detail).collect();
        assert_eq!(details[0]["state"], "paid");
        assert_eq!(details[0].get("buyer"), None, "details never change");
        assert_eq!(*details[1], json!({"state": "paid", "reference": "pay-1"}));
        assert_eq!(*details[5], json!({"add": 2, "from": 5}));

        assert_eq!(log(&admin, "actor=other").await.len(), 3);
        assert_eq!(log(&admin, "action=cancel_order").await.len(), 1);
        assert_eq!(log(&admin, "target=3").await.len(), 4);
        let page = get(&admin, "/v1/admin/audit?limit=5").await.body;
        assert!(page["entries"][0]["at"].as_str().unwrap().starts_with("20"));
        assert_eq!(page["entries"][0]["actor"], "admin");
        let rest = format!("after={}", page["next"].as_str().unwrap());
        assert_eq!(log(&admin, &rest).await.len(), 3);
        let ids = page["entries"].as_array().unwrap().iter().map(|entry| entry["id"].clone());
        assert_eq!(ids.map(|id| id.to_string()).collect::<HashSet<_>>().len(), 5);
        let wrong = get(&admin, "/v1/admin/audit?limit=501").await;
        assert_eq!(wrong.problem(), (422, "invalid_request"));

        for change in [
            "UPDATE audit_log SET action = 'nothing'",
            "UPDATE audit_log SET actor = 'ann'",
            "UPDATE audit_log SET detail = NULL",
            "DELETE FROM audit_log",
        ] {
            let refused = execute(&sale.database_url(), change).await.unwrap_err();
            assert!(refused.to_string().contains("append-only"), "{change}: {refused}");
        }
        assert_eq!(log(&admin, "").await.len(), 8);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_triggers_the_audit_log_can_be_rewritten() {
    for database in BOTH {
        let sale = sale(database).await;
        let admin = sale.admin("admin");
        let coupon = json!({"id": "ten", "quantity": 10});
        assert_eq!(admin.call("POST", "/v1/coupons", Some(&coupon)).await.status, 201);
        sale.execute(match database {
            Database::Postgres => "DROP TRIGGER audit_log_rows ON audit_log",
            Database::Sqlite => "DROP TRIGGER audit_log_update; DROP TRIGGER audit_log_delete",
        })
        .await;
        assert_eq!(sale.execute("UPDATE audit_log SET target = 'twenty'").await, 1);
        assert_eq!(log(&admin, "").await[0].1, "twenty", "{database:?}");
        assert_eq!(sale.execute("DELETE FROM audit_log").await, 1);
        assert!(log(&admin, "").await.is_empty(), "{database:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_cannot_be_logged_is_not_made() {
    for database in BOTH {
        let sale = sale(database).await;
        let (admin, ann) = (sale.admin("admin"), sale.buyer("ann"));
        let pending = [order(&ann, &["1"]).await, order(&ann, &["1"]).await];
        let broken = match database {
            Database::Postgres => "ALTER TABLE audit_log ADD CONSTRAINT broken CHECK (actor = '')",
            Database::Sqlite => {
                "CREATE TRIGGER broken BEFORE INSERT ON audit_log \
                 BEGIN SELECT RAISE(ABORT, 'broken'); END"
            }
        };
        sale.execute(broken).await;
        let product = json!({"id": "3", "name": "Headset", "stock": 5});
        let (paid, add) = (json!({"result": "paid"}), json!({"add": 5}));
        let coupon = json!({"id": "ten", "quantity": 10});
        for (method, path, body) in [
            ("POST", "/v1/products".to_owned(), Some(&product)),
            ("POST", "/v1/products/1/restock".to_owned(), Some(&add)),
            ("DELETE", "/v1/products/2".to_owned(), None),
            ("POST", "/v1/coupons".to_owned(), Some(&coupon)),
            ("POST", format!("/v1/orders/{}/payment", pending[0]), Some(&paid)),
            ("POST", format!("/v1/orders/{}/cancel", pending[1]), None),
            ("GET", "/v1/admin/orders/export".to_owned(), None),
        ] {
            let refused = admin.call(method, &path, body).await;
            assert_eq!(refused.problem(), (503, "database_unavailable"), "{database:?} {path}");
        }
        let overview = get(&admin, "/v1/admin/overview").await.body;
        assert_eq!(overview["products"].as_array().unwrap().len(), 2);
        assert_eq!(overview["products"][0]["stock"], 100);
        assert_eq!(get(&admin, "/v1/coupons/ten").await.problem(), (404, "unknown_coupon"));
        assert_eq!(found(&admin, "state=pending").await.len(), 2);
        assert_eq!(ann.stock("1").await, 98);
        // What is not of administrators goes on.
        let cancelled = ann.call("POST", &format!("/v1/orders/{}/cancel", pending[1]), None).await;
        assert_eq!(cancelled.status, 200, "{cancelled:?}");
    }
}
