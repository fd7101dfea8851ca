//! An upgrade of the operator with a running sale (`cargo xtask test e2e --upgrade-from REVISION`): the previous release is
//! installed, and this test upgrades it to the one of the checkout.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use flashsale_tests::{Allowed, SALE, Shop, objects};
use serde_json::json;
use tokio::process::Command;

/// What the sale does not notice: purchases go on, and no pod restarts.
#[tokio::test]
#[ignore = "needs the previous release on a cluster: cargo xtask test e2e --upgrade-from REVISION"]
async fn an_upgrade_of_the_operator_restarts_no_pod_of_a_running_sale() -> Result<()> {
    let upgrade = std::env::var("FLASHSALE_UPGRADE").context("FLASHSALE_UPGRADE is not set")?;
    Shop::open("upgrade", async |shop| {
        let manifest = "manifests/samples/black-friday.yaml";
        let mut sale = objects(manifest)?.pop().context("an empty manifest")?;
        let product = json!([{ "id": "1", "name": "Console", "stock": 1_000_000 }]);
        sale.data["spec"]["products"] = product;
        shop.open_sale(&sale).await?;
        let before = shop.operands().await?;
        shop.step("operator upgraded", Allowed::nothing(Duration::from_secs(3)), async || {
            let helm = Command::new("sh").args(["-c", &upgrade]).status().await?;
            ensure!(helm.success(), "{upgrade}: {helm}");
            // The new operator acts on a change, so it has seen the sale.
            let product = json!([{ "id": "1", "name": "Console", "stock": 1_000_001 }]);
            shop.change_spec(json!({ "products": product })).await?;
            shop.await_status("more stock", Duration::from_mins(1), |status| {
                status["totals"]["stock"] == 1_000_001
            })
            .await
        })
        .await?;
        let after = shop.operands().await?;
        ensure!(after == before, "pods of {SALE} restarted: {before:?}, then {after:?}");
        Ok(())
    })
    .await
}
