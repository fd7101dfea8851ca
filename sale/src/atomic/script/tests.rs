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
    assert!(scripts.stop(&mut connection, "1", 1, false).await.unwrap());
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
    scripts.stop(&mut connection, "1", 2, false).await.unwrap();
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

/// Whether ann's units are still there after the call of an earlier holder of the lock, carried out
/// late.
async fn has_units_after_a_late_stop(scripts: &Scripts) -> bool {
    let server = RedisServer::start().unwrap();
    let mut connection = connect(&server).await;
    assert!(scripts.stop(&mut connection, "1", 2, false).await.unwrap());
    let buyer_units = BuyerUnits::SinceOpening;
    assert!(scripts.open(&mut connection, "1", 2, 10, buyer_units).await.unwrap());
    let (stock, bought) = (("1", 2), [("ann".to_owned(), 1)]);
    assert!(scripts.fill(&mut connection, stock, FillProgress::Complete, &bought).await.unwrap());
    scripts.stop(&mut connection, "1", 1, false).await.unwrap();
    let has = has_units(&mut connection).await;
    // The next holder's stock counts from the database.
    server.command(&format!("HSET {KEYS} epoch {}", Uuid::now_v7())).unwrap();
    assert!(scripts.stop(&mut connection, "1", 3, false).await.unwrap());
    assert!(!has_units(&mut connection).await);
    assert!(scripts.inspect(&mut connection, "1").await.unwrap().has_keys);
    assert!(scripts.stop(&mut connection, "1", 4, true).await.unwrap());
    assert!(!scripts.inspect(&mut connection, "1").await.unwrap().has_keys);
    assert_eq!(scripts.inspect(&mut connection, "1").await.unwrap().available, -1);
    has
}

async fn has_units(connection: &mut MultiplexedConnection) -> bool {
    redis::cmd("HEXISTS").arg(bought_key("1")).arg("ann").query_async(connection).await.unwrap()
}

#[tokio::test]
async fn units_are_forgotten_with_their_stock_only() {
    assert!(has_units_after_a_late_stop(&Scripts::new()).await);
    let check = "later > tonumber(ARGV[1])";
    let stop = without(include_str!("../stop.lua"), check, "false");
    assert!(!has_units_after_a_late_stop(&Scripts { stop, ..Scripts::new() }).await);
}

#[tokio::test]
async fn the_state_of_a_stock_says_whether_orders_wait() {
    let server = RedisServer::start().unwrap();
    let (scripts, mut connection) = (Scripts::new(), connect(&server).await);
    let missing = scripts.inspect(&mut connection, "1").await.unwrap();
    assert_eq!((missing.fence, missing.all_recorded), (-1, true));
    assert!(scripts.stop(&mut connection, "1", 2, false).await.unwrap());
    assert!(scripts.open(&mut connection, "1", 2, 10, BuyerUnits::NotCounted).await.unwrap());
    scripts.follow(&mut connection, "1", 2, 12, 7).await.unwrap().unwrap();
    server.command("XADD orders:1 * version 2 orders x").unwrap();
    let found = scripts.inspect(&mut connection, "1").await.unwrap();
    assert_eq!((found.available, found.fence, found.all_recorded), (12, 7, false));
    server.command("XTRIM orders:1 MAXLEN 0").unwrap();
    assert!(scripts.inspect(&mut connection, "1").await.unwrap().all_recorded);
}

/// Whether an epoch begins although another one began and was removed since the mark was set.
async fn begins_keys_after_another_epoch(scripts: &Scripts) -> bool {
    let server = RedisServer::start().unwrap();
    let mut connection = connect(&server).await;
    server.command(&format!("HSETNX {KEYS} lost mark")).unwrap();
    assert!(!scripts.inspect(&mut connection, "1").await.unwrap().has_keys);
    assert!(scripts.begin_keys(&mut connection, "mark").await.unwrap());
    assert!(scripts.inspect(&mut connection, "1").await.unwrap().has_keys);
    assert!(scripts.begin_keys(&mut connection, "mark").await.unwrap(), "they are there");
    // Orders were sold with keys that are removed now, and wait to be recorded.
    server.command(&format!("DEL {KEYS}")).unwrap();
    server.command(&format!("HSETNX {KEYS} lost later")).unwrap();
    scripts.begin_keys(&mut connection, "mark").await.unwrap()
}

#[tokio::test]
async fn keys_are_not_begun_if_they_were_there_meanwhile() {
    assert!(!begins_keys_after_another_epoch(&Scripts::new()).await);
    let begin_keys = without(include_str!("../begin_keys.lua"), "found[3] ~= ARGV[1]", "false");
    let scripts = Scripts { begin_keys, ..Scripts::new() };
    assert!(begins_keys_after_another_epoch(&scripts).await, "a key may be sold twice");
}
