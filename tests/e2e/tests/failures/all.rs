//! Failures and changes that take long: `cargo xtask test e2e --all-failures`.

mod backup;
mod clock;
mod external;
mod gone;
mod lost_database;
mod wrong_images;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use flashsale_tests::{Allowed, Api, READY, SALE, SOON, Shop, TEMPORARY, holds, within};
use k8s_openapi::api::core::v1::Event;
use kube::api::ListParams;
use serde_json::json;

use crate::sale::{NO_REFUSAL, sale};

const AWAY: Duration = Duration::from_mins(1);
const EVICTION: Duration = Duration::from_mins(2);
const NODES: usize = 5;

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test e2e --all-failures"]
async fn a_sale_goes_on_while_its_cluster_changes() -> Result<()> {
    Shop::open("cluster", async |shop| {
        shop.open_sale(&sale()?).await?;
        an_api_server_that_is_away(shop).await?;
        drained_nodes(shop).await?;
        wrong_images::of_redis(shop).await?;
        wrong_images::of_the_database(shop).await?;
        other_images(shop).await?;
        a_node_killed_at_its_limit(shop).await
    })
    .await
}

async fn an_api_server_that_is_away(shop: &Shop) -> Result<()> {
    let Some(api) = Api::of_own_node() else {
        println!("==> API server away: not on this cluster, only on a node of tests/cluster");
        return Ok(());
    };
    shop.step("API server away for a minute", NO_REFUSAL, async || {
        let before = shop.operands().await?;
        api.away(AWAY).await?;
        shop.await_ready().await?;
        let after = shop.operands().await?;
        ensure!(after == before, "pods restarted: {before:?}, then {after:?}");
        Ok(())
    })
    .await
}

/// As `kubectl drain` of three machines would do it.
async fn drained_nodes(shop: &Shop) -> Result<()> {
    shop.step("three redis nodes drained", NO_REFUSAL, async || {
        for node in 0..3 {
            shop.evict(&format!("{SALE}-redis-{node}"), EVICTION).await?;
            for other in (0..NODES).filter(|&other| other != node) {
                let votes = shop.votes(other).await?;
                ensure!(votes, "node {node} was evicted while node {other} did not vote");
            }
        }
        shop.await_status("the last node to vote", READY, |status| holds(status, "RedisReady"))
            .await
    })
    .await
}

async fn other_images(shop: &Shop) -> Result<()> {
    let image = |part: &str| {
        let name = format!("FLASHSALE_NEXT_{part}_IMAGE");
        std::env::var(&name).with_context(|| format!("{name} is not set"))
    };
    let (app, redis) = (image("APP")?, image("REDIS")?);
    shop.step("redis and app images changed", NO_REFUSAL, async || {
        let before = shop.operands().await?;
        shop.change_spec(json!({ "app": { "image": app }, "redis": { "image": redis } })).await?;
        shop.await_ready_within(Duration::from_mins(5)).await?;
        let after = shop.operands().await?;
        let kept = |name: &&String| after.get(*name) == before.get(*name);
        let kept: Vec<_> = before.keys().filter(kept).collect();
        ensure!(*kept == [&format!("{SALE}-db-0")], "these pods are the same: {kept:?}");
        Ok(())
    })
    .await
}

/// The kernel kills a server that outgrows its container. Its file makes it as large again, so it stays away until the limit
/// is raised.
async fn a_node_killed_at_its_limit(shop: &Shop) -> Result<()> {
    let node = format!("{SALE}-redis-3");
    shop.step("redis node killed at its container's limit", NO_REFUSAL, async || {
        // Redis answers nothing: it is dead.
        let fill = ["redis-cli", "SETRANGE", "junk", "200000000", "x"];
        let _ = shop.exec(&node, &fill).await;
        shop.await_status("the cause to be named", SOON * 2, |status| {
            let conditions = status["conditions"].as_array();
            let redis = conditions.into_iter().flatten().find(|it| it["type"] == "RedisReady");
            redis.is_some_and(|it| {
                it["status"] == "False" && it["reason"].as_str().is_some_and(|it| it != "NodesAway")
            })
        })
        .await?;
        shop.change_spec(json!({ "redis": { "resources": { "limits": { "memory": "512Mi" } } } }))
            .await?;
        shop.await_ready_within(Duration::from_mins(5)).await?;
        shop.exec(&node, &["redis-cli", "DEL", "junk"]).await.map(drop)
    })
    .await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test e2e --all-failures"]
async fn a_sale_outlives_the_loss_of_its_secrets_and_says_when_its_database_is_lost() -> Result<()>
{
    Shop::open("lost", async |shop| {
        shop.open_sale(&sale()?).await?;
        a_lost_operator_secret(shop).await?;
        a_lost_database_secret(shop).await?;
        a_lost_redis_secret(shop).await?;
        a_lost_auth_secret(shop).await?;
        lost_database::a_lost_database(shop).await
    })
    .await
}

/// All pods but the database restart once.
async fn a_lost_operator_secret(shop: &Shop) -> Result<()> {
    shop.step("Secret of the operator deleted", NO_REFUSAL, async || {
        let before = shop.uids("database").await?;
        shop.lose_secret(&format!("{SALE}-operator")).await?;
        ensure!(shop.uids("database").await? == before, "the database restarted");
        Ok(())
    })
    .await
}

/// It is not made again: the database has another password.
async fn a_lost_database_secret(shop: &Shop) -> Result<()> {
    let secret = format!("{SALE}-db");
    shop.step("Secret of the database deleted", NO_REFUSAL, async || {
        shop.without_secret(&secret, async || {
            shop.await_status("the missing Secret to be named", SOON, |status| {
                let conditions = status["conditions"].as_array();
                let mut ready = conditions.into_iter().flatten().filter(|it| it["type"] == "Ready");
                ready.any(|it| it["status"] == "False" && it["reason"] == "SecretMissing")
            })
            .await
        })
        .await
    })
    .await
}

/// Nobody knows a password that all nodes accept, so there is no quorum until most of them have the new one.
async fn a_lost_redis_secret(shop: &Shop) -> Result<()> {
    let allowed = Allowed {
        refusals: TEMPORARY,
        pause: Duration::from_mins(2),
        new_redis_credentials: true,
        ..NO_REFUSAL
    };
    shop.step("Secret of the Redis nodes deleted", allowed, async || {
        shop.lose_secret(&format!("{SALE}-redis")).await?;
        said_again(shop, "redis").await
    })
    .await
}

/// Nobody's token is valid any more, so these buyers are refused for good; others buy.
async fn a_lost_auth_secret(shop: &Shop) -> Result<()> {
    println!("==> Secret of the signing key deleted");
    shop.lose_secret(&format!("{SALE}-auth")).await?;
    said_again(shop, "auth").await?;
    shop.step("after another signing key", NO_REFUSAL, async || Ok(())).await
}

async fn said_again(shop: &Shop, secret: &str) -> Result<()> {
    let name = format!("{SALE}-{secret}");
    within(SOON, "the event SecretMadeAgain", async {
        loop {
            let events = shop.api::<Event>().list(&ListParams::default()).await?;
            let is_it = |event: &Event| {
                event.reason.as_deref() == Some("SecretMadeAgain")
                    && event.message.as_ref().is_some_and(|message| message.contains(&name))
            };
            if events.iter().any(is_it) {
                return Ok(());
            }
        }
    })
    .await
}
