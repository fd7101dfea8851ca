//! The end of holds of one product: in one round trip, and as the rules end them.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection as _, PgConnection, PgPool};
use testkit::Postgres as Server;

use super::*;
use crate::Ledger;
use crate::orders::settle::settle;
use crate::sql::postgres_now;
use crate::testing::{
    await_a_waiting_statement, await_an_idle_connection, behind_proxy, losing_an_answer,
    on_postgres, plan_without_rows, pool_of,
};

/// Orders 1 to 10 hold a unit of product `a` each, and their time has come. Four units of it are left.
const HELD: &str = "INSERT INTO products (id, name) VALUES ('a', 'Console'), ('b', 'Console'); \
     INSERT INTO stock (product_id, declared, available, fence) VALUES ('a', 20, 4, 1), ('b', 20, 4, 1); \
     INSERT INTO event_sinks (name, seen_at_ms) VALUES ('shop', 0); \
     INSERT INTO orders (id, product_id, buyer, quantity, fence, state, expires_at_ms) \
     SELECT lpad(to_hex(n), 32, '0')::UUID, 'a', 'b' || n, 1, 1, 'pending', 1 FROM generate_series(1, 10) n";
const PAID: &str =
    "UPDATE orders SET state = 'paid' WHERE id = '00000000-0000-0000-0000-000000000001'";
const WAITS: &str =
    "INSERT INTO waitlist (product_id, buyer, quantity, hold_ms) VALUES ('a', 'ann', 1, 60000)";
/// An order of two products, one of which is locked by somebody else.
const OF_TWO_PRODUCTS: &str = "INSERT INTO orders (id, line, product_id, buyer, quantity, fence, state, expires_at_ms) \
     SELECT id, 1, 'b', buyer, 1, 1, state, expires_at_ms FROM orders WHERE buyer = 'b1'";

async fn execute(pool: &PgPool, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(pool).await.unwrap();
}

async fn held(connections: u32) -> (Arc<Server>, Ledger) {
    let (server, ledger) = on_postgres(connections).await;
    execute(pool_of(&ledger), HELD).await;
    (server, ledger)
}

fn replica(ledger: &Ledger) -> PostgresLedger {
    PostgresLedger::of(pool_of(ledger).clone())
}

fn tokens(token: i64) -> BTreeMap<String, i64> {
    BTreeMap::from([("a".to_owned(), token)])
}

fn ids(numbers: RangeInclusive<u128>) -> Vec<Uuid> {
    numbers.map(Uuid::from_u128).collect()
}

fn expire(numbers: RangeInclusive<u128>) -> Task {
    Task::Expire { ids: ids(numbers) }
}

/// What the rules alone make of it.
async fn settle_by_rules(
    ledger: &Ledger,
    tokens: &BTreeMap<String, i64>,
    tasks: &[&Task],
) -> Result<Settlement, String> {
    let mut transaction = replica(ledger).begin().await.unwrap();
    let settled = settle(&mut *transaction, tokens, tasks).await;
    transaction.end(settled).await.map_err(|error| error.to_string())
}

/// All rows, without what is never the same: times, and the ids of orders that serve who waits.
async fn tables(ledger: &Ledger) -> Vec<String> {
    let rows = "SELECT (to_jsonb(o) - 'id' - 'created_at' - 'expires_at_ms')::TEXT FROM orders o \
         UNION ALL SELECT (to_jsonb(s) - 'deleted_at')::TEXT FROM stock s \
         UNION ALL SELECT (to_jsonb(w) - 'place')::TEXT FROM waitlist w \
         UNION ALL SELECT o.buyer || ': ' || e.state FROM order_events e \
           JOIN orders o ON o.id = e.order_id AND o.line = 0";
    let mut rows: Vec<String> = sqlx::query_scalar(rows).fetch_all(pool_of(ledger)).await.unwrap();
    rows.sort_unstable();
    rows
}

