//! A backup of the sale's own database, and its restoration, by the commands of `docs/OPERATIONS.md`.

use anyhow::{Context, Result, ensure};
use flashsale_tests::{READY, SALE, Shop, holds, unbroken, within};
use futures::StreamExt;
use kube::runtime::watcher::watch_object;

use crate::sale::{NO_REFUSAL, sale};

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test e2e --all-failures"]
async fn a_lost_database_is_restored_from_a_backup() -> Result<()> {
    Shop::open("backup", async |shop| {
        shop.open_sale(&sale()?).await?;
        shop.step("orders before the backup", NO_REFUSAL, async || Ok(())).await?;
        let before = orders(shop).await?;
        ensure!(before > 0, "nothing was sold");
        let dump = ["pg_dump", "-U", "flashsale", "-d", "flashsale", "--clean", "--if-exists"];
        let backup = shop.exec(&database(), &dump).await?;

        println!("==> volume of the database lost");
        shop.lose_volume(&database()).await?;
        the_loss_is_named(shop).await?;

        let restore = ["psql", "-U", "flashsale", "-d", "flashsale", "--quiet"];
        let options = ["--single-transaction", "-v", "ON_ERROR_STOP=1"];
        let restore = [restore.as_slice(), &options].concat();
        shop.exec_with_input(&database(), &restore, &backup).await?;
        // By itself: nobody accepts a loss.
        shop.await_status("the sale to be ready again", READY, |status| {
            holds(status, "Ready") && holds(status, "DatabaseReady")
        })
        .await?;
        let after = orders(shop).await?;
        ensure!(after == before, "{after} orders, and {before} before the loss");
        shop.step("after the restoration", NO_REFUSAL, async || Ok(())).await
    })
    .await
}

fn database() -> String {
    format!("{SALE}-db-0")
}

async fn orders(shop: &Shop) -> Result<u64> {
    let query = "SELECT count(*) FROM orders";
    let psql = ["psql", "-U", "flashsale", "-d", "flashsale", "-tAc", query];
    let answer = shop.exec(&database(), &psql).await?;
    answer.trim().parse().with_context(|| format!("psql: {answer}"))
}

async fn the_loss_is_named(shop: &Shop) -> Result<()> {
    within(READY, "the loss to be named", async {
        let mut changes = unbroken(watch_object(shop.sales(), SALE));
        while let Some(sale) = changes.next().await {
            let conditions = sale.map(|sale| sale.data["status"]["conditions"].clone());
            let conditions = conditions.as_ref().and_then(serde_json::Value::as_array);
            if conditions.into_iter().flatten().any(|it| it["reason"] == "DataLost") {
                break;
            }
        }
        Ok(())
    })
    .await
}
