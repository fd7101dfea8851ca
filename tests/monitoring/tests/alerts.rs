//! The chart's alerts on a real sale, with ranges and times of seconds: each fires for the fault that it names, and is
//! silent when the fault is mended.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use flashsale_monitoring::{
    Buyers, Live, NAMESPACE, Receiver, SALE, Shop, certificate_of_the_stores_expires,
    event_given_up, event_not_taken, events_taken, eventually, no_operator_leads, sale_unreadable,
    spec, webhook_settings,
};
use serde_json::json;
use testkit::{Authority, TlsFolder};

const SOON: Duration = Duration::from_mins(1);
/// What fires below.
const FIRE: [&str; 17] = [
    "FlashSaleCertificateExpires",
    "FlashSaleCertificateRefused",
    "FlashSaleDatabaseUnavailable",
    "FlashSaleLockNodesMissing",
    "FlashSaleLockTimeouts",
    "FlashSaleNoOperatorLeads",
    "FlashSaleNoReplicas",
    "FlashSaleOperatorGone",
    "FlashSaleOversold",
    "FlashSaleQuorumUnavailable",
    "FlashSaleStalled",
    "FlashSaleStoreRepairsFail",
    "FlashSaleStoresCertificateExpires",
    "FlashSaleStoresDiffer",
    "FlashSaleStuck",
    "FlashSaleUndersold",
    "FlashSaleUnreadable",
];
/// What fires because something stays open.
const STAYS_OPEN: [&str; 4] = [
    "FlashSaleEventsBehind",
    "FlashSaleEventsDead",
    "FlashSaleHoldsOverdue",
    "FlashSalePaymentsOpen",
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
    let began = Instant::now();

    certificates(&live, &tls, &authority).await?;
    fires_alone(&live, &[]).await?;
    let buyers = Buyers::start(&live.shop).await?;
    lock_held(&live).await?;
    quorum(&mut live).await?;
    database(&live).await?;
    buyers.stop().await;
    value_changed_by_hand(&live).await?;
    repairs_fail(&live).await?;
    oversold(&live).await?;
    end_with_unpaid_orders(&live).await?;
    stalled(&live).await?;
    certificate_of_the_stores_expires(&live, &authority).await?;
    sale_unreadable(&live).await?;
    undersold(&live).await?;
    replicas_gone(&mut live).await?;
    operator_gone(&mut live).await?;
    no_operator_leads(&mut live).await?;
    nothing_else_fired(&live, &FIRE, began).await
}

