//! Orders of one product: in one round trip, and decided as the rules decide them.

use std::time::Duration;

use sqlx::{Connection as _, PgConnection, PgPool};

use super::*;
use crate::money::Currency;
use crate::orders::allocation::OrderAllocation;
use crate::orders::order::{OrderLine, OrderState};
use crate::testing::{await_a_waiting_statement, behind_proxy, on_postgres, pool_of};
use crate::{Ledger, ProductDeclaration};

const HOLD_MS: i64 = 60_000;

async fn declare(ledger: &Ledger, stock: i64, max_per_buyer: Option<i64>) {
    // A product has a price, or a limit, or both.
    let price = max_per_buyer.is_none_or(|limit| limit < 20);
    let product = serde_json::json!({
        "id": "a", "name": "Console", "stock": stock, "max_per_buyer": max_per_buyer,
        "price": price.then(|| serde_json::json!({"amount": 500, "currency": "EUR"})),
    });
    let product: ProductDeclaration = serde_json::from_value(product).unwrap();
    ledger.declare(&product, 1).await.unwrap();
}

/// A replica that has left nothing to the rules lately.
fn replica(pool: &PgPool) -> PostgresLedger {
    PostgresLedger::of(pool.clone())
}

fn order(buyer: &str, quantity: i64, key: Option<&str>, person: Option<&str>) -> NewOrder {
    NewOrder {
        buyer: buyer.to_owned(),
        lines: vec![OrderLine { product_id: "a".to_owned(), quantity }],
        idempotency_key: key.map(str::to_owned),
        state: OrderState::Pending,
        hold_ms: Some(HOLD_MS),
        limit_key: person.map(str::to_owned),
    }
}

fn tokens(token: i64) -> BTreeMap<String, i64> {
    BTreeMap::from([("a".to_owned(), token)])
}

fn name_of(outcome: &Settled) -> &'static str {
    match outcome {
        Settled::Done(_) => "done",
        Settled::DoneBefore(_) => "before",
        Settled::KeyReused => "key",
        Settled::SoldOut(_) => "sold out",
        Settled::LimitReached(_) => "limit",
        other => panic!("{other:?}"),
    }
}

fn random(by_persons: bool) -> NewOrder {
    let buyer = rand::random_range(0..30);
    let key = rand::random_ratio(1, 3).then(|| format!("k{}", rand::random_range(0..200)));
    // Three accounts of each person.
    let person = by_persons.then(|| format!("limit:{}", buyer / 3));
    let order =
        order(&format!("b{buyer}"), rand::random_range(1..3), key.as_deref(), person.as_deref());
    let held = [order.clone(), NewOrder { state: OrderState::Confirmed, hold_ms: None, ..order }];
    held[rand::random_range(0..2)].clone()
}

/// What is placed at once is what the rules would have placed; the rest is left to them.
#[tokio::test]
async fn orders_are_placed_at_once_as_the_rules_place_them() {
    for (limit, by_persons) in [(None, false), (Some(9), false), (None, true), (Some(20), true)] {
        let (_server, ledger) = on_postgres(2).await;
        declare(&ledger, 400, limit).await;
        let mut model = OrderAllocation::new(BTreeMap::from([("a".to_owned(), 400)]));
        model.limits.extend(limit.map(|limit| ("a".to_owned(), limit)));
        let price = Price { amount: 500, currency: Currency::of("EUR").unwrap() };
        let price = Some(price).filter(|_| limit != Some(20));
        model.prices.extend(price.map(|price| ("a".to_owned(), price)));
        // An account of the first person was erased.
        let erased = "INSERT INTO erased_units VALUES ('limit:0', 'a', 9)";
        sqlx::raw_sql(erased).execute(pool_of(&ledger)).await.unwrap();
        model.bought.insert(("limit:0".to_owned(), "a".to_owned()), 9);
        let (mut at_once, mut by_rules) = (0, 0);
        for token in 2..120 {
            let orders: Vec<NewOrder> =
                (0..rand::random_range(1..8)).map(|_| random(by_persons)).collect();
            let tasks: Vec<Task> = orders.iter().cloned().map(Task::Place).collect();
            let tasks: Vec<&Task> = tasks.iter().collect();
            let (tokens, replica) = (tokens(token), replica(pool_of(&ledger)));
            let placed = replica.place_at_once(&tokens, &tasks).await.unwrap();
            let settlement = if let Some(settlement) = placed {
                at_once += 1;
                settlement
            } else {
                by_rules += 1;
                replica.settle(&tokens, &tasks).await.unwrap()
            };
            let context = format!("{limit:?} {token} {orders:?}");
            assert_eq!(settlement.outcomes.len(), orders.len());
            for (order, outcome) in orders.iter().zip(&settlement.outcomes) {
                let expected = model.place(order);
                assert_eq!(name_of(outcome), name_of(&expected), "{context}");
                let (Settled::Done(placed) | Settled::DoneBefore(placed)) = outcome else {
                    continue;
                };
                let written = ledger.placed(placed.id).await.unwrap();
                assert_eq!(written.as_ref(), Some(placed), "{context}");
                assert_eq!(placed.expires_at_ms.is_some(), placed.state == OrderState::Pending);
                assert_eq!(placed.prices, [price], "{context}");
                let Some(key) = &order.idempotency_key else { continue };
                let known = model.existing.get_mut(&(order.buyer.clone(), key.clone())).unwrap();
                if matches!(outcome, Settled::Done(_)) {
                    *known = placed.clone();
                }
                // The same order again, not only some order.
                assert_eq!(known.id, placed.id, "{context}");
            }
            assert_eq!(settlement.available, model.available, "{context}");
        }
        assert!(at_once > 10 && by_rules > 10, "{limit:?}: {at_once}, {by_rules}");
    }
}

