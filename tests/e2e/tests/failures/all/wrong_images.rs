//! Images of the stores that cannot be pulled, and their correction. Kubernetes replaces a pod that never was ready, because
//! the StatefulSets are `Parallel`; nobody deletes it.

use std::time::Duration;

use anyhow::{Result, ensure};
use flashsale_tests::{Allowed, SALE, SOON, Shop, TEMPORARY};
use serde_json::{Value, json};

use super::NODES;
use crate::sale::NO_REFUSAL;

/// Its name says nothing of a version, so it is taken for a database too.
const ABSENT: &str = "localhost/absent:1";
/// Of a sale whose database does not start until somebody has looked and corrected it.
const CORRECTION: Duration = Duration::from_mins(2);

/// The node that gets it first does not start, so no other gets it.
pub async fn of_redis(shop: &Shop) -> Result<()> {
    shop.step("wrong redis image corrected", NO_REFUSAL, async || {
        let before = shop.uids("redis").await?;
        let change = |image: Value| json!({ "redis": { "image": image } });
        shop.change_spec(change(ABSENT.into())).await?;
        await_named(shop, "RedisReady", &format!("{SALE}-redis-4")).await?;
        shop.change_spec(change(Value::Null)).await?;
        shop.await_ready().await?;
        let after = shop.uids("redis").await?;
        let kept = before.iter().filter(|(name, uid)| after.get(*name) == Some(*uid)).count();
        ensure!(kept == NODES - 1, "{kept} nodes kept running: {before:?}, then {after:?}");
        ensure!(shop.votes(4).await?, "it is ready and does not vote");
        Ok(())
    })
    .await
}

/// Nothing is sold until the correction, and each buyer gets an answer then.
pub async fn of_the_database(shop: &Shop) -> Result<()> {
    let allowed = Allowed { refusals: TEMPORARY, pause: CORRECTION, ..NO_REFUSAL };
    shop.step("wrong database image corrected", allowed, async || {
        let change = |image: Value| json!({ "database": { "image": image } });
        shop.change_spec(change(ABSENT.into())).await?;
        await_named(shop, "DatabaseReady", &format!("{SALE}-db-0")).await?;
        shop.change_spec(change(Value::Null)).await.map(drop)
    })
    .await
}

/// Waits until the condition of a part names the pod and its image.
async fn await_named(shop: &Shop, condition: &str, pod: &str) -> Result<()> {
    let cause = format!("pod {pod}: image {ABSENT} can't be pulled");
    shop.await_status("the wrong image to be named", SOON * 2, |status| {
        let conditions = status["conditions"].as_array();
        let part = conditions.into_iter().flatten().find(|it| it["type"] == condition);
        part.is_some_and(|it| {
            it["status"] == "False"
                && it["reason"] == "ImagePullBackOff"
                && it["message"].as_str().is_some_and(|message| message.contains(&cause))
        })
    })
    .await
}
