//! A payment, a cancel, a report of failure and the end of the hold come at the same time: the database lets
//! one of them through, and the units are where the order's state says.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};

use futures::future::join_all;
use ledger::Ledger;
use ledger::orders::{Change, NewOrder, OrderLine, OrderState, Settled, Task};
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use crate::common::{BOTH, Database, SaleSpec, TestSale};

/// Products, and so races at the same time.
const LANES: usize = 20;
/// Of each pair on each database: ten pairs make 10,000 races.
const RACES: usize = 500;
const STOCK: i64 = 10;
const UNITS: i64 = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    Pay,
    Cancel,
    FailPayment,
    Expire,
    RefundWithUnits,
    Refund,
}

const EVENTS: [Event; 4] = [Event::Pay, Event::Cancel, Event::FailPayment, Event::Expire];

/// A product of its own, so that races do not wait for each other.
struct Lane<'a> {
    ledger: &'a Ledger,
    product: String,
    token: AtomicI64,
}

impl Lane<'_> {
    async fn settle(&self, task: &Task) -> Settled {
        loop {
            let token = self.token.fetch_add(1, Ordering::SeqCst);
            let tokens = BTreeMap::from([(self.product.clone(), token)]);
            // The other one's token may be higher.
            if let Ok(settlement) = self.ledger.settle(&tokens, &[task]).await {
                return settlement.outcomes.into_iter().next().unwrap();
            }
        }
    }

    /// An order whose hold is over.
    async fn order(&self) -> Uuid {
        let lines = vec![OrderLine { product_id: self.product.clone(), quantity: UNITS }];
        let order = NewOrder {
            buyer: "ann".to_owned(),
            lines,
            idempotency_key: None,
            state: OrderState::Pending,
            hold_ms: Some(0),
            limit_key: None,
        };
        let Settled::Done(order) = self.settle(&Task::Place(order)).await else { unreachable!() };
        order.id
    }

    /// Whether the event got through.
    async fn play(&self, event: Event, id: Uuid) -> bool {
        let settled = match event {
            Event::Pay => self.ledger.pay(id, None, Some("admin")).await.unwrap(),
            Event::Cancel => {
                self.settle(&Task::GiveBack { id, change: Change::Cancel, actor: None }).await
            }
            Event::FailPayment => {
                let change = Change::FailPayment { reference: None };
                self.settle(&Task::GiveBack { id, change, actor: None }).await
            }
            Event::Expire => self.settle(&Task::Expire { ids: vec![id] }).await,
            Event::RefundWithUnits => {
                let change = Change::Refund { reference: None, units_back: true };
                self.settle(&Task::GiveBack { id, change, actor: None }).await
            }
            Event::Refund => {
                let change = Change::Refund { reference: None, units_back: false };
                self.ledger.change_in_place(id, &change, None).await.unwrap()
            }
        };
        matches!(settled, Settled::Done(_) | Settled::Expired(1))
    }

    /// The order's state, after both events, and the units left.
    async fn after(&self, id: Uuid) -> (OrderState, i64) {
        let state = self.ledger.placed(id).await.unwrap().unwrap().state;
        let products = self.ledger.products().await.unwrap();
        let left = products.iter().find(|product| product.id == self.product).unwrap().available;
        (state, left)
    }
}

/// What goes wrong in a race, if something does.
fn fault(before: i64, through: [bool; 2], (state, left): (OrderState, i64)) -> Option<String> {
    let back = if state == OrderState::Paid { 0 } else { UNITS };
    let one = through.iter().filter(|through| **through).count() == 1;
    (!one || left != before + back)
        .then(|| format!("{through:?}, {state:?}, {left} of {before} left"))
}

/// The same for a race that begins with a paid order: a refund gets through, and nothing else. The units come back if
/// either event says so: with the refund, or after one without them.
fn fault_of_refund(
    before: i64,
    events: [Event; 2],
    through: [bool; 2],
    (state, left): (OrderState, i64),
) -> Option<String> {
    let winners: Vec<Event> =
        events.into_iter().zip(through).filter(|(_, through)| *through).map(|(it, _)| it).collect();
    let times = |event| winners.iter().filter(|winner| **winner == event).count();
    let (with_units, without) = (times(Event::RefundWithUnits), times(Event::Refund));
    let comes_back = events.contains(&Event::RefundWithUnits);
    let refunds = if comes_back { with_units == 1 && without <= 1 } else { without == 1 };
    let back = if comes_back { UNITS } else { 0 };
    let right = refunds
        && winners.len() == with_units + without
        && state == OrderState::Refunded
        && left == before + back;
    (!right).then(|| format!("{winners:?}, {state:?}, {left} of {before} left"))
}

fn products() -> Value {
    let lane = |lane| json!({"id": format!("p{lane}"), "name": "Console", "stock": STOCK});
    (0..LANES).map(lane).collect()
}

/// Nothing ends a hold but the test.
async fn sale_without_replicas(database: Database) -> TestSale {
    let spec = SaleSpec { nodes: 1, replicas: 0, products: products(), ..SaleSpec::on(database) };
    TestSale::start(spec).await
}

fn pairs() -> impl Iterator<Item = (Event, Event)> {
    let pair = |(first, one)| EVENTS[first..].iter().map(move |&other| (one, other));
    EVENTS.into_iter().enumerate().flat_map(pair)
}

