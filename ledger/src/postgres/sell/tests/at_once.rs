//! Keys, limits, lost connections and plans: what each step decides, and in how many round trips.

use std::sync::atomic::Ordering;

use super::*;
use crate::allocation::Allocation;
use crate::postgres::PostgresLedger;
use crate::testing::{await_an_idle_connection, behind_proxy, losing_an_answer, plan};

/// Ends all other connections to this database.
fn end_connections(server: &Server, pool: &PgPool) {
    let name = pool.connect_options().get_database().unwrap().to_owned();
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
         WHERE datname = current_database() AND pid <> pg_backend_pid()";
    server.query(&name, end).unwrap();
    let gone = "SELECT count(*) FROM pg_stat_activity \
         WHERE datname = current_database() AND pid <> pg_backend_pid()";
    let deadline = Instant::now() + Duration::from_secs(30);
    while server.query(&name, gone).unwrap() != "0" {
        assert!(Instant::now() < deadline, "a connection stays");
    }
}

#[tokio::test]
async fn a_lost_connection_costs_no_sale() {
    for step in [Step::GrantAll, Step::WithinLimits, Step::AtOnce, Step::ByRules] {
        let (server, ledger, pool) = database(&[("1", None)]).await;
        let ann = purchase("ann", Some("k"));
        let demands = [demand("1", 3, &[&ann])];
        let all = futures::future::join_all((0..4).map(|_| pool.acquire())).await;
        drop(all.into_iter().collect::<Result<Vec<_>, _>>().unwrap());
        let deadline = Instant::now() + Duration::from_secs(30);
        while pool.num_idle() < 4 {
            assert!(Instant::now() < deadline, "a connection is not given back");
            sleep(Duration::from_millis(5)).await;
        }
        end_connections(&server, &pool);
        let mut decided = undecided(1);
        ledger.sell_step(step, &demands, &mut decided).await.unwrap();
        let decision = decided.remove(0).unwrap().unwrap();
        assert!(matches!(decision.outcomes[..], [Outcome::Sold(_)]), "{decision:?}");
    }
}

#[tokio::test]
async fn a_lost_answer_is_no_second_sale() {
    let (server, name, _proxy, ledger, armed) = losing_an_answer().await;
    let product = serde_json::json!({"id": "1", "name": "Console", "stock": 10});
    let product: ProductDeclaration = serde_json::from_value(product).unwrap();
    ledger.declare(&product, 1).await.unwrap();
    await_an_idle_connection(pool_of(&ledger)).await;
    armed.store(true, Ordering::SeqCst);
    let ann = purchase("ann", None);
    let demands = [demand("1", 2, &[&ann])];
    let error = ledger.sell(&demands).await.unwrap().remove(0).unwrap_err();
    assert!(matches!(error, LedgerError::ConnectionLost), "{error}");
    assert_eq!(server.query(&name, "SELECT count(*), min(fence) FROM orders").unwrap(), "1|2");
}

#[tokio::test]
async fn small_statistics_are_no_reason_to_read_all_orders() {
    let (_server, ledger, pool) = database(&[("1", Some(1))]).await;
    let ann = purchase("ann", Some("k"));
    ledger.sell(&[demand("1", 2, &[&ann])]).await.unwrap();
    // The table is one page, so reading all of it is the cheapest plan, and stays in the cache.
    sqlx::raw_sql("ANALYZE").execute(&pool).await.unwrap();
    for statement in STATEMENTS {
        let plan = plan(&pool, statement).await;
        assert!(!plan.contains("Seq Scan"), "{statement}\n{plan}");
    }
}

/// Both databases decide as the rules do, batch after batch.
#[tokio::test]
async fn all_steps_decide_as_the_rules_do() {
    for (limit, by_persons) in [(None, false), (Some(3), false), (None, true), (Some(3), true)] {
        let folder = tempfile::tempdir().unwrap();
        let file = format!("sqlite://{}", folder.path().join("sale.db").display());
        let on_sqlite = Ledger::connect_lazy(&file, 2).unwrap();
        on_sqlite.migrate().await.unwrap();
        let (_server, on_postgres, _pool) = database(&[]).await;
        for ledger in [&on_postgres, &on_sqlite] {
            let product = serde_json::json!({"id": format!("{limit:?}"), "name": "Console", "stock": 200, "max_per_buyer": limit});
            let product: ProductDeclaration = serde_json::from_value(product).unwrap();
            ledger.declare(&product, 1).await.unwrap();
            let mut model = Allocation {
                product_id: &product.id,
                available: product.stock,
                max_per_buyer: limit,
                existing: HashMap::new(),
                bought: HashMap::new(),
            };
            for token in 2..60 {
                let purchases: Vec<Purchase> =
                    (0..rand::random_range(1..12)).map(|_| random(by_persons)).collect();
                let all: Vec<&Purchase> = purchases.iter().collect();
                let demands = [demand(&product.id, token, &all)];
                let mut decided = undecided(1);
                for step in [Step::WithinLimits, Step::AtOnce, Step::ByRules] {
                    ledger.sell_step(step, &demands, &mut decided).await.unwrap();
                }
                let decision = decided.remove(0).unwrap().unwrap();
                let expected = model.decide(&all);
                let names = |outcomes: &[Outcome]| -> Vec<String> {
                    outcomes.iter().map(|outcome| name(outcome).to_owned()).collect()
                };
                let context = format!("{limit:?} {token} {purchases:?}");
                assert_eq!(names(&decision.outcomes), names(&expected), "{context}");
                assert_eq!(decision.available, model.available, "{context}");
                // The same order again, not only some order.
                for (purchase, outcome) in purchases.iter().zip(&decision.outcomes) {
                    if let (Some(key), Outcome::Sold(order) | Outcome::Replayed(order)) =
                        (&purchase.idempotency_key, outcome)
                    {
                        let key = (purchase.buyer.clone(), key.clone());
                        let known = model.existing.get_mut(&key).unwrap();
                        if matches!(outcome, Outcome::Sold(_)) {
                            *known = order.clone();
                        }
                        let is_same = (&known.id, known.lines) == (&order.id, order.lines);
                        assert!(is_same && known.quantity == order.quantity, "{context}");
                    }
                }
            }
            assert!(model.available < 200, "nothing was sold");
        }
    }
}

