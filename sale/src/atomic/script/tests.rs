//! What the scripts check, on a real Redis, and what would happen if they did not.

use testkit::RedisServer;

use super::*;

/// A script without a check, which must be there.
fn without(script: &str, check: &str, instead: &str) -> Script {
    assert!(script.contains(check), "there is no {check:?}");
    Script::new(&script.replace(check, instead))
}

async fn connect(server: &RedisServer) -> MultiplexedConnection {
    let client = redis::Client::open(format!("redis://{}", server.address())).unwrap();
    client.get_multiplexed_async_connection().await.unwrap()
}

fn purchase_by(buyer: &str, key: &str) -> Purchase {
    Purchase { buyer: buyer.to_owned(), quantity: 1, idempotency_key: Some(key.to_owned()) }
}

/// Whether a key is sold under that was looked up when the keys had an earlier epoch than now.
async fn sells_after_another_epoch(scripts: &Scripts) -> bool {
    let server = RedisServer::start().unwrap();
    let mut connection = connect(&server).await;
    assert!(scripts.stop(&mut connection, "1", 1).await.unwrap());
    assert!(scripts.open(&mut connection, "1", 1, 10, Counted::No).await.unwrap());
    let (earlier, now) = (Uuid::now_v7(), Uuid::now_v7());
    server.command(&format!("HSET {KEYS} epoch {now}")).unwrap();
    let purchase = purchase_by("ann", "k");
    let stock = Stock { product_id: "1", incarnation: 1, max_per_buyer: None, most_waiting: 100 };
    let mut sells = async |epoch| {
        let checked = Checked { epoch: Some(epoch), count: 1 };
        let purchases = [(Uuid::now_v7(), &purchase)].into_iter();
        let answer = scripts.purchase(&mut connection, stock, checked, purchases).await.unwrap();
        let Answer::Decided { not_made, .. } = answer else { unreachable!("{answer:?}") };
        not_made.is_empty()
    };
    let sold = sells(earlier).await;
    assert!(sells(now).await || sold, "what was looked up in this epoch counts");
    sold
}

#[tokio::test]
async fn what_was_looked_up_before_redis_lost_its_keys_again_does_not_count() {
    assert!(!sells_after_another_epoch(&Scripts::new()).await);
    let purchase = without(include_str!("../purchase.lua"), "checked = 0", "checked = 1");
    assert!(sells_after_another_epoch(&Scripts { purchase, ..Scripts::new() }).await);
}

/// How many units of ann's are counted after one of two was given back, in a stock that learned of her
/// from the database after that; `None`: the stock is made anew first.
async fn units_after_giving_back(scripts: &Scripts) -> Option<i64> {
    let server = RedisServer::start().unwrap();
    let mut connection = connect(&server).await;
    scripts.stop(&mut connection, "1", 2).await.unwrap();
    let counted = Counted::SinceItsBeginning;
    scripts.open(&mut connection, "1", 2, 10, counted).await.unwrap();
    let bought = [("ann".to_owned(), 1)];
    let stock = ("1", 2);
    assert!(scripts.fill(&mut connection, stock, Filled::Completely, &bought).await.unwrap());
    // Incarnation 1 knew of her when the database gave the unit back.
    scripts.given_back(&mut connection, ("1", Some(1)), "ann", 1).await.unwrap();
    let found = scripts.look(&mut connection, "1").await.unwrap();
    let units: i64 = redis::cmd("HGET")
        .arg(bought_key("1"))
        .arg("ann")
        .query_async(&mut connection)
        .await
        .unwrap();
    (found.limited == 1).then_some(units)
}

#[tokio::test]
async fn units_that_came_back_before_they_were_learned_are_not_taken_off_again() {
    assert_eq!(units_after_giving_back(&Scripts::new()).await, None);
    let check = "incarnation == ARGV[1] and ";
    let given_back = without(include_str!("../given_back.lua"), check, "");
    let scripts = Scripts { given_back, ..Scripts::new() };
    assert_eq!(units_after_giving_back(&scripts).await, Some(0), "she may buy one too many");
}
