//! Holds in fair order: units are held, come back and are sold again in the order in which buyers asked, over all
//! replicas; who waits in the waiting list comes before all who ask. A restock has its place among those who ask, and
//! what these leave of it is for the list.

use futures::future::{FutureExt, LocalBoxFuture};
use futures::stream::{FuturesOrdered, StreamExt};
use redlock::Lease;
use serde_json::json;
use testkit::RedisServer;

use crate::common::{Answer, BOTH, Buyer, Database, SaleSpec, TestSale, eventually};

const LIST: &str = "/v1/products/1/waitlist";

async fn sale(database: Database, replicas: usize, stock: i64) -> TestSale {
    let products = json!([{"id": "1", "name": "Console", "stock": stock}]);
    let settings = [("LOCK_ORDER", "Fair"), ("LOCK_WAIT_SECONDS", "60"), ("HOLD_SECONDS", "3600")];
    let settings = settings.map(|(name, value)| (name, value.to_owned())).to_vec();
    TestSale::start(SaleSpec { replicas, products, settings, ..SaleSpec::on(database) }).await
}

/// The newest ticket that each node has issued.
fn tickets(sale: &TestSale) -> Vec<u64> {
    let ticket = |node: &RedisServer| {
        let ticket = node.get("ticket:stock:1").unwrap();
        ticket.map_or(0, |ticket| ticket.parse::<u64>().unwrap())
    };
    sale.nodes.iter().map(ticket).collect()
}

/// Calls that wait for the lock of the product, each with a later ticket than those before it.
struct Line<'a> {
    sale: &'a TestSale,
    blocker: Lease,
    newest: u64,
    calls: FuturesOrdered<LocalBoxFuture<'a, Answer>>,
}

impl<'a> Line<'a> {
    /// From now on nobody is served.
    async fn begin(sale: &'a TestSale) -> Self {
        let blocker = sale.block("stock:1").await;
        let newest = tickets(sale).into_iter().max().unwrap();
        Self { sale, blocker, newest, calls: FuturesOrdered::new() }
    }

    /// Waits until a call has its ticket. Only then may the next one ask.
    async fn join(&mut self, call: impl Future<Output = Answer> + 'a) {
        let mut call = call.boxed_local();
        let answer = tokio::select! {
            answer = &mut call => Some(answer),
            () = self.next_ticket() => None,
        };
        assert!(answer.is_none(), "nobody has the lock: {answer:?}");
        self.calls.push_back(call);
    }

    /// Waits until something has the next ticket.
    async fn next_ticket(&mut self) {
        let (sale, newest) = (self.sale, self.newest);
        eventually("it has a ticket", async || {
            let issued = tickets(sale).into_iter().filter(|ticket| *ticket > newest);
            // A node that is slow may be left out of the votes.
            issued.count() > sale.nodes.len() / 2
        })
        .await;
        self.newest = tickets(sale).into_iter().max().unwrap();
    }

    /// Everybody is served. Returns the answers in the order of the tickets.
    async fn serve(self) -> Vec<Answer> {
        let Self { blocker, calls, .. } = self;
        blocker.release().await;
        calls.collect().await
    }
}

async fn order(buyer: &Buyer<'_>, replica: usize, units: i64) -> Answer {
    let body = json!({"items": [{"product_id": "1", "quantity": units}]});
    buyer.send(replica, ("POST", "/v1/orders"), Some(&body), None).await
}

async fn pay(admin: &Buyer<'_>, replica: usize, id: &str) -> Answer {
    let (path, paid) = (format!("/v1/orders/{id}/payment"), json!({"result": "paid"}));
    admin.send(replica, ("POST", &path), Some(&paid), None).await
}

async fn restock(admin: &Buyer<'_>, replica: usize, units: i64) -> Answer {
    let (path, add) = ("/v1/products/1/restock", json!({"add": units}));
    admin.send(replica, ("POST", path), Some(&add), None).await
}

async fn wait(buyer: &Buyer<'_>, units: i64) {
    let joined = buyer.call("POST", LIST, Some(&json!({"quantity": units}))).await;
    assert_eq!(joined.status, 201, "{joined:?}");
}

/// Waits until a buyer on the list has an order of this many units.
async fn is_served(buyer: &Buyer<'_>, units: i64) {
    let waits = async || buyer.call("GET", LIST, None).await.status == 200;
    eventually("who waits is served", async || !waits().await).await;
    let order = buyer.call("GET", "/v1/orders", None).await.body["orders"][0].clone();
    let served = (&order["state"], &order["items"][0]["quantity"]);
    assert_eq!(served, (&json!("pending"), &json!(units)), "{order}");
}

