//! What is decided from a look at the products, beside others who change them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::{PgPool, Postgres, Transaction};
use testkit::Postgres as Server;
use tokio::time::{sleep, timeout};

use super::super::at_once::sell_at_once;
use super::super::known_units::KnownUnits;
use super::*;
use crate::testing::{await_a_waiting_statement, on_postgres, pool_of};
use crate::{Ledger, ProductDeclaration, Step, undecided};

mod at_once;

async fn database(products: &[(&str, Option<i64>)]) -> (Arc<Server>, Ledger, PgPool) {
    let (server, ledger) = on_postgres(4).await;
    for (id, max_per_buyer) in products {
        let product = ProductDeclaration {
            id: (*id).to_owned(),
            name: "Console".to_owned(),
            stock: 10,
            max_per_buyer: *max_per_buyer,
            wait_timeout_ms: None,
            lease_time_ms: None,
            hold_seconds: None,
            price: None,
        };
        ledger.declare(&product, 1).await.unwrap();
    }
    let pool = pool_of(&ledger).clone();
    (server, ledger, pool)
}

fn purchase(buyer: &str, key: Option<&str>) -> Purchase {
    let idempotency_key = key.map(str::to_owned);
    Purchase { buyer: buyer.to_owned(), quantity: 1, idempotency_key, limit_key: None }
}

fn demand<'a>(product_id: &'a str, token: i64, purchases: &[&'a Purchase]) -> Demand<'a> {
    Demand { product_id, token, purchases: purchases.to_vec() }
}

#[tokio::test]
async fn the_statements_of_a_sale_are_prepared_on_a_new_connection() {
    let (_server, _ledger, pool) = database(&[]).await;
    // The first connections are older than the tables.
    let (options, to) = (pool.options().clone(), (*pool.connect_options()).clone());
    let new_pool = options.connect_with(to).await.unwrap();
    for pool in [pool, new_pool] {
        let mut connection = pool.acquire().await.unwrap();
        let query = "SELECT statement FROM pg_prepared_statements ORDER BY prepare_time";
        let prepared: Vec<String> =
            sqlx::query_scalar(query).fetch_all(&mut *connection).await.unwrap();
        let of_a_sale = prepared.iter().filter(|query| STATEMENTS.contains(&query.as_str()));
        assert_eq!(of_a_sale.collect::<Vec<_>>(), STATEMENTS);
    }
}

/// A holder that outlived its lease: it sells to Ann and has not committed yet.
async fn late_holder(pool: &PgPool, token: i64) -> Transaction<'static, Postgres> {
    let mut late = pool.begin().await.unwrap();
    sqlx::query("UPDATE stock SET fence = $1, available = available - 1")
        .bind(token)
        .execute(&mut *late)
        .await
        .unwrap();
    sqlx::query(
        "INSERT INTO orders (id, product_id, buyer, quantity, fence) VALUES ($1, '1', 'ann', 1, $2)",
    )
    .bind(Uuid::now_v7())
    .bind(token)
    .execute(&mut *late)
    .await
    .unwrap();
    late
}

#[tokio::test]
async fn a_limit_holds_where_a_late_holder_commits_between_the_look_and_the_change() {
    for at_once in [true, false] {
        let (_server, ledger, pool) = database(&[("1", Some(1))]).await;
        let ann = purchase("ann", None);
        let demands = [demand("1", 3, &[&ann])];
        let states = read(&pool, &demands).await.unwrap();
        let late = late_holder(&pool, 2).await;
        // The change has begun, and waits for the row, when the late holder commits.
        let deciding = async {
            if at_once {
                sell_at_once(&pool, &KnownUnits::default(), &demands, true).await
            } else {
                decide(&pool, &demands, states, HashMap::new()).await
            }
        };
        let committing = async {
            await_a_waiting_statement(&pool).await;
            late.commit().await.unwrap();
        };
        let (decided, ()) = tokio::join!(deciding, committing);
        assert!(decided.unwrap()[0].is_none(), "it is decided again");
        let decision = ledger.sell(&demands).await.unwrap().remove(0).unwrap();
        assert_eq!(decision.outcomes, [Outcome::LimitReached]);
        assert_eq!(decision.available, 9);
    }
}

#[tokio::test]
async fn a_limit_that_a_late_holder_sets_is_not_overlooked() {
    let (_server, ledger, pool) = database(&[("1", None)]).await;
    let ann = purchase("ann", None);
    let demands = [demand("1", 3, &[&ann])];
    let mut late = late_holder(&pool, 2).await;
    sqlx::query("UPDATE products SET max_per_buyer = 1").execute(&mut *late).await.unwrap();
    let committing = async {
        await_a_waiting_statement(&pool).await;
        late.commit().await.unwrap();
    };
    let (decided, ()) = tokio::join!(sell_all(&pool, &demands), committing);
    assert!(decided.unwrap()[0].is_none(), "it is decided again");
    let decision = ledger.sell(&demands).await.unwrap().remove(0).unwrap();
    assert_eq!(decision.outcomes, [Outcome::LimitReached]);
}

#[tokio::test]
async fn a_key_of_two_products_at_once_buys_one_of_them() {
    let (_server, ledger, _pool) = database(&[("1", Some(2)), ("2", Some(2))]).await;
    let (ann, bob) = (purchase("ann", Some("k")), purchase("bob", None));
    let demands = [demand("1", 2, &[&ann, &bob]), demand("2", 2, &[&ann, &bob])];
    let mut decisions = ledger.sell(&demands).await.unwrap().into_iter();
    let first = decisions.next().unwrap().unwrap();
    assert!(matches!(first.outcomes[..], [Outcome::Sold(_), Outcome::Sold(_)]), "{first:?}");
    let second = decisions.next().unwrap().unwrap();
    assert!(matches!(second.outcomes[..], [Outcome::KeyReused, Outcome::Sold(_)]), "{second:?}");
    assert_eq!((first.available, second.available), (8, 9));
}

