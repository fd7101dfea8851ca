//! `hibernate` and `resume`.

use flashsale_operator::crd::{FlashSale, HibernationMode};
use kube::Api;
use serde_json::json;

use crate::support::{Ran, Shop, condition, eventually};

async fn mode(shop: &Shop) -> Option<HibernationMode> {
    let sales: Api<FlashSale> = shop.api();
    sales.get("black-friday").await.unwrap().spec.hibernation.map(|hibernation| hibernation.mode)
}

#[tokio::test]
async fn a_sale_hibernates_and_wakes_and_the_command_waits_for_both() {
    let shop = Shop::open("hibernate").await;
    shop.open_sale("black-friday").await;
    let refused = shop.run(&["hibernate", "black-friday"]).await;
    assert_eq!((refused.code, mode(&shop).await), (Some(2), None), "{refused:?}");
    assert!(refused.err.contains("--even-if-open"), "{refused:?}");

    shop.report("black-friday", json!({ "phase": "Ended" })).await;
    let hibernating = shop.start(&["hibernate", "black-friday"]);
    eventually("the spec says so", async || {
        (mode(&shop).await == Some(HibernationMode::Now)).then_some(())
    })
    .await;
    let ready =
        |status: &str, reason: &str| json!([condition("Ready", status, reason, "pods end")]);
    let going = json!({ "phase": "Ended", "conditions": ready("False", "Hibernating") });
    shop.report("black-friday", going).await;
    let asleep = json!({ "phase": "Hibernated", "conditions": ready("True", "Hibernated") });
    shop.report("black-friday", asleep).await;
    let ended = Ran::ended(hibernating).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.err.contains("Hibernated"), "{ended:?}");

    let at_once = shop.run(&["resume", "black-friday", "--wait=false"]).await;
    assert_eq!(
        (at_once.code, mode(&shop).await),
        (Some(0), Some(HibernationMode::Never)),
        "{at_once:?}"
    );

    let waking = shop.start(&["resume", "black-friday"]);
    let stalled = json!({ "phase": "Provisioning", "conditions": [
        condition("Ready", "False", "ImagePullBackOff", "no image"),
        condition("Stalled", "True", "ImagePullBackOff", "cannot pull x:1"),
    ] });
    shop.report("black-friday", stalled).await;
    let ended = Ran::ended(waking).await;
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.err.contains("is stalled: cannot pull x:1"), "{ended:?}");

    let late = shop.report("black-friday", json!({ "conditions": ready("False", "Waking") }));
    late.await;
    let ended = shop.run(&["resume", "black-friday", "--timeout", "1s"]).await;
    assert!(
        ended.code == Some(2) && ended.err.contains("not within 1 s: Provisioning: Waking"),
        "{ended:?}"
    );
}
