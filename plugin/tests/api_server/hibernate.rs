//! `hibernate` and `resume`.

use flashsale_operator::crd::{FlashSale, HibernationMode};
use kube::Api;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};
use tokio::process::Child;

use crate::support::{Ran, Shop, condition, eventually, send_signal};

async fn mode(shop: &Shop) -> Option<HibernationMode> {
    let sales: Api<FlashSale> = shop.api();
    sales.get("black-friday").await.unwrap().spec.hibernation.map(|hibernation| hibernation.mode)
}

#[tokio::test]
async fn a_sale_hibernates_and_wakes_and_the_command_waits_for_both() {
    let shop = Shop::open("hibernate").await;
    shop.open_sale("black-friday").await;
    // All replicas of this sale are ready, whatever its phase.
    for phase in ["Open", "Degraded", "SoldOut", "Provisioning", "Failed"] {
        shop.report("black-friday", json!({ "phase": phase })).await;
        let refused = shop.run(&["hibernate", "black-friday"]).await;
        assert_eq!((refused.code, mode(&shop).await), (Some(2), None), "{refused:?}");
        assert!(refused.err.contains("--even-if-open"), "{refused:?}");
        assert!(refused.err.contains(&format!("may have buyers ({phase})")), "{refused:?}");
    }

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

#[tokio::test]
async fn a_sale_that_sells_hibernates_if_told_to_and_may_be_told_again() {
    let shop = Shop::open("hibernate-open").await;
    shop.open_sale("black-friday").await;
    for more in [&["--even-if-open"][..], &[]] {
        let arguments = [&["hibernate", "black-friday", "--wait=false"], more].concat();
        let ran = shop.run(&arguments).await;
        assert_eq!((ran.code, mode(&shop).await), (Some(0), Some(HibernationMode::Now)), "{ran:?}");
    }
}

/// The declared hibernation as it was written.
async fn declared(shop: &Shop) -> Value {
    let kind = ApiResource::erase::<FlashSale>(&());
    let sales: Api<DynamicObject> =
        Api::namespaced_with(shop.client.clone(), shop.namespace, &kind);
    sales.get("black-friday").await.unwrap().data["spec"]["hibernation"].clone()
}

/// A sale that hibernates by this declaration, and an export that has woken it.
async fn woken(shop: &Shop, hibernation: &Value) -> Child {
    let sales: Api<FlashSale> = shop.api();
    let spec = json!({ "endsAt": "2026-01-01T00:00:00Z", "hibernation": hibernation });
    let patch = Patch::Merge(json!({ "spec": spec }));
    sales.patch("black-friday", &PatchParams::default(), &patch).await.unwrap();
    let ready = condition("Ready", "True", "Hibernated", "no pods run");
    shop.report("black-friday", json!({ "phase": "Hibernated", "conditions": [ready] })).await;
    let exporting = shop.start(&["orders", "export", "black-friday", "--wake"]);
    eventually("the sale is woken", async || {
        (mode(shop).await == Some(HibernationMode::Never)).then_some(())
    })
    .await;
    exporting
}

/// A sale that does not wake.
async fn stall(shop: &Shop) {
    let stalled = json!({ "phase": "Provisioning", "conditions": [
        condition("Ready", "False", "ImagePullBackOff", "no image"),
        condition("Stalled", "True", "ImagePullBackOff", "cannot pull x:1"),
    ] });
    shop.report("black-friday", stalled).await;
}

#[tokio::test]
async fn a_sale_that_was_woken_for_an_export_hibernates_again_after_an_error() {
    let shop = Shop::open("wake-fails").await;
    shop.open_sale("black-friday").await;
    let now = json!({ "mode": "Now" });
    let exporting = woken(&shop, &now).await;
    stall(&shop).await;
    let ended = Ran::ended(exporting).await;
    assert_eq!((ended.code, declared(&shop).await), (Some(2), now.clone()), "{ended:?}");
    assert!(ended.err.contains("is stalled: cannot pull x:1"), "{ended:?}");

    // Awake, but without a Deployment to read the settings from.
    let after_end = json!({ "mode": "AfterEnd", "delay": "0s" });
    let exporting = woken(&shop, &after_end).await;
    let ready = condition("Ready", "True", "AllReady", "");
    shop.report("black-friday", json!({ "phase": "Ended", "conditions": [ready] })).await;
    let ended = Ran::ended(exporting).await;
    assert_eq!((ended.code, declared(&shop).await), (Some(2), after_end), "{ended:?}");
    assert!(ended.err.contains("has no Deployment yet"), "{ended:?}");

    // Nobody reads the progress.
    let mut exporting = woken(&shop, &json!({ "mode": "Now", "delay": null })).await;
    drop(exporting.stderr.take());
    stall(&shop).await;
    let ended = Ran::ended(exporting).await;
    assert_eq!((ended.code, declared(&shop).await), (Some(2), now), "{ended:?}");
}

#[tokio::test]
async fn an_interrupted_export_lets_the_sale_hibernate_again() {
    let shop = Shop::open("wake-interrupted").await;
    shop.open_sale("black-friday").await;
    for signal in ["-INT", "-TERM"] {
        let exporting = woken(&shop, &json!({ "mode": "Now" })).await;
        send_signal(&exporting, signal).await;
        let ended = Ran::ended(exporting).await;
        assert_eq!(ended.code, Some(2), "{ended:?}");
        assert_eq!(declared(&shop).await, json!({ "mode": "Now" }), "{ended:?}");
        assert!(ended.err.contains("interrupted"), "{ended:?}");
    }
}

#[tokio::test]
async fn a_hibernation_that_somebody_else_changes_during_an_export_stays() {
    let shop = Shop::open("wake-changed").await;
    shop.open_sale("black-friday").await;
    let exporting = woken(&shop, &json!({ "mode": "AfterEnd", "delay": "90m" })).await;
    let sales: Api<FlashSale> = shop.api();
    let now = json!({ "mode": "Now" });
    let patch = Patch::Merge(json!({ "spec": { "hibernation": now } }));
    sales.patch("black-friday", &PatchParams::default(), &patch).await.unwrap();
    send_signal(&exporting, "-INT").await;
    let ended = Ran::ended(exporting).await;
    assert_eq!((ended.code, declared(&shop).await), (Some(2), now), "{ended:?}");
}