#[tokio::test]
async fn holds_payments_and_events_that_stay_open_fire_their_alerts_alone() -> Result<()> {
    let mut shop = Shop::open(0).await?;
    let webhook = testkit::free_port()?;
    shop.add_replica(&webhook_settings(webhook, "payment_failed"))?;
    shop.await_ready(&shop.replicas[0]).await?;
    let live = Live::start(shop).await?;
    // Until the operator was scraped for the first time, it seems to be gone.
    eventually("nothing fires", SOON, async || fires_alone(&live, &[]).await).await?;
    let began = Instant::now();
    hold_without_end(&live).await?;
    payment_for_nothing(&live).await?;
    events_behind(&live, webhook).await?;
    events_dead(&live, webhook).await?;
    nothing_else_fired(&live, &STAYS_OPEN, began).await
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

/// Somebody else holds the lock of a product for longer than buyers wait.
async fn lock_held(live: &Live) -> Result<()> {
    for prometheus in &live.prometheus {
        eventually("FlashSaleLockTimeouts fires", SOON, async || {
            for node in &live.shop.nodes {
                // No longer than a lease: a lock with more time left counts as expired.
                node.command("SET lock:stock:1 somebody PX 2000")?;
            }
            let firing = prometheus.firing_names().await?;
            ensure!(firing.iter().any(|name| name == "FlashSaleLockTimeouts"), "{firing:?}");
            Ok(())
        })
        .await?;
    }
    live.await_alert("FlashSaleLockTimeouts", false).await?;
    // All orders failed.
    live.await_alert("FlashSaleStuck", false).await
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
    await_stock(live, before.as_deref()).await?;
    live.await_alert("FlashSaleStoresDiffer", false).await
}

/// Waits until the fifth node has this value of the second product.
async fn await_stock(live: &Live, expected: Option<&str>) -> Result<()> {
    eventually("the value is repaired", SOON, async || {
        let now = live.shop.nodes[4].get("stock:2")?;
        ensure!(now.as_deref() == expected, "{now:?}");
        Ok(())
    })
    .await
}

/// A value that differs, while the database refuses the token of each repair.
async fn repairs_fail(live: &Live) -> Result<()> {
    let shop = &live.shop;
    let refuse = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS \
         $$ BEGIN RAISE EXCEPTION 'refused'; END $$; \
         CREATE TRIGGER refuse BEFORE UPDATE ON stock FOR EACH ROW \
         WHEN (NEW.product_id = '2') EXECUTE FUNCTION refuse()";
    shop.sql(refuse).await?;
    let node = &shop.nodes[4];
    let before = node.get("stock:2")?;
    node.command("SET stock:2 777")?;
    live.await_alert("FlashSaleStoreRepairsFail", true).await?;
    shop.sql("DROP TRIGGER refuse ON stock; DROP FUNCTION refuse()").await?;
    await_stock(live, before.as_deref()).await?;
    for alert in ["FlashSaleStoreRepairsFail", "FlashSaleStoresDiffer"] {
        live.await_alert(alert, false).await?;
    }
    Ok(())
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

/// The sale ends with orders that nobody paid, whose holds have no end as those of a release before holds.
async fn end_with_unpaid_orders(live: &Live) -> Result<()> {
    live.shop.place("late", "1").await?;
    let pending = live.shop.number("SELECT count(*) FROM orders WHERE state = 'pending'").await?;
    ensure!(pending > 0, "no order is pending");
    live.shop.sql("UPDATE orders SET expires_at_ms = NULL WHERE state = 'pending'").await?;
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

/// An unpaid order that the database keeps as it is after the end of its hold.
async fn hold_without_end(live: &Live) -> Result<()> {
    let shop = &live.shop;
    let keep = "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$; \
         CREATE TRIGGER keep BEFORE UPDATE ON orders FOR EACH ROW \
         WHEN (NEW.ended_as = 'expired') EXECUTE FUNCTION keep()";
    shop.sql(keep).await?;
    shop.place("ann", "1").await?;
    // Held for ten minutes.
    shop.sql("UPDATE orders SET expires_at_ms = expires_at_ms - 700000 WHERE state = 'pending'")
        .await?;
    live.await_alert("FlashSaleHoldsOverdue", true).await?;
    fires_alone(live, &["FlashSaleHoldsOverdue"]).await?;
    shop.sql("DROP TRIGGER keep ON orders; DROP FUNCTION keep()").await?;
    live.await_alert("FlashSaleHoldsOverdue", false).await?;
    let expired = shop.number("SELECT count(*) FROM orders WHERE ended_as = 'expired'").await?;
    ensure!(expired == 1, "{expired} orders are expired");
    Ok(())
}

/// A payment that fits no order, until an administrator has resolved it.
async fn payment_for_nothing(live: &Live) -> Result<()> {
    let event = "INSERT INTO payment_events (id, provider, event_id, kind, outcome, received_at_ms) \
         VALUES ('0192d7a4-3b4f-7c60-9c0a-0f4c3b2a1d00', 'stripe', 'evt_1', \
         'checkout.session.completed', 'unknown_order', 1764201600000)";
    live.shop.sql(event).await?;
    live.await_alert("FlashSalePaymentsOpen", true).await?;
    fires_alone(live, &["FlashSalePaymentsOpen"]).await?;
    let path = "/v1/admin/payments/0192d7a4-3b4f-7c60-9c0a-0f4c3b2a1d00/resolve";
    let resolved = live.shop.call(("admin", "admin"), "POST", path, json!({})).await?;
    ensure!(resolved.0 == 200, "{resolved:?}");
    live.await_alert("FlashSalePaymentsOpen", false).await
}

/// An event that the webhook, whose port is closed, has not taken for two minutes.
async fn events_behind(live: &Live, webhook: u16) -> Result<()> {
    let shop = &live.shop;
    event_not_taken(shop).await?;
    // As if it had waited.
    shop.sql("UPDATE failed_events SET at_ms = at_ms - 120000").await?;
    live.await_alert("FlashSaleEventsBehind", true).await?;
    fires_alone(live, &["FlashSaleEventsBehind"]).await?;
    let receiver = Receiver::open(webhook).await?;
    events_taken(shop).await?;
    live.await_alert("FlashSaleEventsBehind", false).await?;
    receiver.close().await;
    Ok(())
}

/// An event that is given up, until an administrator replays it.
async fn events_dead(live: &Live, webhook: u16) -> Result<()> {
    event_given_up(&live.shop).await?;
    live.await_alert("FlashSaleEventsDead", true).await?;
    fires_alone(live, &["FlashSaleEventsDead"]).await?;
    let receiver = Receiver::open(webhook).await?;
    let path = "/v1/admin/events/sinks/webhook/replay";
    let replayed = live.shop.call(("admin", "admin"), "POST", path, json!({})).await?;
    ensure!(replayed.1["replayed"] == 1, "{replayed:?}");
    live.await_alert("FlashSaleEventsDead", false).await?;
    events_taken(&live.shop).await?;
    receiver.close().await;
    Ok(())
}

/// What fires now is these alerts and no others.
async fn fires_alone(live: &Live, alerts: &[&str]) -> Result<()> {
    for prometheus in &live.prometheus {
        let firing = prometheus.firing_names().await?;
        ensure!(firing == alerts, "{firing:?} fire, not {alerts:?}");
    }
    Ok(())
}

/// All of these have fired since then.
async fn nothing_else_fired(live: &Live, expected: &[&str], since: Instant) -> Result<()> {
    let expected: BTreeSet<&str> = expected.iter().copied().collect();
    for prometheus in &live.prometheus {
        let range = since.elapsed().as_secs();
        let fired = format!(
            "count by (alertname) (count_over_time(ALERTS{{alertstate=\"firing\"}}[{range}s]))"
        );
        let fired = prometheus.query(&fired).await?;
        let fired: BTreeSet<&str> =
            fired.iter().filter_map(|it| Some(it.labels.get("alertname")?.as_str())).collect();
        let possible = expected.iter().copied().chain(MAY_FIRE).collect();
        ensure!(fired.is_superset(&expected), "not all: {fired:?}");
        ensure!(fired.is_subset(&possible), "others too: {fired:?}");
    }
    Ok(())
}
