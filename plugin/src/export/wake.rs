//! A hibernating sale that is awake for an export.

use std::time::Duration;

use anyhow::Result;
use flashsale_operator::crd::FlashSale;
use kube::Api;
use kube::api::{ApiResource, DynamicObject};
use serde_json::{Value, json};

use crate::cluster::{Cluster, Explained as _};
use crate::hibernate;
use crate::interrupts::Interrupts;
use crate::terminal::note;

/// How long a sale may take to wake.
const AWAKE: Duration = Duration::from_mins(10);
/// The mode of a sale that is woken.
const NEVER: &str = "Never";

/// Does work while the sale is awake. Its hibernation is restored whatever comes of it, also after Ctrl-C.
pub async fn awake<T>(
    cluster: &Cluster,
    name: &str,
    work: impl AsyncFnOnce(Interrupts) -> Result<T>,
) -> Result<T> {
    let before = hibernation(cluster, name).await?;
    let interrupts = Interrupts::listen()?;
    let result = async {
        wake(cluster, name, &interrupts).await?;
        work(interrupts).await
    };
    let result = result.await;
    let Err(restoring) = restored(cluster, name, &before).await else { return result };
    let patch = json!({ "spec": { "hibernation": before } });
    let remedy = format!(
        "the sale {name} may stay awake, because its hibernation could not be restored ({restoring:#}): kubectl patch \
         fsale -n {} {name} --type merge -p '{patch}'",
        cluster.namespace
    );
    Err(match result {
        Ok(_) => anyhow::Error::msg(remedy),
        Err(error) => error.context(remedy),
    })
}

/// Wakes the sale, and waits until it is ready.
async fn wake(cluster: &Cluster, name: &str, interrupts: &Interrupts) -> Result<()> {
    // A signal does not cut this request: whether it took effect must be known when the hibernation is restored.
    let woken = hibernate::set(cluster, name, json!({ "mode": NEVER, "delay": null })).await?;
    let until = hibernate::until(cluster, woken, AWAKE, hibernate::is_awake);
    interrupts.or(Box::pin(until)).await.map(drop)
}

/// Restores the hibernation; a second Ctrl-C ends that.
async fn restored(cluster: &Cluster, name: &str, before: &Value) -> Result<()> {
    let interrupts = Interrupts::listen()?;
    interrupts.or(Box::pin(restore(cluster, name, before))).await
}

/// Restores the hibernation, unless the sale was not woken, or somebody else has changed its mode meanwhile.
async fn restore(cluster: &Cluster, name: &str, before: &Value) -> Result<()> {
    let now = hibernation(cluster, name).await?;
    if now["mode"] != NEVER || now == *before {
        return Ok(());
    }
    hibernate::set(cluster, name, before.clone()).await?;
    note(format_args!("the hibernation of the sale {name} is restored"));
    Ok(())
}

/// The declared hibernation as it was written; null: the sale has none, or was deleted. The typed one writes times in
/// another form, and not all of those are valid.
async fn hibernation(cluster: &Cluster, name: &str) -> Result<Value> {
    let kind = ApiResource::erase::<FlashSale>(&());
    let sales: Api<DynamicObject> =
        Api::namespaced_with(cluster.client.clone(), &cluster.namespace, &kind);
    let found = sales.get_opt(name).await.explained(cluster)?;
    Ok(found.map_or(Value::Null, |sale| sale.data["spec"]["hibernation"].clone()))
}