#[tokio::test]
async fn a_batch_of_one_product_is_one_round_trip() {
    for (limit, key, person) in [
        (None, None, None),
        (None, Some("k"), None),
        (Some(9), Some("k"), None),
        (Some(9), Some("k"), Some("limit:1")),
    ] {
        let (_server, _, proxy, ledger) = behind_proxy(2).await;
        declare(&ledger, 10, limit).await;
        let tasks = ["ann", "bob"].map(|buyer| Task::Place(order(buyer, 1, key, person)));
        let settle = async |token| {
            let (tokens, tasks) = (tokens(token), tasks.iter().collect::<Vec<_>>());
            proxy.round_trips().quiet(Duration::from_millis(50)).await;
            let before = proxy.round_trips().count();
            let settlement = ledger.settle(&tokens, &tasks).await.unwrap();
            (settlement, proxy.round_trips().count() - before)
        };
        let (settlement, trips) = settle(2).await;
        assert_eq!(settlement.outcomes.iter().map(name_of).collect::<Vec<_>>(), ["done", "done"]);
        assert_eq!((settlement.available["a"], trips), (8, 1), "{limit:?} {key:?} {person:?}");
        let (again, _) = settle(3).await;
        let expected = if key.is_some() { ["before", "before"] } else { ["done", "done"] };
        assert_eq!(again.outcomes.iter().map(name_of).collect::<Vec<_>>(), expected);
    }
}

/// A key that was used, too few units, a limit: the next batches do not try in vain.
#[tokio::test]
async fn after_a_refusal_the_next_orders_go_to_the_rules() {
    let (_server, ledger) = on_postgres(2).await;
    declare(&ledger, 10, Some(9)).await;
    let first = Task::Place(order("ann", 1, Some("k"), None));
    let (few, many) = (order("bob", 1, None, None), order("bob", 10, None, None));
    let [few, many] = [few, many].map(Task::Place);
    let pool = pool_of(&ledger);
    assert!(replica(pool).place_at_once(&tokens(2), &[&first]).await.unwrap().is_some());
    for refused in [&first, &many] {
        let replica = replica(pool);
        for task in [refused, &few] {
            assert_eq!(replica.place_at_once(&tokens(3), &[task]).await.unwrap(), None);
        }
    }
    // The error names the token that a late holder is behind.
    let late = ledger.settle(&tokens(2), &[&few]).await.unwrap_err();
    assert!(matches!(&late, LedgerError::StaleTokens(seen) if seen[..] == [("a".to_owned(), 2)]));
    let products = ledger.products().await.unwrap();
    assert_eq!((products[0].available, products[0].fence), (9, 2));
    assert!(replica(pool).place_at_once(&tokens(3), &[&few]).await.unwrap().is_some());
}

/// A holder that outlived its lease: the statement waits for it, and read limit and price before its commit.
#[tokio::test]
async fn limit_and_price_that_a_late_holder_commits_meanwhile_are_left_to_the_rules() {
    let (_server, ledger) = on_postgres(3).await;
    declare(&ledger, 10, None).await;
    let pool = pool_of(&ledger);
    let mut late = PgConnection::connect_with(&pool.connect_options()).await.unwrap();
    let change = "BEGIN; UPDATE stock SET fence = 2; \
         UPDATE products SET price = 700, max_per_buyer = 1";
    sqlx::raw_sql(change).execute(&mut late).await.unwrap();
    let task = Task::Place(order("ann", 1, None, None));
    let committing = async {
        await_a_waiting_statement(pool).await;
        sqlx::raw_sql("COMMIT").execute(&mut late).await.unwrap();
    };
    let (tokens, tasks) = (tokens(3), [&task, &task]);
    let (settled, ()) = tokio::join!(ledger.settle(&tokens, &tasks), committing);
    let settled = settled.unwrap();
    let [Settled::Done(placed), Settled::LimitReached(_)] = &settled.outcomes[..] else {
        panic!("{settled:?}")
    };
    assert_eq!(placed.amount().unwrap().amount, 700);
    assert_eq!(settled.available["a"], 9);
}

/// The statement over the lost connection changed nothing, and its repetition cannot: bob must not pay for ann's limit.
#[tokio::test]
async fn a_lost_connection_costs_no_order_though_the_rules_must_decide() {
    let (server, name, _proxy, ledger) = behind_proxy(1).await;
    declare(&ledger, 10, Some(1)).await;
    let [ann, bob] = ["ann", "bob"].map(|buyer| Task::Place(order(buyer, 1, None, None)));
    ledger.settle(&tokens(2), &[&ann]).await.unwrap();
    let pool = pool_of(&ledger);
    while pool.num_idle() < 1 {
        tokio::task::yield_now().await;
    }
    let end = "SELECT pg_terminate_backend(pid, 30000) FROM pg_stat_activity \
         WHERE datname = current_database() AND pid <> pg_backend_pid()";
    assert_eq!(server.query(&name, end).unwrap(), "t");
    let settled = ledger.settle(&tokens(3), &[&ann, &bob]).await.unwrap();
    assert_eq!(settled.outcomes.iter().map(name_of).collect::<Vec<_>>(), ["limit", "done"]);
}
