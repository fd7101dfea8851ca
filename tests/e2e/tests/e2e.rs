//! What must hold on a real cluster (`cargo xtask test e2e`). `.config/nextest.toml` says which tests can run side by
//! side: sales would take the processors from each other.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use flashsale_tests::{
    GONE, READY, SALE, SOON, Shop, holds, objects, reconciliations, unbroken, within,
};
use futures::StreamExt;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Secret, Service};
use kube::ResourceExt;
use kube::api::{DeleteParams, DynamicObject, ListParams, PostParams};
use kube::runtime::watcher::{self, watch_object, watcher};
use serde_json::{Value, json};

const BLACK_FRIDAY: &str = "manifests/samples/black-friday.yaml";
const LOAD: &str = "manifests/load/v3-redlock.yaml";
const NODES: usize = 5;
/// How long an eviction may have to wait: for the last pod to start, and for one lease.
const EVICTION: Duration = Duration::from_mins(2);
/// How long a sale may take to wake.
const AWAKE: Duration = Duration::from_mins(1);
/// Long enough for an operator that loops to show it.
const IDLE: Duration = Duration::from_secs(15);

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test e2e"]
async fn a_sale_sells_exactly_its_stock_and_leaves_nothing_behind() -> Result<()> {
    Shop::open("life", async |shop| {
        shop.open_sale(&black_friday()?).await?;
        idle_sale_is_left_alone(shop).await?;

        shop.start_load(LOAD, None).await?.verdict().await?.must_pass()?;
        shop.await_status("the sale to be sold out", SOON, |status| {
            status["phase"] == "SoldOut" && status["totals"]["sold"] == 100
        })
        .await?;

        raised_stock_adds_the_difference(shop).await?;
        it_hibernates_and_wakes(shop).await?;
        its_orders_outlive_it(shop).await?;
        deleting_it_removes_its_children(shop).await
    })
    .await
}

async fn idle_sale_is_left_alone(shop: &Shop) -> Result<()> {
    // Once it knows the database, the operator records its id in the Secret, and the Secret's version in the status.
    within(SOON, "the database's id to be recorded", async {
        let name = format!("{SALE}-db");
        loop {
            let secret = shop.api::<Secret>().get_metadata(&name).await?;
            let sale = shop.sales().get(SALE).await?;
            let version = sale.data["status"]["secrets"][&name].as_str().map(str::to_owned);
            let is_recorded = secret.annotations().contains_key("flashsale.dev/database-id");
            if is_recorded && version == secret.resource_version() {
                return Ok(());
            }
        }
    })
    .await?;
    let before = reconciliations().await?;
    let ours = watcher::Config::default().fields(&format!("metadata.name={SALE}"));
    let mut changes = unbroken(watcher(shop.sales(), ours));
    // The first events are the state at the beginning.
    while !matches!(changes.next().await, Some(watcher::Event::InitDone)) {}
    let change = tokio::time::timeout(IDLE, changes.next()).await;
    ensure!(change.is_err(), "an idle sale was written: {change:?}");
    let passes = reconciliations().await? - before;
    ensure!(passes <= 3, "an idle sale was reconciled {passes} times in {IDLE:?}");
    Ok(())
}

async fn raised_stock_adds_the_difference(shop: &Shop) -> Result<()> {
    let mut products = black_friday()?.data["spec"]["products"].take();
    products[0]["stock"] = 110.into();
    shop.change_spec(json!({ "products": products })).await?;
    shop.await_status("ten more items", SOON, |status| {
        status["totals"] == json!({"stock": 110, "sold": 100, "remaining": 10})
    })
    .await?;
    for node in 0..NODES {
        let stock = shop.stock_on_node(node).await?;
        ensure!(stock == 10, "node {node} says {stock} are left, not 10");
    }
    Ok(())
}

fn is_as_before(status: &Value) -> bool {
    status["totals"] == json!({"stock": 110, "sold": 100, "remaining": 10})
}

async fn it_hibernates_and_wakes(shop: &Shop) -> Result<()> {
    shop.change_spec(json!({ "hibernation": { "mode": "Now" } })).await?;
    shop.await_status("the sale to hibernate", GONE, |status| {
        status["phase"] == "Hibernated" && holds(status, "Ready") && is_as_before(status)
    })
    .await?;
    for component in ["app", "redis", "database"] {
        let pods = shop.running_pods(component).await?;
        ensure!(pods.is_empty(), "{pods:?} run in a sale that hibernates");
    }
    let woken = Instant::now();
    shop.change_spec(json!({ "hibernation": { "mode": "Never" } })).await?;
    shop.await_status("the sale to be back", READY, |status| {
        status["phase"] == "Open" && holds(status, "Ready") && is_as_before(status)
    })
    .await?;
    let away = woken.elapsed();
    println!("the sale was back after {:.0} s", away.as_secs_f64());
    ensure!(away <= AWAKE, "the sale was back after {away:?}, and not within {AWAKE:?}");
    for node in 0..NODES {
        let stock = shop.stock_on_node(node).await?;
        ensure!(stock == 10, "node {node} says {stock} are left, not 10");
    }
    Ok(())
}