#[tokio::test]
async fn what_one_step_decided_stands_when_the_next_is_given_up() {
    let (_server, ledger, pool) = database(&[("1", None), ("2", None)]).await;
    let (ann, more) = (purchase("ann", None), Purchase { quantity: 11, ..purchase("bob", None) });
    let demands = [demand("1", 3, &[&ann, &more]), demand("2", 3, &[&ann])];
    let mut decided = undecided(2);
    ledger.sell_step(Step::AtOnce, &demands, &mut decided).await.unwrap();
    assert!(decided[0].is_none() && decided[1].as_ref().unwrap().is_ok());

    let mut other = pool.begin().await.unwrap();
    sqlx::query("SELECT FROM stock FOR UPDATE").execute(&mut *other).await.unwrap();
    let given_up = async {
        let step = ledger.sell_step(Step::ByRules, &demands, &mut decided);
        timeout(Duration::from_millis(200), step).await
    };
    assert!(given_up.await.is_err());
    assert!(decided[0].is_none() && decided[1].as_ref().unwrap().is_ok());
    other.rollback().await.unwrap();
}

#[tokio::test]
async fn the_rules_are_kept_for_several_products_at_once() {
    let (_server, ledger, _pool) = database(&[("1", Some(2)), ("2", None), ("3", Some(1))]).await;
    let [ann, bob] = ["ann", "bob"].map(|buyer| purchase(buyer, None));
    let keyed = purchase("eve", Some("k"));
    let demands = [
        demand("1", 2, &[&ann, &ann, &ann, &bob]),
        demand("2", 2, &[&keyed, &keyed]),
        demand("3", 1, &[&ann]),
        demand("4", 2, &[&ann]),
    ];
    let mut decided = undecided(demands.len());
    ledger.sell_step(Step::ByRules, &demands, &mut decided).await.unwrap();
    let mut decided = decided.into_iter().map(Option::unwrap);
    let first = decided.next().unwrap().unwrap();
    let [Outcome::Sold(_), Outcome::Sold(_), Outcome::LimitReached, Outcome::Sold(_)] =
        &first.outcomes[..]
    else {
        panic!("{first:?}")
    };
    let second = decided.next().unwrap().unwrap();
    assert!(matches!(second.outcomes[..], [Outcome::Sold(_), Outcome::Replayed(_)]), "{second:?}");
    assert_eq!((first.available, second.available), (7, 9));
    let stale = decided.next().unwrap().unwrap_err();
    assert!(matches!(stale, LedgerError::StaleToken { token: 1, seen: 1 }), "{stale}");
    let unknown = decided.next().unwrap().unwrap_err();
    assert!(matches!(unknown, LedgerError::UnknownProduct(_)), "{unknown}");

    // What was bought before counts.
    let again = [demand("1", 3, &[&bob, &bob]), demand("2", 3, &[&keyed])];
    let mut decisions = ledger.sell(&again).await.unwrap().into_iter().map(Result::unwrap);
    let first = decisions.next().unwrap();
    assert!(matches!(first.outcomes[..], [Outcome::Sold(_), Outcome::LimitReached]), "{first:?}");
    assert!(matches!(decisions.next().unwrap().outcomes[..], [Outcome::Replayed(_)]));
}

/// The fence stays, so what other replicas know of the product stays right.
#[tokio::test]
async fn a_batch_of_refusals_writes_nothing() {
    let (_server, ledger, pool) = database(&[("1", Some(1)), ("2", Some(1))]).await;
    let (ann, bob) = (purchase("ann", Some("k")), purchase("bob", None));
    ledger.sell(&[demand("1", 2, &[&ann])]).await.unwrap();
    let again = purchase("ann", None);
    let demands = [demand("1", 3, &[&again, &ann]), demand("2", 3, &[&bob])];
    let mut decided = undecided(2);
    ledger.sell_step(Step::ByRules, &demands, &mut decided).await.unwrap();
    let [refused, sold] = &decided[..] else { panic!("{decided:?}") };
    let (refused, sold) = (refused.as_ref().unwrap(), sold.as_ref().unwrap());
    let refused = refused.as_ref().unwrap();
    assert!(
        matches!(refused.outcomes[..], [Outcome::LimitReached, Outcome::Replayed(_)]),
        "{refused:?}"
    );
    assert_eq!((refused.available, refused.fenced), (9, false));
    assert!(sold.as_ref().unwrap().fenced);
    let fences = "SELECT fence FROM stock ORDER BY product_id";
    let fences: Vec<i64> = sqlx::query_scalar(fences).fetch_all(&pool).await.unwrap();
    assert_eq!(fences, [2, 3]);
    let late = ledger.sell(&[demand("1", 2, &[&again])]).await.unwrap().remove(0).unwrap_err();
    assert!(matches!(late, LedgerError::StaleToken { token: 2, seen: 2 }), "{late}");
}

/// Where a statement has no index, as for the one row of `installation`, its plan looks expensive.
#[tokio::test]
async fn no_statement_is_compiled_before_it_runs() {
    let (_server, _ledger, pool) = database(&[]).await;
    let explain = "EXPLAIN ANALYZE SELECT sale FROM installation";
    let plan: Vec<String> = sqlx::query_scalar(explain).fetch_all(&pool).await.unwrap();
    assert!(!plan.iter().any(|line| line.starts_with("JIT")), "{plan:#?}");
}