/// Eight orders from this number on, and who waits.
fn random_change(first: u128) -> String {
    // A part of them is due.
    let states = [
        "'pending', 1",
        "'pending', 1",
        "'pending', 1",
        "'pending', 4102444800000",
        "'pending', NULL",
        "'paid', 1",
        "'cancelled', 1",
    ];
    let mut lines = Vec::new();
    for number in first..first + 8 {
        let (id, quantity) = (Uuid::from_u128(number), rand::random_range(1..4));
        let state = states[rand::random_range(0..states.len())];
        lines.push(format!("('{id}', 0, 'a', 'b{number}', {quantity}, 1, {state})"));
        if rand::random_ratio(1, 20) {
            lines.push(format!("('{id}', 1, 'b', 'b{number}', {quantity}, 1, {state})"));
        }
    }
    let waits = if rand::random_ratio(1, 3) {
        let product = ["a", "b"][rand::random_range(0..2)];
        let quantity = rand::random_range(1..4);
        format!(
            "INSERT INTO waitlist (product_id, buyer, quantity, hold_ms) \
             VALUES ('{product}', 'w{first}', {quantity}, 60000)"
        )
    } else {
        String::new()
    };
    let deleted_at = if rand::random_ratio(1, 10) { "now()" } else { "NULL" };
    format!(
        "INSERT INTO orders (id, line, product_id, buyer, quantity, fence, state, expires_at_ms) VALUES {}; \
         UPDATE stock SET deleted_at = {deleted_at}; DELETE FROM waitlist; {waits}",
        lines.join(", ")
    )
}

/// Up to three tasks with some of these orders and unknown ones. An order may be in several.
fn random_tasks(first: u128) -> Vec<Task> {
    let id = |_| Uuid::from_u128(rand::random_range(first - 3..first + 10));
    let task = |_| Task::Expire { ids: (0..rand::random_range(0..7)).map(id).collect() };
    (0..rand::random_range(1..4)).map(task).collect()
}

/// What ends at once is what the rules would have ended; the rest is left to them.
#[tokio::test]
async fn holds_end_at_once_as_the_rules_end_them() {
    let (_server, ledger) = held(2).await;
    let (_same_server, model) = held(2).await;
    for ledger in [&ledger, &model] {
        execute(pool_of(ledger), "UPDATE stock SET declared = 1000000").await;
    }
    let (mut at_once, mut by_rules, mut token) = (0, 0, 1);
    for round in 1..=120 {
        let (change, tasks) = (random_change(round * 100), random_tasks(round * 100));
        for ledger in [&ledger, &model] {
            execute(pool_of(ledger), &change).await;
        }
        // Now and then the token of before comes again.
        token += i64::from(!rand::random_ratio(1, 8));
        let products: &[&str] = match rand::random_range(0..10) {
            0 => &["unknown"],
            1 => &["a", "b"],
            _ => &["a"],
        };
        let tokens: BTreeMap<String, i64> =
            products.iter().map(|product| ((*product).to_owned(), token)).collect();
        let tasks: Vec<&Task> = tasks.iter().collect();
        let expected = settle_by_rules(&model, &tokens, &tasks).await;
        let ended = replica(&ledger).expire_at_once(&tokens, &tasks).await.unwrap();
        let settled = if let Some(settlement) = ended {
            at_once += 1;
            Ok(settlement)
        } else {
            by_rules += 1;
            settle_by_rules(&ledger, &tokens, &tasks).await
        };
        let context = format!("{round}: {tokens:?} {tasks:?} {change}");
        assert_eq!(settled, expected, "{context}");
        assert_eq!(tables(&ledger).await, tables(&model).await, "{context}");
    }
    assert!(at_once > 10 && by_rules > 10, "{at_once}, {by_rules}");
}

#[tokio::test]
async fn holds_of_one_product_end_in_one_round_trip() {
    let (_server, _, proxy, ledger) = behind_proxy(2).await;
    execute(pool_of(&ledger), HELD).await;
    // Orders 5 and 6 are named twice.
    let tasks = [expire(1..=6), expire(5..=10)];
    let tasks: Vec<&Task> = tasks.iter().collect();
    for (token, expected) in [(2, [6, 4]), (3, [0, 0])] {
        proxy.round_trips().quiet(Duration::from_millis(50)).await;
        let before = proxy.round_trips().count();
        let settlement = ledger.settle(&tokens(token), &tasks).await.unwrap();
        assert_eq!(proxy.round_trips().count() - before, 1);
        let outcomes = expected.map(Settled::Expired).to_vec();
        let available = BTreeMap::from([("a".to_owned(), 14)]);
        assert_eq!(settlement, Settlement { outcomes, available, handed_out: 0 });
        let products = ledger.products().await.unwrap();
        assert_eq!((products[0].available, products[0].fence), (14, token));
    }
}

