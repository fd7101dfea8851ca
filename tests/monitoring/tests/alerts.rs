//! The chart's alerts on a real sale, with ranges and times of seconds: each fires for the fault that it names, and is
//! silent when the fault is mended.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use flashsale_monitoring::{Buyers, Live, NAMESPACE, SALE, Shop, eventually, spec};
use serde_json::json;
use testkit::{Authority, TlsFolder};

const SOON: Duration = Duration::from_mins(1);
/// What fires below.
const FIRE: [&str; 12] = [
    "FlashSaleCertificateExpires",
    "FlashSaleCertificateRefused",
    "FlashSaleDatabaseUnavailable",
    "FlashSaleLockNodesMissing",
    "FlashSaleNoReplicas",
    "FlashSaleOperatorGone",
    "FlashSaleOversold",
    "FlashSaleQuorumUnavailable",
    "FlashSaleStalled",
    "FlashSaleStoresDiffer",
    "FlashSaleStuck",
    "FlashSaleUndersold",
];
/// What can follow from these faults.
const MAY_FIRE: [&str; 4] = [
    "FlashSaleLockTimeouts",
    "FlashSaleLockWaitHigh",
    "FlashSaleLockLeasesLost",
    "FlashSaleStoreRepairsFail",
];

#[tokio::test]
async fn each_fault_fires_its_alert_and_its_end_silences_it() -> Result<()> {
    let mut shop = Shop::open(2).await?;
    let authority = Authority::new()?;
    // For one more day only.
    let tls = TlsFolder::new(&authority.issue("localhost", 1)?, authority.certificate())?;
    let file = |name: &str| tls.path(name).display().to_string();
    shop.add_replica(&[("TLS_CERT_FILE", file("tls.crt")), ("TLS_KEY_FILE", file("tls.key"))])?;
    shop.await_ready(&shop.replicas[2]).await?;
    let mut live = Live::start(shop).await?;

    certificates(&live, &tls, &authority).await?;
    for prometheus in &live.prometheus {
        let firing = prometheus.firing_names().await?;
        ensure!(firing.is_empty(), "nothing is wrong, and {firing:?} fire");
    }
    let buyers = Buyers::start(&live.shop).await?;
    quorum(&mut live).await?;
    database(&live).await?;
    buyers.stop().await;
    value_changed_by_hand(&live).await?;
    oversold(&live).await?;
    end_with_unpaid_orders(&live).await?;
    stalled(&live).await?;
    undersold(&live).await?;
    replicas_gone(&mut live).await?;
    operator_gone(&mut live).await?;
    nothing_else_fired(&live).await
}

/// One that expires soon, and files that cannot be used.
async fn certificates(live: &Live, tls: &TlsFolder, authority: &Authority) -> Result<()> {
    live.await_alert("FlashSaleCertificateExpires", true).await?;
    tls.replace(&authority.issue("localhost", 30)?, authority.certificate())?;
    live.await_alert("FlashSaleCertificateExpires", false).await?;
    let mut other_key = authority.issue("localhost", 30)?;
    other_key.key = authority.issue("localhost", 30)?.key;
    tls.replace(&other_key, authority.certificate())?;
    live.await_alert("FlashSaleCertificateRefused", true).await?;
    tls.replace(&authority.issue("localhost", 30)?, authority.certificate())?;
    live.await_alert("FlashSaleCertificateRefused", false).await
}

/// Three of five nodes stop, with buyers at work.
async fn quorum(live: &mut Live) -> Result<()> {
    for node in &mut live.shop.nodes[..3] {
        node.kill()?;
    }
    let alerts = ["FlashSaleQuorumUnavailable", "FlashSaleLockNodesMissing", "FlashSaleStuck"];
    for alert in alerts {
        live.await_alert(alert, true).await?;
    }
    for node in &mut live.shop.nodes[..3] {
        node.restart()?;
    }
    for alert in alerts {
        live.await_alert(alert, false).await?;
    }
    Ok(())
}

async fn database(live: &Live) -> Result<()> {
    live.shop.set_database_open(false).await?;
    live.await_alert("FlashSaleDatabaseUnavailable", true).await?;
    live.shop.set_database_open(true).await?;
    live.await_alert("FlashSaleDatabaseUnavailable", false).await
}

