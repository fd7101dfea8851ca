//! Replicas of the release before and of this one sell together on the tables of this one, then the release before alone
//! (a rollback of the image), then this one again. Whichever release answers, the orders, the stock, the limits and the
//! events are exact, while this one refunds orders of both. `cargo xtask test previous` builds the other app.

mod limit_by;
mod refunds;
mod releases;
mod waitlist;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::Ordering;

use futures::future::join_all;
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection, SqliteConnection};

use crate::common::process::Process;
use crate::common::{Database, SaleSpec, TestSale, eventually};
use crate::crowd::{BUYERS, Crowd, Known, PRODUCTS};
use crate::receiver::Receiver;

/// The program of the release before.
const PROGRAM: &str = "FLASHSALE_PREVIOUS_APP";

fn previous() -> PathBuf {
    let program = std::env::var_os(PROGRAM).map(PathBuf::from);
    assert!(program.is_some(), "{PROGRAM} is not set: run `cargo xtask test previous`");
    program.unwrap()
}

/// A catalog that both releases read.
fn catalog() -> Value {
    let product = |(id, stock, limit): (&str, i64, Option<i64>)| {
        let mut product = json!({"id": id, "name": id, "stock": stock});
        if let Some(limit) = limit {
            product["max_per_buyer"] = json!(limit);
        }
        product
    };
    PRODUCTS.map(product).into_iter().collect()
}

/// The catalog of this release: every product has a price.
fn catalog_with_prices() -> Value {
    let mut catalog = catalog();
    for product in catalog.as_array_mut().unwrap() {
        product["price"] = json!({"amount": 500, "currency": "EUR"});
    }
    catalog
}

fn seed(program: &Path, sale: &TestSale, products: &Value) {
    sale.write_catalog(products);
    let seeded = Command::new(program).arg("seed").envs(sale.settings()).output().unwrap();
    let text = String::from_utf8_lossy(&seeded.stderr);
    assert!(seeded.status.success(), "{text}");
}

async fn ready(sale: &TestSale, process: &Process) {
    let url = format!("http://{}/readyz", process.internal);
    eventually("the replica is ready", async || {
        sale.client.get(&url).send().await.is_ok_and(|answer| answer.status() == 200)
    })
    .await;
}

/// A line of an order in the database: id, product, units, state, the price of a unit, and whether the buyer has them.
type Line = (String, String, i64, String, Option<i64>, bool);

async fn lines(url: &str) -> Vec<Line> {
    let query = "SELECT CAST(id AS TEXT), product_id, quantity, \
         CASE WHEN refunded_at_ms IS NULL THEN coalesce(ended_as, state) ELSE 'refunded' END, \
         unit_price, state NOT IN ('cancelled', 'payment_failed') FROM orders";
    if url.starts_with("sqlite:") {
        let mut database = SqliteConnection::connect(url).await.unwrap();
        sqlx::query_as(query).fetch_all(&mut database).await.unwrap()
    } else {
        let mut database = PgConnection::connect(url).await.unwrap();
        sqlx::query_as(query).fetch_all(&mut database).await.unwrap()
    }
}

