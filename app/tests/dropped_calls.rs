//! Calls of the database whose caller gives up in the middle: nothing of them reaches the next user
//! of the connection.

use std::any::Any;
use std::collections::BTreeMap;
use std::pin::{Pin, pin};
use std::task::Poll;

use futures::future::poll_fn;
use ledger::coupons::Coupon;
use ledger::orders::{NewOrder, OrderLine, OrderState, Task};
use ledger::{
    Applicant, DecidedOrder, Demand, Ledger, LedgerError, Outcome, ProductChange,
    ProductDeclaration, Purchase,
};
use sqlx::postgres::PgPoolOptions;
use sqlx::{Connection, PgConnection};
use testkit::Postgres;
use uuid::Uuid;

/// Has no limit, so it is sold in one statement.
const PLAIN: &str = "plain";
/// Has a limit, so it is sold in a transaction.
const LIMITED: &str = "limited";

type Call<'a> = Pin<Box<dyn Future<Output = Result<(), LedgerError>> + 'a>>;

/// Polls a future this often, then drops it; `None`: it had not ended by then.
async fn given_up_after<F: Future>(polls: usize, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut left = polls;
    poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        future.as_mut().poll(context).map(Some)
    })
    .await
}

/// A database, and what it lives in.
struct Store {
    url: String,
    _keep: Box<dyn Any>,
}

fn stores() -> [Store; 2] {
    let postgres = Postgres::shared().unwrap();
    let url = postgres.new_database().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = format!("sqlite://{}", folder.path().join("sale.db").display());
    [Store { url, _keep: Box::new(postgres) }, Store { url: file, _keep: Box::new(folder) }]
}

fn purchase(buyer: &str) -> Purchase {
    Purchase {
        buyer: buyer.to_owned(),
        quantity: 1,
        idempotency_key: Some(format!("key of {buyer}")),
        limit_key: None,
    }
}

async fn buy(
    ledger: &Ledger,
    product_id: &str,
    token: i64,
    buyer: &str,
) -> Result<Uuid, LedgerError> {
    let purchase = purchase(buyer);
    let demand = Demand { product_id, token, purchases: vec![&purchase] };
    let decision = ledger.sell(&[demand]).await?.remove(0)?;
    let (Outcome::Sold(order) | Outcome::Replayed(order)) = &decision.outcomes[0] else {
        unreachable!("{decision:?}")
    };
    Ok(order.id)
}

/// Every kind of call that is a transaction, each with this token.
fn calls(ledger: &Ledger, token: i64) -> Vec<(&'static str, Call<'_>)> {
    let sell = async move { buy(ledger, LIMITED, token, "ann").await.map(drop) };
    let line = OrderLine { product_id: LIMITED.to_owned(), quantity: 1 };
    let order = Task::Place(NewOrder {
        buyer: "ann".to_owned(),
        lines: vec![line],
        idempotency_key: None,
        state: OrderState::Pending,
        hold_ms: None,
        limit_key: None,
    });
    let settle = async move {
        let tokens = BTreeMap::from([(LIMITED.to_owned(), token)]);
        ledger.settle(&tokens, &[&order]).await.map(drop)
    };
    let issue = async move {
        let applicants = ["ann", "bob"].map(Applicant::account);
        ledger.issue("coupon", token, &applicants.each_ref()).await.map(drop)
    };
    let restock = ProductChange::Restock { id: LIMITED.to_owned(), add: 1, from: None };
    let change = async move { ledger.change(&restock, token).await.map(drop) };
    let decided = DecidedOrder {
        id: Uuid::now_v7(),
        buyer: "ann".to_owned(),
        quantity: 1,
        idempotency_key: None,
        sold_for: ledger::SoldFor::Nothing,
        limit_key: None,
    };
    let record = async move { ledger.record(LIMITED, 0, vec![&decided]).await.map(drop) };
    let migrate = async move { ledger.migrate().await };
    vec![
        ("sell", Box::pin(sell)),
        ("settle", Box::pin(settle)),
        ("issue", Box::pin(issue)),
        ("change", Box::pin(change)),
        ("record", Box::pin(record)),
        ("migrate", Box::pin(migrate)),
    ]
}

async fn prepared(store: &Store) -> Ledger {
    // Few connections, so that the next call meets the one that was given up.
    let ledger = Ledger::connect_lazy(&store.url, 1).unwrap();
    ledger.migrate().await.unwrap();
    for (id, max_per_buyer) in [(PLAIN, None), (LIMITED, Some(1_000_000))] {
        let product = ProductDeclaration {
            id: id.to_owned(),
            name: "Console".to_owned(),
            stock: 1_000_000,
            max_per_buyer,
            wait_timeout_ms: None,
            lease_time_ms: None,
            hold_seconds: None,
            price: None,
        };
        ledger.declare(&product, 1).await.unwrap();
    }
    let coupon = Coupon {
        id: "coupon".to_owned(),
        quantity: 1_000_000,
        issued: 0,
        starts_at_ms: None,
        ends_at_ms: None,
        fence: 0,
    };
    ledger.create_coupon(&coupon, None).await.unwrap();
    ledger
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answered_purchase_is_there_whatever_call_was_given_up_before_it() {
    for store in stores() {
        let ledger = prepared(&store).await;
        let observer = Ledger::connect_lazy(&store.url, 1).unwrap();
        let mut token = 1;
        for kind in 0..calls(&ledger, 0).len() {
            for polls in 1.. {
                token += 1;
                let (name, call) = calls(&ledger, token).remove(kind);
                let ended = given_up_after(polls, call).await;
                let buyer = format!("{name} {polls}");
                token += 1;
                let order = buy(&ledger, PLAIN, token, &buyer).await.unwrap();
                let found = observer.placed(order).await.unwrap();
                assert!(found.is_some(), "lost after {polls} polls of {name}: {}", store.url);
                if ended.is_some() {
                    break;
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_connection_can_read_while_writers_wait_for_a_locked_table() {
    let [store, _] = stores();
    prepared(&store).await;
    let mut maintenance = PgConnection::connect(&store.url).await.unwrap();
    let lock = "BEGIN; LOCK TABLE orders IN EXCLUSIVE MODE";
    sqlx::raw_sql(lock).execute(&mut maintenance).await.unwrap();
    let ledger = Ledger::connect_lazy(&store.url, 1).unwrap();
    assert!(ledger.placed(Uuid::now_v7()).await.unwrap().is_none());
}

/// Why the ledger has transactions of its own: if this fails, sqlx's will do.
#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::disallowed_methods, reason = "this shows why")]
async fn a_dropped_begin_of_sqlx_returns_its_connection_inside_the_transaction() {
    let [store, _] = stores();
    let ledger = prepared(&store).await;
    let pool = PgPoolOptions::new().max_connections(1).connect(&store.url).await.unwrap();
    // How many polls it takes until the statement is on its way depends on who is quicker.
    let mut polls = (1..=8).cycle().take(800);
    let lost = loop {
        let Some(polls) = polls.next() else { break false };
        if let Some(transaction) = given_up_after(polls, pool.begin()).await {
            transaction.unwrap().rollback().await.unwrap();
        }
        let account = Uuid::now_v7().to_string();
        let insert = "INSERT INTO accounts (id, password_hash, role) VALUES ($1, '', 'buyer')";
        sqlx::query(insert).bind(&account).execute(&pool).await.unwrap();
        if ledger.account(&account).await.unwrap().is_none() {
            break true;
        }
    };
    assert!(lost);
}
