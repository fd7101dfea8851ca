//! A cluster whose operator is gone.

use anyhow::{Context, Result};
use flashsale_tests::{Allowed, Operator, READY, SALE, SOON, Shop, within};
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::api::{DeleteParams, ListParams};

use crate::sale::{MOMENT, NO_REFUSAL, sale};

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test e2e --all-failures"]
async fn a_sale_outlives_the_operator_and_can_be_deleted_without_it() -> Result<()> {
    Shop::open("alone", async |shop| {
        shop.open_sale(&sale()?).await?;
        let operator = Operator::installed().await?;
        let gone = operator.scale(0).await;
        let alone = if gone.is_ok() { without_an_operator(shop).await } else { gone };
        operator.scale(1).await?;
        alone?;
        what_is_kept_is_listed(shop).await
    })
    .await
}

/// As somebody does who gives all of it up: first the operator, then the sale, then its namespace.
#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test e2e --all-failures"]
async fn a_sale_and_its_namespace_can_be_deleted_after_the_operator() -> Result<()> {
    let operator = Operator::installed().await?;
    // It ends when the namespace is gone.
    let gone = Shop::open("given-up", async |shop| {
        let mut sale = sale()?;
        let spec = &mut sale.data["spec"];
        spec["redis"]["nodes"] = 1.into();
        spec["app"]["replicas"] = 1.into();
        shop.open_sale(&sale).await?;
        operator.scale(0).await?;
        shop.sales().delete(SALE, &DeleteParams::default()).await?;
        Ok(())
    })
    .await;
    operator.scale(1).await?;
    gone
}

/// Nothing waits for the operator: a sale has no finalizer.
async fn without_an_operator(shop: &Shop) -> Result<()> {
    shop.step("the operator is gone", NO_REFUSAL, async || Ok(())).await?;
    let allowed = Allowed {
        refusals: &["connection_lost", "no_answer", "lock_timeout"],
        pause: MOMENT * 2,
        ..NO_REFUSAL
    };
    shop.step("app pod killed without an operator", allowed, async || {
        let before = shop.uids("app").await?;
        let first = before.keys().next().context("no replica")?.clone();
        shop.kill(&first).await?;
        let mut others = before.clone();
        others.remove(&first);
        // The other replica stays, and Kubernetes starts a second one.
        within(READY, "another replica", async {
            loop {
                let now = shop.uids("app").await?;
                if now.len() == before.len() && !now.contains_key(&first) {
                    return Ok(());
                }
            }
        })
        .await?;
        shop.await_other_replicas(&others, 1).await
    })
    .await?;
    shop.sales().delete(SALE, &DeleteParams::default()).await?;
    shop.gone::<StatefulSet>().await?;
    shop.gone::<Deployment>().await?;
    shop.gone::<Pod>().await
}

/// The operator that comes back finds the claim of a sale that was deleted in its absence.
async fn what_is_kept_is_listed(shop: &Shop) -> Result<()> {
    let retained = ListParams::default().labels(&format!("flashsale.dev/retained={SALE}"));
    within(SOON, "the claim to be listed", async {
        while shop.api::<PersistentVolumeClaim>().list(&retained).await?.items.is_empty() {}
        Ok(())
    })
    .await
}
