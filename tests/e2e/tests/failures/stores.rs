//! Changes of a sale's stores: `cargo xtask test e2e --all-failures`.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use flashsale_tests::{Allowed, GONE, SALE, SOON, Shop, Stores, TEMPORARY, holds, within};
use k8s_openapi::api::core::v1::Secret;
use kube::api::DeleteParams;
use serde_json::json;

use crate::sale::{NO_REFUSAL, sale};

const CHANGE: Duration = Duration::from_mins(5);
/// Of a sale whose only node starts again without its data.
const ALONE: Duration = Duration::from_mins(1);
/// The kubelet updates files of a Secret within two minutes, and a probe compares them every ten seconds.
const RENEWAL: Duration = Duration::from_mins(4);
/// The step in which the authority of the stores changes.
const RENEWED: &str = "certificates made from scratch";
const ASK_AGAIN: Duration = Duration::from_secs(1);

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test e2e --all-failures"]
async fn a_sale_gets_five_nodes_and_one_again() -> Result<()> {
    Shop::open("nodes", async |shop| {
        let mut sale = sale()?;
        sale.data["spec"]["redis"]["nodes"] = 1.into();
        shop.open_sale(&sale).await?;
        // The load reads the node that stays.
        let shop = shop.with_stores(Stores { nodes: 1, tls: false, database: None });
        the_only_node_is_lost(&shop).await?;
        shop.step("one redis node becomes five", NO_REFUSAL, async || {
            nodes(&shop, 5).await?;
            for node in 0..5 {
                ensure!(shop.votes(node).await?, "node {node} does not vote");
            }
            Ok(())
        })
        .await?;
        shop.step("a new node loses its volume", NO_REFUSAL, async || {
            shop.lose_volume(&format!("{SALE}-redis-3")).await
        })
        .await?;
        shop.step("five redis nodes become one", NO_REFUSAL, async || nodes(&shop, 1).await).await
    })
    .await
}

/// Nobody buys until it votes again. Its stock comes from the database.
async fn the_only_node_is_lost(shop: &Shop) -> Result<()> {
    let allowed = Allowed { refusals: TEMPORARY, pause: ALONE, ..NO_REFUSAL };
    shop.step("the only redis node loses its volume", allowed, async || {
        shop.lose_volume(&format!("{SALE}-redis-0")).await?;
        ensure!(shop.votes(0).await?, "it is ready and does not vote");
        Ok(())
    })
    .await
}

/// Declares the number of nodes, and waits until the lock and the pods have it.
async fn nodes(shop: &Shop, nodes: usize) -> Result<()> {
    shop.change_spec(json!({ "redis": { "nodes": nodes } })).await?;
    let what = format!("{nodes} nodes");
    shop.await_status(&what, CHANGE, |status| {
        holds(status, "Ready") && status["redis"]["members"] == nodes
    })
    .await?;
    within(GONE, &format!("{nodes} pods of Redis"), async {
        while shop.pods("redis").await?.len() != nodes {
            tokio::time::sleep(ASK_AGAIN).await;
        }
        Ok(())
    })
    .await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test e2e --all-failures"]
async fn a_sale_turns_tls_on_and_renews_its_certificates() -> Result<()> {
    Shop::open("tls", async |shop| {
        shop.open_sale(&sale()?).await?;
        shop.step("without tls", NO_REFUSAL, async || Ok(())).await?;
        let shop = turned_on(shop).await?;
        shop.step("a redis node restarts with tls", NO_REFUSAL, async || {
            let refused = shop.exec(&format!("{SALE}-redis-0"), &["redis-cli", "PING"]).await;
            let answers = refused.is_ok_and(|answer| answer.contains("PONG"));
            ensure!(!answers, "a node answers without TLS");
            shop.delete_and_await(&format!("{SALE}-redis-0")).await
        })
        .await?;
        shop.step(RENEWED, NO_REFUSAL, async || renewed(&shop).await).await
    })
    .await
}

/// With the pods of before and of after apart, as the field demands.
async fn turned_on(shop: &Shop) -> Result<Shop> {
    let managed = json!({ "stores": { "tls": { "mode": "Managed" } } });
    let refused = shop.change_spec(managed.clone()).await;
    let message = refused.err().context("TLS was turned on in a running sale")?.to_string();
    ensure!(message.contains("hibernation"), "the refusal does not name the remedy: {message}");
    shop.change_spec(json!({ "hibernation": { "mode": "Now" } })).await?;
    shop.await_status("hibernation", CHANGE, |status| status["phase"] == "Hibernated").await?;
    shop.change_spec(json!({ "hibernation": { "mode": "Never" }, "stores": managed["stores"] }))
        .await?;
    shop.await_ready_within(CHANGE).await?;
    Ok(shop.with_stores(Stores { nodes: 5, tls: true, database: None }))
}

/// Open connections continue, so no buyer notices.
async fn renewed(shop: &Shop) -> Result<()> {
    let secrets = shop.api::<Secret>();
    let name = format!("{SALE}-stores-tls");
    let old = secrets.get(&name).await?.data;
    secrets.delete(&name, &DeleteParams::default()).await?;
    within(SOON, "new certificates", async {
        loop {
            let new = secrets.get_opt(&name).await?;
            if new.is_some_and(|new| new.data != old) {
                return Ok(());
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
    })
    .await?;
    let new = secrets.get(&name).await?.data.context("an empty Secret")?;
    let certificate = String::from_utf8(new["tls.crt"].0.clone())?;
    // The probe lets the server read the file, and notes what it has read.
    within(RENEWAL, "each node to have the new certificate", async {
        for node in 0..5 {
            let pod = format!("{SALE}-redis-{node}");
            let file = ["cat", "/etc/flashsale-stores/tls.crt"];
            while shop.exec(&pod, &file).await? != certificate {
                tokio::time::sleep(ASK_AGAIN).await;
            }
        }
        Ok(())
    })
    .await?;
    // The load judges the nodes by the authorities in its own files.
    let authorities = String::from_utf8(new["ca.crt"].0.clone())?;
    let job = format!("load-{}", RENEWED.replace(' ', "-"));
    let loads = shop.pods("load").await?;
    let load = loads.into_iter().find(|pod| pod.starts_with(&job)).context("no load runs")?;
    within(RENEWAL, "the load to have the new authority", async {
        while shop.exec(&load, &["cat", "/etc/stores/ca.crt"]).await? != authorities {
            tokio::time::sleep(ASK_AGAIN).await;
        }
        Ok(())
    })
    .await?;
    // A node that restarts makes every client connect anew, with the new certificates.
    shop.delete_and_await(&format!("{SALE}-redis-1")).await
}
