//! The sale of these tests, and what a step may cost its buyers.

use std::time::Duration;

use anyhow::{Context, Result};
use flashsale_tests::{Allowed, Shop, objects};
use kube::api::DynamicObject;
use serde_json::{Value, json};

/// More than all steps sell.
pub const STOCK: i64 = 1_000_000;
pub const REPLICAS: usize = 2;
/// Of a sale that goes on: one lease and some retries.
pub const MOMENT: Duration = Duration::from_secs(5);
/// Of a sale whose database starts again.
pub const RESTART: Duration = Duration::from_secs(30);

/// With a quorum and a database, each attempt succeeds.
pub const NO_REFUSAL: Allowed<'_> = Allowed::nothing(MOMENT);

/// The sale of the samples with more items, and with a lease that lets a restarted node vote after two seconds.
pub fn sale() -> Result<DynamicObject> {
    let manifest = "manifests/samples/black-friday.yaml";
    let mut sale = objects(manifest)?.pop().context("an empty manifest")?;
    let spec = &mut sale.data["spec"];
    spec["products"] = products(STOCK);
    spec["lock"]["leaseTime"] = "2s".into();
    // A machine that starts five pods is slow, and a slow vote is no failure of these tests.
    spec["lock"]["nodeTimeout"] = "250ms".into();
    spec["app"]["replicas"] = REPLICAS.into();
    Ok(sale)
}

/// The product with this stock.
pub fn products(stock: i64) -> Value {
    json!([{ "id": "1", "name": "Console", "stock": stock }])
}

/// Waits until the stock is as declared.
pub async fn await_stock(shop: &Shop, stock: i64) -> Result<()> {
    let what = format!("a stock of {stock}");
    shop.await_status(&what, flashsale_tests::SOON, |status| status["totals"]["stock"] == stock)
        .await
}
