//! A sale with a start and an end, and buyers who do not wait for either.

use std::time::Duration;

use anyhow::{Result, ensure};
use flashsale_tests::{SALE, SOON, Shop};
use jiff::{Timestamp, ToSpan};
use kube::api::PostParams;
use serde_json::json;

use crate::sale::sale;

const LOAD: &str = "manifests/load/sustained.yaml";
const SCENARIO: &str = "tests/e2e/clock.yaml";
const PREWARMED: usize = 3;
/// From now to the start. Two thirds of it are for the parts to be ready, and the last one for more replicas.
const UNTIL_START: Duration = Duration::from_mins(3);
/// Before the start, with the time to come again; after the end, for good.
const CLOSED: &str = "sale_not_open";

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test e2e --all-failures"]
async fn a_sale_is_prewarmed_before_its_start_and_sells_nothing_after_its_end() -> Result<()> {
    Shop::open("clock", async |shop| {
        let now = Timestamp::from_second(Timestamp::now().as_second())?;
        let start = now + UNTIL_START;
        let end = start + 20.seconds();
        let mut sale = sale()?;
        let spec = &mut sale.data["spec"];
        spec["startsAt"] = start.to_string().into();
        spec["endsAt"] = end.to_string().into();
        spec["app"]["replicas"] = 1.into();
        spec["app"]["prewarm"] = json!({ "replicas": PREWARMED, "before": "1m", "after": "10m" });
        shop.sales().create(&PostParams::default(), &sale).await?;
        shop.await_status("the sale to wait for its start", UNTIL_START, |status| {
            status["phase"] == "Scheduled" && status["app"]["desired"] == 1
        })
        .await?;
        let load = shop.start_load(LOAD, Some(SCENARIO)).await?;
        shop.await_status("more replicas before the start", UNTIL_START, |status| {
            status["app"]["ready"] == PREWARMED
        })
        .await?;
        let ready = Timestamp::now();
        ensure!(
            ready < start,
            "more replicas were ready at {ready}, and the sale began at {start}"
        );

        let verdict = load.verdict().await?;
        let late = verdict.must_refuse_the_others_with(CLOSED)?;
        ensure!(late > 0, "nobody came after {end}");
        let sold = verdict.sold()?;
        ensure!(sold > 0, "nothing was sold between {start} and {end}");
        shop.await_status("the end, and the declared replicas", SOON * 2, |status| {
            let (totals, app) = (&status["totals"], &status["app"]);
            status["phase"] == "Ended" && totals["sold"] == sold && app["replicas"] == 1
        })
        .await?;
        let found = shop.sales().get(SALE).await?;
        let totals = &found.data["status"]["totals"];
        println!("    {sold} sold between {start} and {end}, {late} came later: {totals}");
        Ok(())
    })
    .await
}
