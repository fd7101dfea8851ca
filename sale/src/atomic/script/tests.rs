//! The checks of the scripts on a real Redis, and the damage without them.

use testkit::RedisServer;

use super::*;

/// The script without a check. Fails if the script does not have that check.
fn without(script: &str, check: &str, instead: &str) -> Script {
    assert!(script.contains(check), "there is no {check:?}");
    Script::new(&script.replace(check, instead))
}

async fn connect(server: &RedisServer) -> MultiplexedConnection {
    let client = redis::Client::open(format!("redis://{}", server.address())).unwrap();
    client.get_multiplexed_async_connection().await.unwrap()
}

fn purchase_by(buyer: &str, key: &str) -> Purchase {
    let idempotency_key = Some(key.to_owned());
    Purchase { buyer: buyer.to_owned(), quantity: 1, idempotency_key, limit_key: None }
}

/// Whether a purchase is sold whose key was looked up in an earlier epoch of the keys.
async fn sells_after_another_epoch(scripts: &Scripts) -> bool {
    let server = RedisServer::start().unwrap();
    let mut connection = connect(&server).await;
    assert!(scripts.stop(&mut connection, "1", 1).await.unwrap());
    assert!(scripts.open(&mut connection, "1", 1, 10, BuyerUnits::NotCounted).await.unwrap());
    let (earlier, now) = (Uuid::now_v7(), Uuid::now_v7());
    server.command(&format!("HSET {KEYS} epoch {now}")).unwrap();
    let purchase = purchase_by("ann", "k");
    let stock = Stock {
        product_id: "1",
        incarnation: 1,
        max_per_buyer: None,
        unit_price: None,
        max_unrecorded: 100,
    };
    let mut sells = async |epoch| {
        let checked = CheckedKeys { epoch: Some(epoch), count: 1 };
        let purchases = [(Uuid::now_v7(), &purchase)].into_iter();
        let answer = scripts.purchase(&mut connection, stock, checked, purchases).await.unwrap();
        let PurchaseReply::Decided { not_sold, .. } = answer else { unreachable!("{answer:?}") };
        not_sold.is_empty()
    };
    let sold = sells(earlier).await;
    assert!(sells(now).await || sold, "a look-up of this epoch counts");
    sold
}

#[tokio::test]
async fn a_look_up_of_an_earlier_epoch_does_not_count() {
    assert!(!sells_after_another_epoch(&Scripts::new()).await);
    let purchase = without(include_str!("../purchase.lua"), "checked = 0", "checked = 1");
    assert!(sells_after_another_epoch(&Scripts { purchase, ..Scripts::new() }).await);
}

/// Ann's units after one of two was given back, in a stock that read them from the database
/// afterwards; `None`: the stock must be rebuilt first.
async fn units_after_giving_back(scripts: &Scripts) -> Option<i64> {
    let server = RedisServer::start().unwrap();
    let mut connection = connect(&server).await;
    scripts.stop(&mut connection, "1", 2).await.unwrap();
    let buyer_units = BuyerUnits::SinceOpening;
    scripts.open(&mut connection, "1", 2, 10, buyer_units).await.unwrap();
    let bought = [("ann".to_owned(), 1)];
    let stock = ("1", 2);
    assert!(scripts.fill(&mut connection, stock, FillProgress::Complete, &bought).await.unwrap());
    // Incarnation 1 counted her units when the database gave one back.
    scripts.give_back(&mut connection, ("1", Some(1)), "ann", 1).await.unwrap();
    let found = scripts.inspect(&mut connection, "1").await.unwrap();
    let units: i64 = redis::cmd("HGET")
        .arg(bought_key("1"))
        .arg("ann")
        .query_async(&mut connection)
        .await
        .unwrap();
    (found.limited == 1).then_some(units)
}

#[tokio::test]
async fn returned_units_are_not_subtracted_from_a_later_count() {
    assert_eq!(units_after_giving_back(&Scripts::new()).await, None);
    let check = "incarnation == ARGV[1] and ";
    let give_back = without(include_str!("../give_back.lua"), check, "");
    let scripts = Scripts { give_back, ..Scripts::new() };
    assert_eq!(units_after_giving_back(&scripts).await, Some(0), "she may buy one too many");
}
