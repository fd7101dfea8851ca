//! Secrets that are rotated as `docs/OPERATIONS.md` says.

use anyhow::{Result, ensure};
use flashsale_tests::{Allowed, SALE, Shop};
use serde_json::{Value, json};

use crate::sale::{NO_REFUSAL, sale};

const NEW: &str = "another-secret-that-is-long-enough-for-a-key";

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test e2e"]
async fn secrets_are_rotated_without_a_refused_purchase() -> Result<()> {
    Shop::open("secrets", async |shop| {
        shop.open_sale(&sale()?).await?;
        the_signing_key(shop).await?;
        the_database_password(shop).await?;
        the_redis_password(shop).await
    })
    .await
}

/// Tokens of the first key stay valid until the last step, which comes an hour later.
async fn the_signing_key(shop: &Shop) -> Result<()> {
    let secret = format!("{SALE}-auth");
    shop.step("signing key rotated", NO_REFUSAL, async || {
        let old = shop.secret_value(&secret, "jwt-secret").await?;
        let set = |values: Value| json!({ "stringData": values });
        shop.rotate(&secret, set(json!({ "jwt-secret-accepted": NEW }))).await?;
        let swapped = json!({ "jwt-secret": NEW, "jwt-secret-accepted": old });
        shop.rotate(&secret, set(swapped)).await
    })
    .await?;
    shop.step("former signing key removed", NO_REFUSAL, async || {
        shop.rotate(&secret, json!({ "data": { "jwt-secret-accepted": null } })).await
    })
    .await
}

/// The server gets the new password first; open connections stay open.
async fn the_database_password(shop: &Shop) -> Result<()> {
    let secret = format!("{SALE}-db");
    let database = format!("{SALE}-db-0");
    shop.step("database password rotated", NO_REFUSAL, async || {
        let before = shop.uids("database").await?;
        let uri = shop.secret_value(&secret, "uri").await?;
        let old = shop.secret_value(&secret, "password").await?;
        let change = format!("ALTER USER flashsale PASSWORD '{NEW}'");
        let psql = ["psql", "-U", "flashsale", "-d", "flashsale", "-c", &change];
        let answer = shop.exec(&database, &psql).await?;
        ensure!(answer.trim() == "ALTER ROLE", "psql: {answer}");
        let uri = uri.replace(&old, NEW);
        shop.rotate(&secret, json!({ "stringData": { "uri": uri, "password": NEW } })).await?;
        ensure!(shop.uids("database").await? == before, "the database restarted");
        Ok(())
    })
    .await
}

/// The nodes accept both while the replicas change from one to the other.
async fn the_redis_password(shop: &Shop) -> Result<()> {
    let secret = format!("{SALE}-redis");
    let allowed = Allowed { new_redis_credentials: true, ..NO_REFUSAL };
    shop.step("redis password rotated", allowed, async || {
        let old = shop.secret_value(&secret, "password").await?;
        let set = |values: Value| json!({ "stringData": values });
        shop.rotate(&secret, set(json!({ "password-accepted": NEW }))).await?;
        shop.rotate(&secret, set(json!({ "password": NEW, "password-accepted": old }))).await?;
        shop.rotate(&secret, json!({ "data": { "password-accepted": null } })).await
    })
    .await
}