#[tokio::test]
async fn each_step_but_the_last_is_one_round_trip() {
    let (_server, _, proxy, ledger) = behind_proxy(2).await;
    for (id, max_per_buyer) in [("any", None), ("limited", Some(1_000))] {
        let product = serde_json::json!({"id": id, "name": "Console", "stock": 1_000, "max_per_buyer": max_per_buyer});
        let product: ProductDeclaration = serde_json::from_value(product).unwrap();
        ledger.declare(&product, 1).await.unwrap();
    }
    let quiet = Duration::from_millis(50);
    let mut token = 1;
    for (step, product) in [
        (Step::GrantAll, "any"),
        (Step::AtOnce, "any"),
        (Step::WithinLimits, "limited"),
        (Step::AtOnce, "limited"),
    ] {
        for key in [None, Some(format!("{step:?}-{product}")), Some(format!("{step:?}-{product}"))]
        {
            let (ann, mut decided) = (purchase("ann", key.as_deref()), undecided(1));
            token += 1;
            let demands = [demand(product, token, &[&ann])];
            proxy.round_trips().quiet(quiet).await;
            let before = proxy.round_trips().count();
            ledger.sell_step(step, &demands, &mut decided).await.unwrap();
            assert_eq!(proxy.round_trips().count() - before, 1, "{step:?} {product} {key:?}");
        }
    }
}

#[tokio::test]
async fn known_units_are_used_only_while_nobody_else_has_sold() {
    let (_server, ledger, pool) = database(&[("1", Some(2))]).await;
    let other = Ledger::Postgres(PostgresLedger::of(pool.clone()));
    let [ann, bob] = ["ann", "bob"].map(|buyer| purchase(buyer, None));
    let mut token = 1;
    let mut outcome = async |ledger: &Ledger, purchase: &Purchase| {
        token += 1;
        let mut decided = undecided(1);
        let demands = [demand("1", token, &[purchase])];
        ledger.sell_step(Step::AtOnce, &demands, &mut decided).await.unwrap();
        name(&decided.remove(0).unwrap().unwrap().outcomes[0])
    };
    assert_eq!(outcome(&ledger, &ann).await, "sold");
    // The first knows of one unit, and the fence has moved.
    assert_eq!(outcome(&other, &ann).await, "sold");
    assert_eq!(outcome(&ledger, &ann).await, "limit");
    // It knows of two; units that come back move the fence too.
    sqlx::query("UPDATE orders SET state = 'cancelled' WHERE buyer = 'ann'")
        .execute(&pool)
        .await
        .unwrap();
    assert_eq!(outcome(&ledger, &ann).await, "limit", "what is known is used");
    assert_eq!(outcome(&other, &bob).await, "sold");
    assert_eq!(outcome(&ledger, &ann).await, "sold");
    assert_eq!(outcome(&ledger, &bob).await, "sold");
    assert_eq!(outcome(&ledger, &bob).await, "limit");
}

/// As while replicas learn one after the other by which claim the sale limits.
#[tokio::test]
async fn a_limit_holds_for_a_buyer_without_a_limit_key_beside_one_who_has_one() {
    let (_server, ledger, _pool) = database(&[("1", Some(1)), ("2", Some(1))]).await;
    let ann = purchase("ann", None);
    let bob = Purchase { limit_key: Some("limit:1".to_owned()), ..purchase("bob", None) };
    let ann_as_person = Purchase { limit_key: Some("limit:2".to_owned()), ..ann.clone() };
    for (product, batch) in [("1", [&ann, &ann, &bob]), ("2", [&ann_as_person, &ann, &bob])] {
        let decision = ledger.sell(&[demand(product, 2, &batch)]).await.unwrap().remove(0);
        let outcomes = decision.unwrap().outcomes;
        let names: Vec<&str> = outcomes.iter().map(name).collect();
        assert_eq!(names, ["sold", "limit", "sold"], "product {product}");
    }
}

/// Of few buyers and few keys, so that both repeat. Of persons, each has three accounts, and one account has none.
fn random(by_persons: bool) -> Purchase {
    let number = rand::random_range(0..12);
    let buyer = format!("buyer-{number}");
    let limit_key = (by_persons && number > 0).then(|| format!("limit:{}", number % 4));
    let key = rand::random_bool(0.5).then(|| format!("key-{}", rand::random_range(0..20)));
    let quantity = if rand::random_bool(0.8) { 1 } else { 2 };
    Purchase { buyer, quantity, idempotency_key: key, limit_key }
}

fn name(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Sold(_) => "sold",
        Outcome::Replayed(_) => "replayed",
        Outcome::KeyReused => "key reused",
        Outcome::SoldOut => "sold out",
        Outcome::LimitReached => "limit",
    }
}
