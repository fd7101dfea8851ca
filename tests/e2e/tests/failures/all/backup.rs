//! A backup of the sale's own database, and its restoration, by the commands of `docs/OPERATIONS.md`.

use anyhow::{Context, Result, ensure};
use flashsale_tests::{READY, SALE, Shop, condition, holds, unbroken, within};
use futures::StreamExt;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::Pod;
use kube::api::PostParams;
use kube::runtime::wait::conditions;
use kube::runtime::watcher::watch_object;
use serde_json::{Value, json};

use crate::sale::{NO_REFUSAL, sale};

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test e2e --all-failures"]
async fn a_lost_database_is_restored_from_a_backup() -> Result<()> {
    Shop::open("backup", async |shop| {
        shop.open_sale(&sale()?).await?;
        let dump = ["pg_dump", "-U", "flashsale", "-d", "flashsale", "--clean", "--if-exists"];
        let restore =
            "psql -U flashsale -d flashsale --quiet --single-transaction -v ON_ERROR_STOP=1";
        lose_and_restore(shop, async || shop.exec(&database(), &dump).await, restore).await
    })
    .await
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test e2e --all-failures"]
async fn a_lost_database_is_restored_from_a_scheduled_backup() -> Result<()> {
    Shop::open("scheduled", async |shop| {
        let mut sale = sale()?;
        // The test starts the dump, not the clock.
        sale.data["spec"]["database"]["backup"] = json!({ "schedule": "0 0 1 1 *" });
        shop.open_sale(&sale).await?;
        // Texts pass through the API server as they are; a dump does not.
        let restore = "base64 -d | pg_restore -U flashsale -d flashsale --clean --if-exists --single-transaction";
        let dump = async || scheduled_dump(shop).await;
        Box::pin(lose_and_restore(shop, dump, restore)).await
    })
    .await
}

/// Sells, takes a backup, loses the volume of the database, and restores it by this command, which reads the backup.
async fn lose_and_restore(
    shop: &Shop,
    backup: impl AsyncFnOnce() -> Result<String>,
    restore: &str,
) -> Result<()> {
    shop.step("orders before the backup", NO_REFUSAL, async || Ok(())).await?;
    let before = orders(shop).await?;
    ensure!(before > 0, "nothing was sold");
    let backup = backup().await?;

    println!("==> volume of the database lost");
    shop.lose_volume(&database()).await?;
    the_loss_is_named(shop).await?;

    shop.exec_with_input(&database(), &["sh", "-c", restore], &backup).await?;
    // By itself: nobody accepts a loss.
    shop.await_status("the sale to be ready again", READY, |status| {
        holds(status, "Ready") && holds(status, "DatabaseReady")
    })
    .await?;
    let after = orders(shop).await?;
    ensure!(after == before, "{after} orders, and {before} before the loss");
    shop.step("after the restoration", NO_REFUSAL, async || Ok(())).await
}

/// The only dump of a Job of the sale's `CronJob`, in base64, by a pod that mounts the claim of the dumps.
async fn scheduled_dump(shop: &Shop) -> Result<String> {
    let schedule = shop.api::<CronJob>().get(&format!("{SALE}-backup")).await?;
    let template = schedule.spec.context("a CronJob without a spec")?.job_template;
    let labels = template.metadata.and_then(|metadata| metadata.labels);
    let mut job = Job { spec: template.spec, ..Job::default() };
    job.metadata.name = Some("backup-now".to_owned());
    job.metadata.labels = labels;
    shop.api::<Job>().create(&PostParams::default(), &job).await?;
    let done = condition(shop.api::<Job>(), "backup-now", conditions::is_job_completed());
    within(READY, "the dump", done).await?;

    let server = shop.api::<StatefulSet>().get(&format!("{SALE}-db")).await?;
    let image =
        server.spec.and_then(|it| it.template.spec).map(|it| it.containers[0].image.clone());
    let reader: Pod = serde_json::from_value(reader(image.flatten().as_deref()))?;
    shop.api::<Pod>().create(&PostParams::default(), &reader).await?;
    let runs = condition(shop.api::<Pod>(), "backups", conditions::is_pod_running());
    within(READY, "the pod that reads the dump", runs).await?;
    let dump = format!("base64 /backups/{SALE}-????????T??????Z.dump");
    shop.exec("backups", &["sh", "-c", &dump]).await
}

/// The pod of `docs/OPERATIONS.md`.
fn reader(image: Option<&str>) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": "backups" },
        "spec": {
            "securityContext": {
                "runAsNonRoot": true,
                "runAsUser": 999,
                "runAsGroup": 999,
                "fsGroup": 999,
                "seccompProfile": { "type": "RuntimeDefault" },
            },
            "containers": [{
                "name": "shell",
                "image": image,
                "command": ["sleep", "3600"],
                "securityContext": {
                    "allowPrivilegeEscalation": false,
                    "capabilities": { "drop": ["ALL"] },
                },
                "volumeMounts": [{ "name": "backups", "mountPath": "/backups", "readOnly": true }],
            }],
            "volumes": [{
                "name": "backups",
                "persistentVolumeClaim": { "claimName": format!("{SALE}-backups") },
            }],
        },
    })
}

fn database() -> String {
    format!("{SALE}-db-0")
}

async fn orders(shop: &Shop) -> Result<u64> {
    let query = "SELECT count(*) FROM orders";
    let psql = ["psql", "-U", "flashsale", "-d", "flashsale", "-tAc", query];
    let answer = shop.exec(&database(), &psql).await?;
    answer.trim().parse().with_context(|| format!("psql: {answer}"))
}

async fn the_loss_is_named(shop: &Shop) -> Result<()> {
    within(READY, "the loss to be named", async {
        let mut changes = unbroken(watch_object(shop.sales(), SALE));
        while let Some(sale) = changes.next().await {
            let conditions = sale.map(|sale| sale.data["status"]["conditions"].clone());
            let conditions = conditions.as_ref().and_then(Value::as_array);
            if conditions.into_iter().flatten().any(|it| it["reason"] == "DataLost") {
                break;
            }
        }
        Ok(())
    })
    .await
}