#[tokio::test]
async fn where_somebody_waits_the_rules_hand_the_units_out() {
    let (_server, ledger) = held(2).await;
    execute(pool_of(&ledger), WAITS).await;
    let (before, expire) = (tables(&ledger).await, expire(1..=10));
    assert_eq!(replica(&ledger).expire_at_once(&tokens(2), &[&expire]).await.unwrap(), None);
    assert_eq!(tables(&ledger).await, before);
    let settlement = ledger.settle(&tokens(2), &[&expire]).await.unwrap();
    assert_eq!(settlement.outcomes, [Settled::Expired(10)]);
    assert_eq!((settlement.available["a"], settlement.handed_out), (13, 1));
}

#[tokio::test]
async fn a_late_holder_ends_no_hold_and_is_told_the_fence() {
    let (_server, ledger) = held(2).await;
    let (before, expire) = (tables(&ledger).await, expire(1..=10));
    assert_eq!(replica(&ledger).expire_at_once(&tokens(1), &[&expire]).await.unwrap(), None);
    let late = ledger.settle(&tokens(1), &[&expire]).await.unwrap_err();
    assert!(matches!(&late, LedgerError::StaleTokens(seen) if seen[..] == [("a".to_owned(), 1)]));
    assert_eq!(tables(&ledger).await, before);
}

/// The statement has begun, and waits for a row, when somebody else commits.
#[tokio::test]
async fn what_is_changed_meanwhile_is_not_ended_and_not_lost() {
    let sold = "UPDATE stock SET available = available - 1 WHERE product_id = 'a'";
    let cancelled = "UPDATE stock SET fence = 2, available = available + 1 WHERE product_id = 'a'; \
         UPDATE orders SET state = 'cancelled' WHERE buyer = 'b1'";
    for (change, is_at_once, expired, left) in
        [(PAID, true, 9, 13), (sold, true, 10, 13), (cancelled, false, 9, 14)]
    {
        let (_server, ledger) = held(3).await;
        let pool = pool_of(&ledger);
        let mut other = PgConnection::connect_with(&pool.connect_options()).await.unwrap();
        let change = format!("BEGIN; {change}");
        sqlx::raw_sql(AssertSqlSafe(change.clone())).execute(&mut other).await.unwrap();
        let committing = async {
            await_a_waiting_statement(pool).await;
            sqlx::raw_sql("COMMIT").execute(&mut other).await.unwrap();
        };
        let (replica, tokens, expire) = (replica(&ledger), tokens(3), expire(1..=10));
        let tasks = [&expire];
        let (ended, ()) = tokio::join!(replica.expire_at_once(&tokens, &tasks), committing);
        let ended = ended.unwrap();
        assert_eq!(ended.is_some(), is_at_once, "{change}");
        let settlement = match ended {
            Some(settlement) => settlement,
            None => ledger.settle(&tokens, &tasks).await.unwrap(),
        };
        assert_eq!(settlement.outcomes, [Settled::Expired(expired)], "{change}");
        assert_eq!(settlement.available["a"], left, "{change}");
        let products = ledger.products().await.unwrap();
        assert_eq!((products[0].available, products[0].fence), (left, 3), "{change}");
    }
}

