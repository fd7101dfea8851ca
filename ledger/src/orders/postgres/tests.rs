//! Batches of orders of three products: their round trips and plans, and others who change the products meanwhile.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::{AssertSqlSafe, Connection, PgPool};
use testkit::{Postgres as Server, Proxy};

use super::*;
use crate::orders::sql::ORDER_STATEMENTS;
use crate::orders::{OrderLine, Settled};
use crate::testing::{await_a_waiting_statement, behind_proxy, plan, pool_of};
use crate::{Ledger, ProductDeclaration};

const PRODUCTS: [&str; 3] = ["a", "b", "c"];
const QUIET: Duration = Duration::from_millis(50);

/// Ten units of each product, and a proxy that counts round trips.
struct Sale {
    server: Arc<Server>,
    name: String,
    proxy: Proxy,
    ledger: Ledger,
    token: i64,
}

impl Sale {
    async fn start(max_per_buyer: Option<i64>) -> Self {
        let (server, name, proxy, ledger) = behind_proxy(2).await;
        for id in PRODUCTS {
            let product = serde_json::json!({
                "id": id, "name": "Console", "stock": 10, "max_per_buyer": max_per_buyer,
                "price": {"amount": 500, "currency": "EUR"},
            });
            let product: ProductDeclaration = serde_json::from_value(product).unwrap();
            ledger.declare(&product, 1).await.unwrap();
        }
        Self { server, name, proxy, ledger, token: 1 }
    }

    fn pool(&self) -> &PgPool {
        pool_of(&self.ledger)
    }

    /// Settles a task under new tokens. Returns what became of it, and how many round trips it took.
    async fn settle(&mut self, task: &Task) -> (Settled, u64) {
        self.token += 1;
        let tokens = tokens(self.token);
        self.proxy.round_trips().quiet(QUIET).await;
        let before = self.proxy.round_trips().count();
        let mut settlement = self.ledger.settle(&tokens, &[task]).await.unwrap();
        let trips = self.proxy.round_trips().count() - before;
        (settlement.outcomes.remove(0), trips)
    }

    /// Ends all connections of the ledger.
    fn end_connections(&self) {
        let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
             WHERE datname = current_database() AND pid <> pg_backend_pid()";
        self.server.query(&self.name, end).unwrap();
        let left = "SELECT count(*) FROM pg_stat_activity \
             WHERE datname = current_database() AND pid <> pg_backend_pid()";
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.server.query(&self.name, left).unwrap() != "0" {
            assert!(Instant::now() < deadline, "a connection stays");
        }
    }
}

fn tokens(token: i64) -> BTreeMap<String, i64> {
    BTreeMap::from(PRODUCTS.map(|product| (product.to_owned(), token)))
}

/// One unit of each product, whose hold ends at once.
fn order(key: Option<&str>, limit_key: Option<&str>) -> Task {
    let line = |product: &str| OrderLine { product_id: product.to_owned(), quantity: 1 };
    Task::Place(NewOrder {
        buyer: "ann".to_owned(),
        lines: PRODUCTS.map(line).to_vec(),
        idempotency_key: key.map(str::to_owned),
        state: OrderState::Pending,
        hold_ms: Some(0),
        limit_key: limit_key.map(str::to_owned),
    })
}

/// BEGIN, the tokens with what is read of the products, units and orders together, COMMIT: as many for any number of
/// products. Keys are one more, and so are limits.
#[tokio::test]
async fn a_batch_of_three_products_is_four_to_six_round_trips() {
    for (max_per_buyer, key, limit_key, expected) in [
        (None, None, None, 4),
        (None, Some("k"), None, 5),
        (Some(9), Some("k"), None, 6),
        (Some(9), Some("k"), Some("limit:1"), 6),
    ] {
        let mut sale = Sale::start(max_per_buyer).await;
        let context = format!("{max_per_buyer:?} {key:?} {limit_key:?}");
        let (placed, trips) = sale.settle(&order(key, limit_key)).await;
        let Settled::Done(placed) = placed else { panic!("{context}: {placed:?}") };
        assert_eq!(placed.amount().unwrap().amount, 1_500);
        assert_eq!(trips, expected, "{context}");
        if key.is_some() {
            // There is nothing to write.
            let (again, trips) = sale.settle(&order(key, limit_key)).await;
            assert!(matches!(again, Settled::DoneBefore(_)), "{context}: {again:?}");
            assert_eq!(trips, expected - 1, "{context}");
        }
        // BEGIN, the tokens, the end of the hold, who waits, the units, COMMIT.
        let (expired, trips) = sale.settle(&Task::Expire { ids: vec![placed.id] }).await;
        assert_eq!((expired, trips), (Settled::Expired(1), 6), "{context}");
        let products = sale.ledger.products().await.unwrap();
        assert!(products.iter().all(|product| product.available == 10), "{products:?}");
    }
}

#[tokio::test]
async fn a_lost_connection_costs_no_order() {
    let mut sale = Sale::start(None).await;
    sale.proxy.round_trips().quiet(QUIET).await;
    sale.end_connections();
    let (placed, _) = sale.settle(&order(None, None)).await;
    assert!(matches!(placed, Settled::Done(_)), "{placed:?}");
}