/// The callers who have units. All others got `sold_out`.
fn winners(answers: &[Answer]) -> Vec<usize> {
    let won = |answer: &Answer| answer.status == 201;
    for other in answers.iter().filter(|answer| !won(answer)) {
        assert_eq!(other.problem(), (409, "sold_out"));
    }
    (0..answers.len()).filter(|number| won(&answers[*number])).collect()
}

/// A replica refuses buyers until it knows of units that came back.
async fn every_replica_has(sale: &TestSale, units: i64) {
    let anybody = sale.buyer("anybody");
    for replica in 0..sale.replicas.len() {
        eventually("the replica knows the stock", async || {
            let path = ("GET", "/v1/products/1/stock");
            anybody.send(replica, path, None, None).await.body["remaining"] == units
        })
        .await;
    }
}

async fn is_sold(sale: &TestSale, units: i64) {
    eventually("as much is sold", async || sale.sold().await[0]["sold"] == units).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn units_are_held_and_sold_again_after_their_hold_in_the_order_of_asking() {
    for database in BOTH {
        let sale = sale(database, 3, 8).await;
        let buyers: Vec<_> = (0..24).map(|i| sale.buyer(&format!("buyer-{i}"))).collect();
        let mut line = Line::begin(&sale).await;
        for (i, buyer) in buyers[..12].iter().enumerate() {
            line.join(order(buyer, i % 3, 1)).await;
        }
        let answers = line.serve().await;
        assert_eq!(winners(&answers), (0..8).collect::<Vec<_>>(), "{database:?}");
        assert!(answers[..8].iter().all(|answer| answer.body["state"] == "pending"));

        assert_eq!(sale.end_all_holds().await, 8);
        every_replica_has(&sale, 8).await;
        let mut line = Line::begin(&sale).await;
        for (i, buyer) in buyers[12..].iter().enumerate() {
            if i % 2 == 0 {
                line.join(buyer.buy_from(i % 3, "1", 1, None)).await;
            } else {
                line.join(order(buyer, i % 3, 1)).await;
            }
        }
        let answers = line.serve().await;
        assert_eq!(winners(&answers), (0..8).collect::<Vec<_>>(), "{database:?}, sold again");
        is_sold(&sale, 8).await;
        sale.await_stock_on_nodes("1", "0").await;
    }
}

/// Whichever replica ends the hold, its place is between those who asked before and after it.
#[tokio::test(flavor = "multi_thread")]
async fn units_of_a_hold_that_ends_go_to_the_first_who_ask_for_them() {
    for database in BOTH {
        let sale = sale(database, 2, 3).await;
        let buyers: Vec<_> = (0..4).map(|i| sale.buyer(&format!("buyer-{i}"))).collect();
        assert_eq!(order(&sale.buyer("ann"), 0, 2).await.status, 201);
        every_replica_has(&sale, 1).await;
        let mut line = Line::begin(&sale).await;
        line.join(order(&buyers[0], 1, 1)).await;
        assert_eq!(sale.end_all_holds().await, 1);
        line.next_ticket().await;
        for (i, buyer) in buyers[1..].iter().enumerate() {
            line.join(order(buyer, i % 2, 1)).await;
        }
        let answers = line.serve().await;
        assert_eq!(winners(&answers), [0, 1, 2], "{database:?}: one unit was left, two came back");
        is_sold(&sale, 3).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_payment_has_its_place_among_those_who_ask() {
    for database in BOTH {
        let sale = sale(database, 2, 2).await;
        let (ann, bob, dan) = (sale.buyer("ann"), sale.buyer("bob"), sale.buyer("dan"));
        let admin = sale.admin("shop");
        let first = order(&ann, 0, 1).await.order().to_owned();
        let second = order(&ann, 0, 1).await.order().to_owned();
        assert_eq!(sale.end_all_holds().await, 2);
        every_replica_has(&sale, 2).await;

        let mut line = Line::begin(&sale).await;
        line.join(pay(&admin, 0, &first)).await;
        line.join(order(&bob, 1, 2)).await;
        let answers = line.serve().await;
        let paid = (answers[0].status, answers[0].body["state"].as_str());
        assert_eq!(paid, (200, Some("paid")), "{database:?}: it was first");
        assert_eq!(answers[1].problem(), (409, "sold_out"), "one unit is left");

        let mut line = Line::begin(&sale).await;
        line.join(order(&dan, 1, 1)).await;
        line.join(pay(&admin, 0, &second)).await;
        let answers = line.serve().await;
        assert_eq!(answers[0].status, 201, "{database:?}: {answers:?}");
        let late = (answers[1].status, answers[1].body["state"].as_str());
        assert_eq!(late, (200, Some("refund_required")), "{database:?}: dan was first");
        is_sold(&sale, 2).await;
    }
}

/// The same whether a cancel or the end of a hold gives units back, and whichever calls share a batch with it.
#[tokio::test(flavor = "multi_thread")]
async fn who_waits_in_the_list_comes_before_those_who_asked_earlier_and_later() {
    for (database, expires) in [
        (Database::Postgres, false),
        (Database::Postgres, true),
        (Database::Sqlite, false),
        (Database::Sqlite, true),
    ] {
        let context = format!("{database:?}, expires: {expires}");
        let sale = sale(database, 2, 4).await;
        let (ann, bob, eve) = (sale.buyer("ann"), sale.buyer("bob"), sale.buyer("eve"));
        let buyers: Vec<_> = (0..3).map(|i| sale.buyer(&format!("buyer-{i}"))).collect();
        let held = order(&ann, 0, 3).await.order().to_owned();
        for (waiter, units) in [(&bob, 2), (&eve, 3)] {
            wait(waiter, units).await;
        }
        every_replica_has(&sale, 1).await;

        let mut line = Line::begin(&sale).await;
        line.join(order(&buyers[0], 0, 1)).await;
        if expires {
            assert_eq!(sale.end_all_holds().await, 1);
            line.next_ticket().await;
        } else {
            line.join(ann.cancel(1, &held)).await;
        }
        line.join(order(&buyers[1], 0, 1)).await;
        line.join(order(&buyers[2], 1, 1)).await;
        let mut answers = line.serve().await;
        if !expires {
            assert_eq!(answers.remove(1).body["state"], "cancelled");
        }
        // One unit was left and three came back: two for bob, and two for those who asked, because eve wants three.
        assert_eq!(winners(&answers), [0, 1], "{context}");
        assert_eq!(bob.call("GET", LIST, None).await.problem(), (404, "not_waiting"), "{context}");
        let served = bob.call("GET", "/v1/orders", None).await.body["orders"][0].clone();
        assert_eq!(
            (&served["state"], &served["items"][0]["quantity"]),
            (&json!("pending"), &json!(2))
        );
        assert_eq!(eve.call("GET", LIST, None).await.body["position"], 1, "{context}");
        is_sold(&sale, 4).await;
    }
}

/// Units that an administrator adds are on sale at once, so those who asked after the restock and before anybody looked at
/// the list have them first. Who asked before the restock does not.
#[tokio::test(flavor = "multi_thread")]
async fn a_restock_is_for_who_asks_after_it_and_then_for_who_waits_in_the_list() {
    for database in BOTH {
        let sale = sale(database, 2, 4).await;
        let (ann, bob, eve) = (sale.buyer("ann"), sale.buyer("bob"), sale.buyer("eve"));
        let buyers: Vec<_> = (0..4).map(|i| sale.buyer(&format!("buyer-{i}"))).collect();
        let admin = sale.admin("shop");
        assert_eq!(order(&ann, 0, 3).await.status, 201);
        for (waiter, units) in [(&bob, 2), (&eve, 3)] {
            wait(waiter, units).await;
        }
        every_replica_has(&sale, 1).await;

        let mut line = Line::begin(&sale).await;
        line.join(order(&buyers[0], 0, 1)).await;
        line.join(order(&buyers[1], 1, 1)).await;
        line.join(restock(&admin, 0, 4)).await;
        line.join(order(&buyers[2], 1, 1)).await;
        line.join(order(&buyers[3], 0, 1)).await;
        let mut answers = line.serve().await;
        let restocked = answers.remove(2);
        assert_eq!((restocked.status, &restocked.body["stock"]), (200, &json!(8)), "{database:?}");
        // One unit was left for the first; of four new ones two are for those who asked later, and two for bob, because eve
        // wants three.
        assert_eq!(winners(&answers), [0, 2, 3], "{database:?}");
        is_served(&bob, 2).await;
        assert_eq!(eve.call("GET", LIST, None).await.body["position"], 1, "{database:?}");
        is_sold(&sale, 8).await;

        // Nobody asks meanwhile.
        assert_eq!(restock(&admin, 1, 3).await.body["stock"], 11, "{database:?}");
        is_served(&eve, 3).await;
        is_sold(&sale, 11).await;
        sale.await_stock_on_nodes("1", "0").await;
        assert_eq!(order(&buyers[1], 1, 1).await.problem(), (409, "sold_out"), "{database:?}");
    }
}