/// The alert says what kind of difference it was, and the value is repaired.
async fn value_changed_by_hand(live: &Live) -> Result<()> {
    // Nobody buys now: a sale would overwrite the value.
    let node = &live.shop.nodes[4];
    let before = node.get("stock:2")?;
    node.command("SET stock:2 777")?;
    live.await_alert("FlashSaleStoresDiffer", true).await?;
    for prometheus in &live.prometheus {
        let firing = prometheus.firing().await?;
        let kinds = firing.iter().filter_map(|labels| labels.get("kind"));
        ensure!(kinds.count() > 0, "no kind: {firing:?}");
    }
    eventually("the value is repaired", SOON, async || {
        let now = node.get("stock:2")?;
        ensure!(now == before, "{now:?}");
        Ok(())
    })
    .await?;
    live.await_alert("FlashSaleStoresDiffer", false).await
}

/// Somebody writes to the database.
async fn oversold(live: &Live) -> Result<()> {
    let shop = &live.shop;
    let more = "UPDATE orders SET quantity = quantity + 1000000 WHERE (id, line) = \
         (SELECT id, line FROM orders WHERE product_id = '1' AND state = 'confirmed' ORDER BY id LIMIT 1)";
    shop.sql(more).await?;
    live.await_alert("FlashSaleOversold", true).await?;
    shop.sql("UPDATE orders SET quantity = quantity - 1000000 WHERE quantity > 1000000").await?;
    live.await_alert("FlashSaleOversold", false).await
}

/// The sale ends with orders that nobody paid.
async fn end_with_unpaid_orders(live: &Live) -> Result<()> {
    let pending = live.shop.number("SELECT count(*) FROM orders WHERE state = 'pending'").await?;
    ensure!(pending > 0, "no order is pending");
    let mut ended = spec(&live.shop);
    ended["endsAt"] = json!("2026-01-01T00:00:00Z");
    live.cluster.apply_sale(SALE, &ended, "Ended").await
}

async fn undersold(live: &Live) -> Result<()> {
    live.await_alert("FlashSaleUndersold", true).await?;
    live.shop.sql("UPDATE orders SET state = 'paid' WHERE state = 'pending'").await?;
    live.await_alert("FlashSaleUndersold", false).await
}

/// A sale whose Service belongs to somebody else.
async fn stalled(live: &Live) -> Result<()> {
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "namespace": NAMESPACE, "name": "outlet" },
        "spec": { "ports": [{ "port": 80 }] },
    });
    live.cluster.apply(&service).await?;
    let spec = json!({ "products": [{ "id": "1", "stock": 10 }] });
    live.cluster.apply_sale("outlet", &spec, "Pending").await?;
    live.await_alert("FlashSaleStalled", true).await?;
    for prometheus in &live.prometheus {
        let firing = prometheus.firing().await?;
        let of = |labels: &&std::collections::BTreeMap<String, String>| {
            labels.get("alertname").is_some_and(|name| name == "FlashSaleStalled")
        };
        let labels = firing.iter().find(of).context("it fires")?;
        let sale = labels.get("flashsale").map(String::as_str);
        ensure!(sale == Some("outlet"), "{labels:?}");
    }
    Ok(())
}

async fn replicas_gone(live: &mut Live) -> Result<()> {
    for replica in &mut live.shop.replicas {
        replica.kill()?;
    }
    live.await_alert("FlashSaleNoReplicas", true).await?;
    for replica in &mut live.shop.replicas {
        replica.start_again()?;
    }
    live.await_alert("FlashSaleNoReplicas", false).await
}

async fn operator_gone(live: &mut Live) -> Result<()> {
    live.cluster.kill_operator()?;
    live.await_alert("FlashSaleOperatorGone", true).await?;
    live.cluster.start_operator()?;
    live.await_alert("FlashSaleOperatorGone", false).await
}

async fn nothing_else_fired(live: &Live) -> Result<()> {
    for prometheus in &live.prometheus {
        let fired = "count by (alertname) (count_over_time(ALERTS{alertstate=\"firing\"}[20m]))";
        let fired = prometheus.query(fired).await?;
        let fired: BTreeSet<&str> =
            fired.iter().filter_map(|it| Some(it.labels.get("alertname")?.as_str())).collect();
        let expected: BTreeSet<&str> = FIRE.into_iter().collect();
        let possible = expected.iter().copied().chain(MAY_FIRE).collect();
        ensure!(fired.is_superset(&expected), "not all: {fired:?}");
        ensure!(fired.is_subset(&possible), "others too: {fired:?}");
    }
    Ok(())
}