async fn its_orders_outlive_it(shop: &Shop) -> Result<()> {
    shop.sales().delete(SALE, &DeleteParams::default()).await?;
    shop.gone::<StatefulSet>().await?;
    shop.gone::<Pod>().await?;
    let retained = ListParams::default().labels(&format!("flashsale.dev/retained={SALE}"));
    within(SOON, "the claim and the Secret to be listed", async {
        let left = async || -> Result<_> {
            let claims = shop.api::<PersistentVolumeClaim>().list(&retained).await?;
            let secrets = shop.api::<Secret>().list(&retained).await?;
            Ok((claims.items.len(), secrets.items.len()))
        };
        while left().await? != (1, 1) {}
        Ok(())
    })
    .await?;

    let mut next = black_friday()?;
    next.data["spec"]["products"][0]["stock"] = 110.into();
    shop.sales().create(&PostParams::default(), &next).await?;
    shop.await_status("the sale to wait for a decision", SOON, |status| {
        status["conditions"][0]["reason"] == "DataRetained"
    })
    .await?;
    shop.change_spec(json!({ "database": { "adopt": SALE } })).await?;
    shop.await_ready().await?;
    shop.await_status("the orders to be there", SOON, is_as_before).await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test e2e"]
async fn a_database_has_one_sale_and_the_next_one_only_by_name() -> Result<()> {
    Shop::open("owner", async |shop| {
        let mut sale = black_friday()?;
        merge(&mut sale.data["spec"], &json!({"redis": {"nodes": 1}, "app": {"replicas": 1}}));
        shop.open_sale(&sale).await?;
        let named = |name: &str, database: Value| {
            let mut other = sale.clone();
            other.metadata.name = Some(name.to_owned());
            other.data["spec"]["database"] = database;
            other
        };
        let create = async |sale: DynamicObject| {
            shop.sales().create(&PostParams::default(), &sale).await.map(drop)
        };
        create(named("second", json!({"secretRef": {"name": format!("{SALE}-db")}}))).await?;
        await_ready_is(shop, "second", "False", "DatabaseClaimed").await?;
        let second = shop.sales().get("second").await?;
        let owner = format!("/{SALE}: give this sale a database of its own");
        let conditions = second.data["status"]["conditions"].to_string();
        ensure!(conditions.contains(&owner), "no {owner:?} in {conditions}");
        shop.sales().delete("second", &DeleteParams::default()).await?;

        shop.sales().delete(SALE, &DeleteParams::default()).await?;
        shop.gone::<StatefulSet>().await?;
        create(named("winter", json!({"adopt": SALE}))).await?;
        await_ready_is(shop, "winter", "True", "AllReady").await?;
        let winter = shop.sales().get("winter").await?;
        let totals = &winter.data["status"]["totals"];
        ensure!(*totals == json!({"stock": 100, "sold": 0, "remaining": 100}), "{totals}");
        Ok(())
    })
    .await
}

/// Waits until the condition `Ready` of a sale has this status and reason.
async fn await_ready_is(shop: &Shop, sale: &str, status: &str, reason: &str) -> Result<()> {
    let wanted = json!([status, reason]);
    within(READY, &format!("{sale} to be {reason}"), async {
        let mut changes = unbroken(watch_object(shop.sales(), sale));
        while let Some(sale) = changes.next().await {
            let status = sale.map(|sale| sale.data["status"]["conditions"].clone());
            let conditions = status.as_ref().and_then(Value::as_array).into_iter().flatten();
            let mut ready = conditions.filter(|it| it["type"] == "Ready");
            if ready.any(|it| json!([it["status"], it["reason"]]) == wanted) {
                break;
            }
        }
        Ok(())
    })
    .await
}

async fn deleting_it_removes_its_children(shop: &Shop) -> Result<()> {
    shop.change_spec(json!({ "database": { "deletionPolicy": "Delete" } })).await?;
    shop.await_ready().await?;
    shop.sales().delete(SALE, &DeleteParams::default()).await?;
    shop.gone::<StatefulSet>().await?;
    shop.gone::<Deployment>().await?;
    shop.gone::<Job>().await?;
    shop.gone::<Service>().await?;
    shop.gone::<Secret>().await?;
    shop.gone::<ConfigMap>().await?;
    shop.gone::<Pod>().await?;
    shop.gone::<PersistentVolumeClaim>().await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test e2e"]
async fn a_replica_that_is_killed_costs_no_item() -> Result<()> {
    Shop::open("replica", async |shop| {
        sale_with_a_fault(shop, async || {
            let replicas = shop.pods("app").await?;
            shop.kill(replicas.first().context("no replica")?).await
        })
        .await
    })
    .await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test e2e"]
async fn a_redis_node_that_is_lost_costs_no_item() -> Result<()> {
    Shop::open("node", async |shop| {
        sale_with_a_fault(shop, async || shop.kill(&format!("{SALE}-redis-2")).await).await?;
        // It comes back and learns what the others know.
        within(SOON, "the lost node to know that nothing is left", async {
            while shop.stock_on_node(2).await.ok() != Some(0) {}
            Ok(())
        })
        .await
    })
    .await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test e2e"]
async fn evictions_wait_until_the_last_node_votes() -> Result<()> {
    Shop::open("drain", async |shop| {
        let mut sale = black_friday()?;
        // Long enough that a pod runs well before its node votes.
        merge(&mut sale.data["spec"], &json!({"lock": {"leaseTime": "15s"}}));
        shop.open_sale(&sale).await?;
        for node in 0..NODES {
            shop.evict(&format!("{SALE}-redis-{node}"), EVICTION).await?;
            for other in (0..NODES).filter(|&other| other != node) {
                let votes = shop.votes(other).await?;
                ensure!(votes, "node {node} was evicted while node {other} did not vote");
            }
        }
        shop.await_ready().await
    })
    .await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test e2e"]
async fn a_frozen_redis_node_is_named_and_recovers() -> Result<()> {
    Shop::open("frozen", async |shop| {
        shop.open_sale(&black_friday()?).await?;
        // It still accepts connections.
        shop.signal(2, "STOP").await?;
        shop.await_status("the frozen node to be named", SOON, |status| {
            let conditions = status["conditions"].as_array();
            let redis = conditions.into_iter().flatten().find(|it| it["type"] == "RedisReady");
            let pod = format!("pod {SALE}-redis-2");
            redis.is_some_and(|redis| {
                redis["reason"] == "Unresponsive"
                    && redis["message"].as_str().is_some_and(|it| it.contains(&pod))
            })
        })
        .await?;
        shop.signal(2, "CONT").await?;
        shop.await_ready().await
    })
    .await
}

/// Runs a sale of 1200 items, does the harm once the first is sold, and wants all the rest as ever.
async fn sale_with_a_fault(shop: &Shop, harm: impl AsyncFnOnce() -> Result<()>) -> Result<()> {
    const STOCK: i64 = 1200;
    let mut sale = black_friday()?;
    sale.data["spec"]["products"][0]["stock"] = STOCK.into();
    shop.open_sale(&sale).await?;
    let load = shop.start_load(LOAD, Some("tests/e2e/fault.yaml")).await?;
    within(SOON, "the first item to be sold", async {
        while shop.stock_on_node(0).await? == STOCK {}
        Ok(())
    })
    .await?;
    harm().await?;
    let left = shop.stock_on_node(0).await?;
    ensure!(left > 0, "the sale was over before the harm was done; raise the stock of this test");
    load.verdict().await?.must_pass()?;
    shop.await_ready().await?;
    shop.await_status("the sale to be sold out", SOON, |status| {
        status["totals"] == json!({"stock": STOCK, "sold": STOCK, "remaining": 0})
    })
    .await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test e2e"]
async fn a_wrong_spec_is_refused_with_the_name_of_its_field() -> Result<()> {
    let product = |id: &str, stock: i64| json!({"id": id, "name": "Console", "stock": stock});
    let wrong: [(Value, &str); 6] = [
        (json!({"redis": {"nodes": 2}}), "spec.redis.nodes"),
        (json!({"products": [product("1", -1)]}), "spec.products[0].stock"),
        (json!({"products": [product("1", 1), product("1", 2)]}), "spec.products[1]"),
        (json!({"products": []}), "spec.products"),
        (
            json!({"startsAt": "2026-11-28T00:00:00Z", "endsAt": "2026-11-27T00:00:00Z"}),
            "endsAt must be after startsAt",
        ),
        (json!({"lock": {"waitTimeout": "0s"}}), "spec.lock.waitTimeout"),
    ];
    Shop::open("wrong", async |shop| {
        for (change, field) in &wrong {
            let mut sale = black_friday()?;
            merge(&mut sale.data["spec"], change);
            match shop.sales().create(&PostParams::default(), &sale).await {
                Ok(taken) => anyhow::bail!("{change} was taken as {}", taken.name_any()),
                Err(error) => {
                    let message = error.to_string();
                    ensure!(message.contains(field), "{change}: no {field:?} in {message:?}");
                }
            }
        }
        Ok(())
    })
    .await
}

/// The sale of the samples: 100 items, five Redis nodes, three replicas.
fn black_friday() -> Result<DynamicObject> {
    objects(BLACK_FRIDAY)?.pop().context("an empty manifest")
}

/// Puts the fields of `change` over those of `target`.
fn merge(target: &mut Value, change: &Value) {
    match (target, change) {
        (Value::Object(target), Value::Object(change)) => {
            for (name, value) in change {
                merge(target.entry(name).or_insert(Value::Null), value);
            }
        }
        (target, change) => *target = change.clone(),
    }
}