/// Compares the database, the nodes and the receiver with what buyers were told.
async fn check(crowd: &Crowd<'_>, receiver: &Receiver) {
    let (sale, orders) = (crowd.sale, crowd.orders.lock().unwrap().clone());
    let url = sale.database_url();
    let count: usize = orders.values().map(|known| known.items.len()).sum();
    eventually("all is recorded", async || lines(&url).await.len() >= count).await;
    let lines = lines(&url).await;
    assert_eq!(lines.len(), count, "no order that nobody was told of");
    let mut taken = HashMap::<(&str, &str), i64>::new();
    for (id, product, quantity, state, _, is_taken) in &lines {
        let known = &orders[id];
        assert!(known.items.contains(&(product.clone(), *quantity)), "{id} {known:?}");
        assert_eq!(known.kinds.last(), Some(&state.as_str()), "{id} {known:?}");
        let expected = match state.as_str() {
            "pending" | "confirmed" | "paid" => true,
            "refunded" => !known.units_back,
            _ => false,
        };
        assert_eq!(*is_taken, expected, "{id} {known:?}");
        if *is_taken {
            *taken.entry((product.as_str(), known.buyer.as_str())).or_default() += quantity;
        }
    }
    for (product, stock, limit) in PRODUCTS {
        let of_product = || taken.iter().filter(move |((id, _), _)| *id == product);
        if let Some(limit) = limit {
            assert!(of_product().all(|(_, units)| *units <= limit), "{taken:?}");
        }
        let left = stock - of_product().map(|(_, units)| units).sum::<i64>();
        let products = sale.ledger().products().await.unwrap();
        let found = products.iter().find(|found| found.id == product).unwrap();
        assert_eq!(found.available, left, "{product}");
        sale.await_stock_on_nodes(product, &left.to_string()).await;
    }

    let ledger = sale.ledger();
    eventually("nothing waits to be sent", async || ledger.pending_events().await.unwrap() == 0)
        .await;
    for (id, known) in &orders {
        let seen = receiver.kinds_of(id);
        if known.has_events {
            assert_eq!(seen, known.kinds, "{id} {known:?}");
        } else {
            let later = known.kinds.iter().skip(known.kinds.len() - seen.len());
            assert!(later.eq(seen.iter()), "{id} {known:?} {seen:?}");
        }
    }
    let strange =
        receiver.taken().into_iter().find(|webhook| !orders.contains_key(webhook.order()));
    assert!(strange.is_none(), "{strange:?}");
}

async fn start(database: Database, strategy: &str, receiver: &Receiver) -> TestSale {
    let mut settings = receiver.settings();
    settings.extend([
        ("STRATEGY", strategy.to_owned()),
        ("HOLD_SECONDS", "3600".to_owned()),
        ("DATABASE_MAX_CONNECTIONS", "4".to_owned()),
    ]);
    let nodes = if strategy == "Atomic" { 1 } else { 5 };
    let products = json!([]);
    TestSale::start(SaleSpec { nodes, replicas: 0, products, settings, ..SaleSpec::on(database) })
        .await
}

/// Ends the holds, and compares again. Those that this release made end; the release before made orders without one.
async fn end_holds(crowd: &Crowd<'_>, receiver: &Receiver) {
    let sale = crowd.sale;
    let is_open = "WHERE state = 'pending' AND expires_at_ms IS NOT NULL";
    let end = format!("UPDATE orders SET expires_at_ms = 1 {is_open}");
    assert!(sale.execute(&end).await > 0);
    // Only read: an update of all rows in another order than the replicas' could be in a deadlock with theirs.
    let open = format!("SELECT CAST(count(*) AS TEXT) FROM orders {is_open}");
    let none = [Some("0".to_owned())];
    eventually("the holds have ended", async || sale.query(&open).await == none).await;
    for (id, _, _, state, ..) in lines(&sale.database_url()).await {
        if state == "expired" {
            let mut orders = crowd.orders.lock().unwrap();
            orders.get_mut(&id).unwrap().kinds = vec!["pending", "expired"];
        }
    }
    check(crowd, receiver).await;
}

/// The shop has refunded orders with their units, and others without.
fn check_refunds(crowd: &Crowd<'_>) {
    let orders = crowd.orders.lock().unwrap();
    for units_back in [false, true] {
        let is_one = |known: &Known| {
            known.kinds.last() == Some(&"refunded") && known.units_back == units_back
        };
        assert!(orders.values().any(is_one), "none was refunded, units back: {units_back}");
    }
}

/// Orders that were sold after the prices were declared have them, whichever release sold.
async fn check_prices(crowd: &Crowd<'_>) {
    let (lines, orders) = (lines(&crowd.sale.database_url()).await, crowd.orders.lock().unwrap());
    for line in lines.iter().filter(|line| orders[&line.0].has_events) {
        assert_eq!(line.4, Some(500), "{line:?}");
    }
    assert!(lines.iter().any(|line| line.4.is_none()), "some were sold before");
}

