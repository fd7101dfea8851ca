//! Parts of a sale that fail, and an operator that dies.

use anyhow::{Context, Result, ensure};
use flashsale_tests::{Allowed, Operator, READY, SALE, SOON, Shop, TEMPORARY, holds, within};
use serde_json::{Value, json};

use crate::sale::{MOMENT, NO_REFUSAL, REPLICAS, RESTART, STOCK, await_stock, products, sale};

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test e2e"]
async fn a_sale_outlives_the_loss_of_its_parts() -> Result<()> {
    Shop::open("parts", async |shop| {
        shop.open_sale(&sale()?).await?;
        a_killed_replica(shop).await?;
        a_lost_node(shop).await?;
        a_node_that_takes_no_more(shop).await?;
        a_killed_database(shop).await?;
        a_killed_operator(shop).await?;
        a_killed_leader(shop).await?;
        a_wrong_image(shop).await
    })
    .await
}

/// As [`NO_REFUSAL`], while the stock is raised by one.
const RAISED: Allowed<'_> = Allowed { raised: 1, ..NO_REFUSAL };

/// Connections to it break, and its lock is free again after one lease.
async fn a_killed_replica(shop: &Shop) -> Result<()> {
    let allowed = Allowed {
        refusals: &["connection_lost", "no_answer", "lock_timeout"],
        pause: MOMENT * 2,
        ..NO_REFUSAL
    };
    shop.step("app pod killed", allowed, async || {
        let before = shop.uids("app").await?;
        shop.kill(before.keys().next().context("no replica")?).await?;
        within(READY, "another replica", async {
            while shop.uids("app").await?.keys().all(|name| before.contains_key(name)) {}
            Ok(())
        })
        .await?;
        shop.await_status("all replicas", READY, |status| holds(status, "AppAvailable")).await
    })
    .await
}

async fn a_lost_node(shop: &Shop) -> Result<()> {
    shop.step("redis pod deleted with its volume", NO_REFUSAL, async || {
        shop.lose_volume(&format!("{SALE}-redis-2")).await?;
        ensure!(shop.votes(2).await?, "it is ready and does not vote");
        Ok(())
    })
    .await
}

/// The server refuses writes at its limit, and the others decide.
async fn a_node_that_takes_no_more(shop: &Shop) -> Result<()> {
    let node = format!("{SALE}-redis-1");
    let limit = async |bytes: &str| {
        let command = ["redis-cli", "CONFIG", "SET", "maxmemory", bytes];
        let answer = shop.exec(&node, &command).await?;
        ensure!(answer.trim() == "OK", "CONFIG SET: {answer}");
        Ok(())
    };
    let voting = async |nodes: u32| {
        within(SOON, "the number of voting nodes", async {
            loop {
                let seen = shop.app_metric("flashsale_lock_nodes_voting").await?;
                if seen.iter().all(|voting| (voting - f64::from(nodes)).abs() < 0.5) {
                    return Ok(());
                }
            }
        })
        .await
    };
    shop.step("redis node at its memory limit", NO_REFUSAL, async || {
        limit("1").await?;
        voting(4).await?;
        limit("0").await?;
        voting(5).await
    })
    .await
}

async fn a_killed_database(shop: &Shop) -> Result<()> {
    let allowed = Allowed { refusals: TEMPORARY, pause: RESTART, ..NO_REFUSAL };
    shop.step("postgresql pod deleted", allowed, async || {
        shop.delete_and_await(&format!("{SALE}-db-0")).await
    })
    .await
}

/// In the middle of a change, and again while the next operator finishes it.
async fn a_killed_operator(shop: &Shop) -> Result<()> {
    let operator = Operator::installed().await?;
    shop.step("operator killed during a change", RAISED, async || {
        let before = shop.uids("app").await?;
        let annotations = json!({ "podTemplate": { "annotations": { "shop.example/roll": "1" } } });
        shop.change_spec(json!({ "app": annotations, "products": products(STOCK + 1) })).await?;
        operator.kill().await?;
        operator.kill().await?;
        shop.await_other_replicas(&before, REPLICAS).await?;
        await_stock(shop, STOCK + 1).await
    })
    .await
}

async fn a_killed_leader(shop: &Shop) -> Result<()> {
    let operator = Operator::installed().await?;
    shop.step("leader of two operators killed", RAISED, async || {
        operator.scale(2).await?;
        operator.kill_leader().await?;
        shop.change_spec(json!({ "products": products(STOCK + 2) })).await?;
        await_stock(shop, STOCK + 2).await?;
        operator.scale(1).await
    })
    .await
}

/// The seed of more stock cannot start, and the replicas sell on.
async fn a_wrong_image(shop: &Shop) -> Result<()> {
    shop.step("wrong image corrected", RAISED, async || {
        let change =
            |image: Value| json!({ "app": { "image": image }, "products": products(STOCK + 3) });
        shop.change_spec(change("localhost/flashsale-app:absent".into())).await?;
        shop.await_status("the wrong image to be named", SOON, |status| {
            let conditions = status["conditions"].as_array();
            let seeded = conditions.into_iter().flatten().find(|it| it["type"] == "StockSeeded");
            seeded.is_some_and(|it| {
                it["reason"] == "ImagePullBackOff" || it["reason"] == "ErrImagePull"
            })
        })
        .await?;
        shop.change_spec(change(Value::Null)).await?;
        await_stock(shop, STOCK + 3).await
    })
    .await
}
