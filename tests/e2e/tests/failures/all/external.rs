//! A sale whose database is not its own. The server is that of another sale, which stands in for any PostgreSQL.

use anyhow::{Context, Result, ensure};
use flashsale_tests::{READY, Shop, Stores, within};
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::ResourceExt;
use kube::api::{DynamicObject, ListParams, PostParams};
use serde_json::json;

use crate::sale::{NO_REFUSAL, sale};

const SERVER: &str = "server";
const SECRET: &str = "shop-db";
const FIRST: &str = "the-first-password-of-the-shop";
const SECOND: &str = "the-second-password-of-the-shop";

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test e2e --all-failures"]
async fn the_password_of_an_external_database_is_rotated_without_a_refused_purchase() -> Result<()>
{
    Shop::open("external", async |shop| {
        a_server(shop).await?;
        let mut sale = sale()?;
        sale.data["spec"]["database"] = json!({ "secretRef": { "name": SECRET } });
        shop.open_sale(&sale).await?;
        let shop = shop.with_stores(Stores { nodes: 5, tls: false, database: Some(SECRET) });
        the_password(&shop).await
    })
    .await
}

/// A PostgreSQL with a database and a user for the shop, and the Secret that leads there.
async fn a_server(shop: &Shop) -> Result<()> {
    let mut server: DynamicObject = sale()?;
    server.metadata.name = Some(SERVER.to_owned());
    let spec = &mut server.data["spec"];
    spec["redis"]["nodes"] = 1.into();
    spec["app"]["replicas"] = 1.into();
    // The other sale is no part of this one.
    spec["networkPolicy"]["storesFrom"] = json!([{ "podSelector": {} }]);
    shop.sales().create(&PostParams::default(), &server).await?;
    let labels =
        format!("app.kubernetes.io/instance={SERVER},app.kubernetes.io/component=database");
    within(READY, "the server to run", async {
        loop {
            let pods = shop.api::<Pod>().list(&ListParams::default().labels(&labels)).await?;
            let ready = |pod: &Pod| {
                let conditions = pod.status.as_ref().and_then(|it| it.conditions.as_ref());
                let mut conditions = conditions.into_iter().flatten();
                conditions.any(|it| it.type_ == "Ready" && it.status == "True")
            };
            if pods.iter().any(ready) {
                return Ok(());
            }
        }
    })
    .await?;
    psql(shop, &format!("CREATE USER shop PASSWORD '{FIRST}'")).await?;
    psql(shop, "CREATE DATABASE shop OWNER shop").await?;
    let secret = json!({ "metadata": { "name": SECRET }, "stringData": { "uri": uri(FIRST) } });
    let secret: Secret = serde_json::from_value(secret)?;
    shop.api::<Secret>().create(&PostParams::default(), &secret).await?;
    Ok(())
}

fn uri(password: &str) -> String {
    format!("postgres://shop:{password}@{SERVER}-db:5432/shop")
}

async fn psql(shop: &Shop, statement: &str) -> Result<()> {
    let psql =
        ["psql", "-U", "flashsale", "-d", "flashsale", "-v", "ON_ERROR_STOP=1", "-c", statement];
    shop.exec(&format!("{SERVER}-db-0"), &psql).await.map(drop)
}

/// The server gets the new password first; open connections stay open.
async fn the_password(shop: &Shop) -> Result<()> {
    shop.step("external database password rotated", NO_REFUSAL, async || {
        let before = shop.uids("app").await?;
        psql(shop, &format!("ALTER USER shop PASSWORD '{SECOND}'")).await?;
        shop.rotate(SECRET, json!({ "stringData": { "uri": uri(SECOND) } })).await?;
        let after = shop.uids("app").await?;
        let kept = after.keys().find(|name| before.contains_key(*name));
        ensure!(kept.is_none(), "{kept:?} still has the former password");
        let found = shop.api::<Secret>().get(SECRET).await?;
        ensure!(found.owner_references().is_empty(), "the operator took the user's Secret");
        found.data.context("an empty Secret").map(drop)
    })
    .await
}