/// Plays each pair often, in both orders, on both databases: with an order that waits for its payment, or with one
/// that is paid. `fault` says what went wrong in a race.
async fn race_all(
    pairs: &[(Event, Event)],
    is_paid: bool,
    fault: impl Fn(i64, [Event; 2], [bool; 2], (OrderState, i64)) -> Option<String>,
) {
    for database in BOTH {
        let sale = sale_without_replicas(database).await;
        let ledger = sale.ledger();
        let play = async |number: usize| {
            let product = format!("p{number}");
            let lane = Lane { ledger: &ledger, product, token: AtomicI64::new(1_000) };
            let mut left = STOCK;
            for &(one, other) in pairs {
                for race in 0..RACES / LANES {
                    if left < UNITS {
                        left = refill(&lane).await;
                    }
                    let id = lane.order().await;
                    if is_paid {
                        assert!(lane.play(Event::Pay, id).await);
                    }
                    let events = if race % 2 == 0 { [one, other] } else { [other, one] };
                    let (first, second) =
                        tokio::join!(lane.play(events[0], id), lane.play(events[1], id));
                    let after = lane.after(id).await;
                    let fault = fault(left - UNITS, events, [first, second], after);
                    assert_eq!(fault, None, "{database:?}: {one:?} and {other:?}");
                    left = after.1;
                }
            }
        };
        join_all((0..LANES).map(play)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_any_two_events_at_once_exactly_one_gets_through() {
    let pairs: Vec<_> = pairs().collect();
    race_all(&pairs, false, |before, _, through, after| fault(before, through, after)).await;
}

/// Eleven pairs with a refund in each, on both databases.
#[tokio::test(flavor = "multi_thread")]
async fn of_any_event_and_a_refund_at_once_the_refund_gets_through_and_units_come_back_once() {
    let refunds = [Event::RefundWithUnits, Event::Refund];
    let others = EVENTS.into_iter().chain(refunds);
    let all = others.flat_map(|other| refunds.map(|refund| (refund, other)));
    let pairs: Vec<_> =
        all.filter(|pair| *pair != (Event::Refund, Event::RefundWithUnits)).collect();
    assert_eq!(pairs.len(), 11);
    race_all(&pairs, true, fault_of_refund).await;
}

async fn refill(lane: &Lane<'_>) -> i64 {
    let token = lane.token.fetch_add(1, Ordering::SeqCst);
    let add = ledger::ProductChange::Restock { id: lane.product.clone(), add: STOCK, from: None };
    lane.ledger.change(&add, token).await.unwrap().unwrap().available
}

/// The same by statements without the condition on the state: every pair that gives units back goes wrong.
#[tokio::test]
async fn without_the_condition_two_events_get_through() {
    let sale = sale_without_replicas(Database::Postgres).await;
    let ledger = sale.ledger();
    let lane = Lane { ledger: &ledger, product: "p0".to_owned(), token: AtomicI64::new(1_000) };
    let mut database = PgConnection::connect(&sale.database_url()).await.unwrap();
    for (one, other) in pairs() {
        let before = refill(&lane).await;
        let id = lane.order().await;
        let mut through = [false; 2];
        for (event, through) in [one, other].into_iter().zip(&mut through) {
            let (state, back) = match event {
                Event::Pay => ("paid", 0),
                Event::Cancel | Event::Expire => ("cancelled", UNITS),
                Event::FailPayment => ("payment_failed", UNITS),
                Event::Refund | Event::RefundWithUnits => {
                    unreachable!("they begin with a paid order")
                }
            };
            let change =
                sqlx::query("UPDATE orders SET state = $2 WHERE id = $1").bind(id).bind(state);
            *through = change.execute(&mut database).await.unwrap().rows_affected() == 1;
            let moved = "UPDATE stock SET available = least(available + $1, declared) WHERE product_id = 'p0'";
            sqlx::query(moved).bind(back).execute(&mut database).await.unwrap();
        }
        let fault = fault(before - UNITS, through, lane.after(id).await);
        assert!(fault.is_some(), "{one:?} and {other:?}");
    }
}

/// The same for two refunds of a paid order, each with the units.
#[tokio::test]
async fn without_the_condition_two_refunds_give_the_units_back_twice() {
    let sale = sale_without_replicas(Database::Postgres).await;
    let ledger = sale.ledger();
    let lane = Lane { ledger: &ledger, product: "p0".to_owned(), token: AtomicI64::new(1_000) };
    let (id, _other) = (lane.order().await, lane.order().await);
    assert!(lane.play(Event::Pay, id).await);
    for _ in 0..2 {
        let refund = format!(
            "UPDATE orders SET state = 'cancelled', refunded_at_ms = 1 WHERE id = '{id}'; \
             UPDATE stock SET available = available + {UNITS} WHERE product_id = 'p0'"
        );
        sale.execute(&refund).await;
    }
    let after = lane.after(id).await;
    assert_eq!(after, (OrderState::Refunded, STOCK), "units of the other order are for sale");
    let before = STOCK - 2 * UNITS;
    let fault = fault_of_refund(before, [Event::RefundWithUnits; 2], [true, false], after);
    assert!(fault.is_some(), "the races would have found it");
}
