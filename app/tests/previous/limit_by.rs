//! A sale that limits persons: the release before, which would sell by account, is kept out as long as it does.

use serde_json::{Value, json};

use super::releases::Release::{self, Before, This};
use super::releases::Releases;
use crate::common::{Database, eventually};

const CLAIM: &str = "person";
const REASON: &str = "needs an app that knows migration 28";

/// An account of the person buys, or asks for more than anybody may have.
async fn buys(releases: &Releases, release: Release, account: &str, units: i64) -> (u16, Value) {
    let token = releases.sale.buyer_with(account, &json!({CLAIM: "p1"})).token;
    let body = json!({"product_id": "1", "quantity": units});
    releases.ask(release, &token, ("POST", "/v1/purchases"), &body).await
}

/// Waits until this release asks for the claim.
async fn persons_are_limited(releases: &Releases) {
    let token = releases.sale.buyer("nobody").token;
    // More than anybody may have, so nothing is sold before.
    let body = json!({"product_id": "1", "quantity": 3});
    eventually("persons are limited", async || {
        let purchase = ("POST", "/v1/purchases");
        releases.ask(This, &token, purchase, &body).await.1["code"] == "limit_claim_missing"
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_release_before_sells_nothing_while_persons_are_limited() {
    let releases = Releases::start(Database::Postgres, "Locked", 5).await;
    let ledger = releases.sale.ledger();
    ledger.set_limit_claim(Some(CLAIM)).await.unwrap();
    persons_are_limited(&releases).await;
    eventually("the release before is unready", async || {
        let (status, text) = releases.readiness(Before).await;
        status == 503 && text.contains(REASON)
    })
    .await;
    assert_eq!(releases.readiness(This).await.0, 200);
    for account in ["ann", "anna"] {
        let refused = buys(&releases, Before, account, 1).await;
        assert_eq!((refused.0, &refused.1["code"]), (503, &json!("database_unavailable")));
        assert_eq!(buys(&releases, This, account, 1).await.0, 201, "{account}");
    }
    let full = buys(&releases, This, "annie", 1).await;
    assert_eq!((full.0, &full.1["code"]), (409, &json!("limit_reached")));
    releases.left(3).await;

    // The image can be rolled back once accounts are limited again.
    ledger.set_limit_claim(None).await.unwrap();
    eventually("the release before is ready", async || releases.readiness(Before).await.0 == 200)
        .await;
}

/// The same if a sale with a claim asks for no app that knows it.
#[tokio::test(flavor = "multi_thread")]
async fn without_the_needed_migration_a_person_buys_more_at_the_release_before() {
    let releases = Releases::start(Database::Postgres, "Locked", 5).await;
    let claim = format!("UPDATE installation SET limit_claim = '{CLAIM}'");
    assert_eq!(releases.sale.execute(&claim).await, 1);
    persons_are_limited(&releases).await;
    assert_eq!(buys(&releases, This, "ann", 2).await.0, 201);
    let full = buys(&releases, This, "anna", 1).await;
    assert_eq!((full.0, &full.1["code"]), (409, &json!("limit_reached")));
    assert_eq!(buys(&releases, Before, "anna", 2).await.0, 201, "four of two");
    releases.left(1).await;
}