/// The protections one by one: `damage` is done where the statement is without the condition, and only there.
#[tokio::test]
async fn without_its_conditions_the_statement_does_damage() {
    let is_due = concat!(" AND expires_at_ms <= ", postgres_now!());
    let waits = " AND NOT EXISTS (SELECT FROM waitlist WHERE waitlist.product_id = $1)";
    let in_future = "UPDATE orders SET expires_at_ms = 4102444800000 WHERE buyer = 'b1'";
    let (later, deleted) = (
        "UPDATE stock SET fence = 9",
        "UPDATE stock SET deleted_at = now() WHERE product_id = 'a'",
    );
    let ended = "SELECT state = 'cancelled' FROM orders WHERE buyer = 'b1' AND line = 0";
    let on_sale = "SELECT available > 4 FROM stock WHERE product_id = 'a'";
    let fence_is_lower = "SELECT fence < 9 FROM stock WHERE product_id = 'a'";
    for (condition, instead, change, damage) in [
        (" AND state = 'pending'", "", PAID, ended),
        (is_due, "", in_future, ended),
        (" AND fence < $2", "", later, fence_is_lower),
        (" AND deleted_at IS NULL", "", deleted, on_sale),
        (waits, "", WAITS, on_sale),
        ("bool_and(product_id = $1)", "TRUE", OF_TWO_PRODUCTS, ended),
    ] {
        let without = EXPIRE_AT_ONCE.replace(condition, instead);
        assert_ne!(without, EXPIRE_AT_ONCE, "{condition}");
        for (statement, is_damaged) in [(EXPIRE_AT_ONCE, false), (without.as_str(), true)] {
            let (_server, ledger) = held(2).await;
            let pool = pool_of(&ledger);
            execute(pool, change).await;
            let query = sqlx::query(AssertSqlSafe(statement.to_owned())).bind("a").bind(2_i64);
            let done = query.bind(ids(1..=10)).execute(pool).await;
            let is_undone = change == OF_TWO_PRODUCTS && !is_damaged;
            assert_eq!(done.is_err(), is_undone, "{condition}: {done:?}");
            let damaged: bool = sqlx::query_scalar(damage).fetch_one(pool).await.unwrap();
            assert_eq!(damaged, is_damaged, "{condition}");
        }
    }
}

/// Without the look at the fence that was seen, the token of the one who waited would replace a later one.
#[tokio::test]
async fn a_later_holder_that_commits_meanwhile_keeps_its_fence() {
    let without = EXPIRE_AT_ONCE.replace("JOIN seen ON fence = seen", "CROSS JOIN seen");
    assert_ne!(without, EXPIRE_AT_ONCE);
    for (statement, expected) in [(EXPIRE_AT_ONCE, 9), (without.as_str(), 2)] {
        let (_server, ledger) = held(3).await;
        let pool = pool_of(&ledger);
        let mut later = PgConnection::connect_with(&pool.connect_options()).await.unwrap();
        let change = "BEGIN; UPDATE stock SET fence = 9 WHERE product_id = 'a'";
        sqlx::raw_sql(change).execute(&mut later).await.unwrap();
        let committing = async {
            await_a_waiting_statement(pool).await;
            sqlx::raw_sql("COMMIT").execute(&mut later).await.unwrap();
        };
        let query = sqlx::query(AssertSqlSafe(statement.to_owned())).bind("a").bind(2_i64);
        let (done, ()) = tokio::join!(query.bind(ids(1..=10)).execute(pool), committing);
        done.unwrap();
        assert_eq!(ledger.products().await.unwrap()[0].fence, expected);
    }
}

/// A session keeps the plan of a time when there were no orders.
#[tokio::test]
async fn orders_are_found_by_their_ids_whenever_the_plan_was_made() {
    let (_server, ledger) = on_postgres(2).await;
    let tables = "orders, stock, waitlist";
    let plan = plan_without_rows(pool_of(&ledger), tables, EXPIRE_AT_ONCE).await;
    assert!(plan.contains("Index Cond: (id = ANY ($3))"), "{plan}");
    assert!(plan.contains("Index Cond: (product_id = $1)"), "{plan}");
    assert!(!plan.contains("Seq Scan"), "{plan}");
}

/// The statement was carried out, and its answer did not come: no end is reported, and units come back once.
#[tokio::test]
async fn a_lost_answer_gives_no_units_back_twice() {
    let (_server, _, _proxy, ledger, armed) = losing_an_answer().await;
    let pool = pool_of(&ledger);
    execute(pool, HELD).await;
    await_an_idle_connection(pool).await;
    armed.store(true, Ordering::SeqCst);
    let expire = expire(1..=10);
    let error = ledger.settle(&tokens(2), &[&expire]).await.unwrap_err();
    assert!(matches!(error, LedgerError::ConnectionLost), "{error}");
    let settlement = ledger.settle(&tokens(3), &[&expire]).await.unwrap();
    assert_eq!(
        (&settlement.outcomes[..], settlement.available["a"]),
        (&[Settled::Expired(0)][..], 14)
    );
}