/// A holder that outlived its lease: the statement that installs the tokens waits for it, and began before its commit.
#[tokio::test]
async fn limit_and_price_are_those_that_a_late_holder_commits_while_the_tokens_wait() {
    let sale = Sale::start(None).await;
    let pool = sale.pool();
    let mut late = PgConnection::connect_with(&pool.connect_options()).await.unwrap();
    let change = "BEGIN; UPDATE stock SET fence = 2 WHERE product_id = 'b'; \
         UPDATE products SET price = 700, max_per_buyer = 1 WHERE id = 'b'";
    sqlx::raw_sql(change).execute(&mut late).await.unwrap();
    let (tokens, order) = (tokens(3), order(None, None));
    let committing = async {
        await_a_waiting_statement(pool).await;
        sqlx::raw_sql("COMMIT").execute(&mut late).await.unwrap();
    };
    let tasks = [&order, &order];
    let (settled, ()) = tokio::join!(sale.ledger.settle(&tokens, &tasks), committing);
    let outcomes = settled.unwrap().outcomes;
    let [Settled::Done(placed), Settled::LimitReached(product)] = &outcomes[..] else {
        panic!("{outcomes:?}")
    };
    assert_eq!(product, "b");
    let prices: Vec<i64> = placed.prices.iter().flatten().map(|price| price.amount).collect();
    assert_eq!(prices, [500, 700, 500]);
    let products = sale.ledger.products().await.unwrap();
    assert!(products.iter().all(|product| (product.available, product.fence) == (9, 3)));
}

#[tokio::test]
async fn units_move_where_the_fence_is_the_token_and_the_units_are_there() {
    let sale = Sale::start(None).await;
    let mut connection = sale.pool().acquire().await.unwrap();
    // The fences are 1, so the token of the first is not installed.
    let tokens = [("a", 2), ("b", 1), ("c", 1)];
    let tokens = BTreeMap::from(tokens.map(|(product, token)| (product.to_owned(), token)));
    let moved = [("a", -1), ("b", -1), ("c", -11)];
    assert_eq!(connection.write(&tokens, &moved, &[]).await.unwrap(), 1);
    let products = sale.ledger.products().await.unwrap();
    let left: Vec<i64> = products.iter().map(|product| product.available).collect();
    assert_eq!(left, [10, 9, 10]);
}

#[tokio::test]
async fn the_statements_of_orders_are_prepared_on_a_new_connection() {
    let sale = Sale::start(None).await;
    let (options, to) = (sale.pool().options().clone(), (*sale.pool().connect_options()).clone());
    let new_pool = options.connect_with(to).await.unwrap();
    for pool in [sale.pool(), &new_pool] {
        let query = "SELECT statement FROM pg_prepared_statements ORDER BY prepare_time";
        let prepared: Vec<String> = sqlx::query_scalar(query).fetch_all(pool).await.unwrap();
        let of_orders = prepared.iter().filter(|query| ORDER_STATEMENTS.contains(&query.as_str()));
        assert_eq!(of_orders.collect::<Vec<_>>(), ORDER_STATEMENTS);
    }
}

/// The tables are one page each, so reading all of them looks cheapest, and the plan stays in the cache.
#[tokio::test]
async fn no_statement_of_orders_reads_all_of_a_table() {
    let mut sale = Sale::start(None).await;
    sale.settle(&order(Some("k"), None)).await;
    sqlx::raw_sql("ANALYZE").execute(sale.pool()).await.unwrap();
    for statement in ORDER_STATEMENTS {
        let plan = plan(sale.pool(), statement).await;
        assert!(!plan.contains("Seq Scan"), "{statement}\n{plan}");
        if statement == sql::PLACED_BY_KEYS {
            let look_up = "Index Cond: ((buyer = asked.name) AND (idempotency_key = asked.key))";
            assert!(plan.contains(look_up), "{plan}");
        }
    }
}

/// As many as a replica ends together, and as many who wait: nobody else gets a unit of theirs in the same batch.
#[tokio::test]
async fn the_units_of_a_full_batch_of_holds_go_to_those_who_wait() {
    const HOLDS: i64 = 1_000;
    let sale = Sale::start(None).await;
    let held = format!(
        "UPDATE stock SET available = 0 WHERE product_id = 'a'; \
         INSERT INTO orders (id, product_id, buyer, quantity, fence, state, expires_at_ms) \
         SELECT gen_random_uuid(), 'a', 'held-' || n, 1, 1, 'pending', 1 FROM generate_series(1, {HOLDS}) n; \
         INSERT INTO waitlist (product_id, buyer, quantity, hold_ms) \
         SELECT 'a', 'waits-' || n, 1, 60000 FROM generate_series(1, {HOLDS}) n"
    );
    sqlx::raw_sql(AssertSqlSafe(held)).execute(sale.pool()).await.unwrap();
    let due = sale.ledger.due_holds(None, HOLDS).await.unwrap();
    let expire = Task::Expire { ids: due.into_iter().map(|hold| hold.id).collect() };
    let Task::Place(mut other) = order(None, None) else { unreachable!() };
    other.lines.truncate(1);
    let tokens = BTreeMap::from([("a".to_owned(), 2)]);
    let tasks = [&expire, &Task::Place(other)];
    let settled = sale.ledger.settle(&tokens, &tasks).await.unwrap();
    let sold_out = Settled::SoldOut("a".to_owned());
    assert_eq!(settled.outcomes, [Settled::Expired(HOLDS), sold_out]);
    assert_eq!(settled.handed_out, 1_000);
}
