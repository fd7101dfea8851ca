//! A sale that loses the volume of its database, and with it all orders, while buyers buy.

use anyhow::{Context, Result, ensure};
use flashsale_tests::{READY, SALE, SOON, Shop, TEMPORARY, holds, unbroken, within};
use futures::StreamExt;
use kube::api::{Patch, PatchParams};
use kube::runtime::watcher::watch_object;
use serde_json::json;

use super::NODES;
use crate::sale::{NO_REFUSAL, STOCK};

/// In the moment before an accepted database has its products.
const UNKNOWN: &str = "unknown_product";
/// What is left, and that together with what was sold.
const UNITS: &str = "SELECT available, available + (SELECT coalesce(sum(quantity), 0) FROM orders \
     WHERE product_id = '1' AND state NOT IN ('cancelled', 'payment_failed')) \
     FROM stock WHERE product_id = '1'";

/// The loss is said, and nothing is sold from an empty database until a person accepts it, whatever buyers try. Their own
/// verdict counts the orders that are gone, so it is not asked for.
pub async fn a_lost_database(shop: &Shop) -> Result<()> {
    let buyers = shop.start_buyers("volume of the database lost").await?;
    shop.lose_volume(&database()).await?;
    let lost = the_lost_id(shop).await?;
    let orders = orders(shop).await?;
    ensure!(orders == 0, "{orders} orders were taken into an empty database");
    let accept =
        json!({ "metadata": { "annotations": { "flashsale.dev/accept-data-loss": lost } } });
    shop.sales().patch(SALE, &PatchParams::default(), &Patch::Merge(accept)).await?;
    shop.await_ready().await?;
    let verdict = buyers.stop().await?;
    verdict.must_refuse_only_with(&[TEMPORARY, &[UNKNOWN]].concat())?;
    nothing_is_oversold(shop).await?;
    shop.step("after the loss of the database", NO_REFUSAL, async || Ok(())).await
}

fn database() -> String {
    format!("{SALE}-db-0")
}

/// Waits until the loss is said, and returns the id of the database that was lost.
async fn the_lost_id(shop: &Shop) -> Result<String> {
    let mut lost = None;
    within(READY, "the loss to be said", async {
        let mut changes = unbroken(watch_object(shop.sales(), SALE));
        while let Some(sale) = changes.next().await {
            let Some(sale) = sale else { continue };
            let status = &sale.data["status"];
            let conditions = status["conditions"].as_array();
            let mut said = conditions.into_iter().flatten().filter(|it| it["reason"] == "DataLost");
            if said.next().is_some() && !holds(status, "Ready") {
                lost = status["database"]["id"].as_str().map(str::to_owned);
                break;
            }
        }
        Ok(())
    })
    .await?;
    lost.context("no id of the lost database")
}

async fn psql(shop: &Shop, query: &str) -> Result<String> {
    let psql = ["psql", "-U", "flashsale", "-d", "flashsale", "-tAc", query];
    Ok(shop.exec(&database(), &psql).await?.trim().to_owned())
}

/// The number of orders; a database without tables has none.
async fn orders(shop: &Shop) -> Result<u64> {
    if psql(shop, "SELECT to_regclass('orders') IS NULL").await? == "t" {
        return Ok(0);
    }
    let answer = psql(shop, "SELECT count(*) FROM orders").await?;
    answer.parse().with_context(|| format!("psql: {answer}"))
}

/// What was sold and what is left are together the stock, and every node knows what is left.
async fn nothing_is_oversold(shop: &Shop) -> Result<()> {
    let answer = psql(shop, UNITS).await?;
    let (left, all) = answer.split_once('|').with_context(|| format!("psql: {answer}"))?;
    let (left, all): (i64, i64) = (left.parse()?, all.parse()?);
    ensure!(all == STOCK && left >= 0, "{left} are left, and {all} with the orders, of {STOCK}");
    // A node that missed the last value gets it within a minute.
    within(SOON * 2, "each node to know what is left", async {
        for node in 0..NODES {
            while shop.stock_on_node(node).await? != left {}
        }
        Ok(())
    })
    .await
}