async fn both_releases_sell(strategy: &str) {
    let (receiver, old) = (Receiver::start().await, previous());
    let sale = start(Database::Postgres, strategy, &receiver).await;
    let new = Path::new(env!("CARGO_BIN_EXE_flashsale-app"));
    seed(&old, &sale, &catalog());
    let mut olds = [Process::start_program(&sale, &old), Process::start_program(&sale, &old)];
    for process in &olds {
        ready(&sale, process).await;
    }
    let crowd = Crowd::of(&sale, strategy == "Locked");
    crowd.ask(&[&olds[0], &olds[1]]);
    let changing = async {
        crowd.more().await;
        // The roll-out: the tables change while the release before sells.
        seed(new, &sale, &catalog_with_prices());
        let mut news = [Process::start(&sale), Process::start(&sale)];
        for process in &news {
            ready(&sale, process).await;
        }
        crowd.has_events.store(true, Ordering::Relaxed);
        crowd.refund_at(&[&news[0], &news[1]]);
        crowd.ask(&[&olds[0], &olds[1], &news[0], &news[1]]);
        crowd.more().await;
        // One of each is killed, as by a node that is lost.
        olds[0].kill();
        news[0].kill();
        crowd.more().await;
        olds[0].start_again(&sale);
        ready(&sale, &olds[0]).await;
        // The rollback of the image.
        crowd.ask(&[&olds[0], &olds[1]]);
        news[1].kill();
        crowd.more().await;
        // The roll-out once more.
        news[0].start_again(&sale);
        news[1].start_again(&sale);
        for process in &news {
            ready(&sale, process).await;
        }
        crowd.ask(&[&olds[0], &news[0], &news[1]]);
        crowd.more().await;
        crowd.ask(&[&news[0], &news[1]]);
        for old in &mut olds {
            old.kill();
        }
        crowd.more().await;
        crowd.is_over.store(true, Ordering::Relaxed);
        news
    };
    let buying = join_all((0..BUYERS).map(|it| crowd.buys(it)));
    let (_news, _, ()) = tokio::join!(changing, buying, crowd.refunds());
    check(&crowd, &receiver).await;
    check_refunds(&crowd);

    if strategy == "Locked" {
        end_holds(&crowd, &receiver).await;
    }
    check_prices(&crowd).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn both_releases_sell_together_and_each_alone() {
    both_releases_sell("Locked").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn both_releases_sell_together_and_each_alone_where_redis_decides() {
    both_releases_sell("Atomic").await;
}

/// `SQLite` has one replica.
#[tokio::test(flavor = "multi_thread")]
async fn each_release_sells_on_what_the_other_one_left_in_sqlite() {
    let (receiver, old) = (Receiver::start().await, previous());
    let sale = start(Database::Sqlite, "Locked", &receiver).await;
    let new = Path::new(env!("CARGO_BIN_EXE_flashsale-app"));
    seed(&old, &sale, &catalog());
    let mut first = Process::start_program(&sale, &old);
    ready(&sale, &first).await;
    let crowd = Crowd::of(&sale, true);
    crowd.ask(&[&first]);
    let changing = async {
        crowd.more().await;
        first.kill();
        seed(new, &sale, &catalog_with_prices());
        let mut second = Process::start(&sale);
        ready(&sale, &second).await;
        crowd.has_events.store(true, Ordering::Relaxed);
        crowd.refund_at(&[&second]);
        crowd.ask(&[&second]);
        crowd.more().await;
        second.kill();
        first.start_again(&sale);
        crowd.ask(&[&first]);
        crowd.more().await;
        first.kill();
        second.start_again(&sale);
        crowd.ask(&[&second]);
        crowd.more().await;
        crowd.is_over.store(true, Ordering::Relaxed);
        second
    };
    let buying = join_all((0..BUYERS).map(|it| crowd.buys(it)));
    let (_second, _, ()) = tokio::join!(changing, buying, crowd.refunds());
    check(&crowd, &receiver).await;
    check_refunds(&crowd);
    end_holds(&crowd, &receiver).await;
    check_prices(&crowd).await;
}
