//! Every panel of the dashboards, on data of a real sale under load, in Prometheus 2 and 3.
//!
//! With `FLASHSALE_DASHBOARD_DATA`, a folder, the data of half a minute are left there for `tests/monitoring/draw.py`.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use flashsale_monitoring::{
    Buyers, Dashboard, Live, NAMESPACE, Prometheus, Receiver, SALE, Shop, Variables, Version,
    event_given_up, event_not_taken, events_taken, eventually, webhook_settings,
};
use serde_json::json;

const SOON: Duration = Duration::from_mins(1);
/// Seconds of data that are left for pictures, and the number of scrapes in them.
const RECORDED: (u32, u32) = (30, 60);
/// Queries of the three dashboards: fewer were not read.
const QUERIES: usize = 90;
/// Histograms that are native where Prometheus takes that.
const NATIVE: [&str; 5] = [
    "flashsale_http_request_seconds",
    "flashsale_lock_hold_seconds",
    "flashsale_lock_node_seconds",
    "flashsale_lock_wait_seconds",
    "flashsale_password_hash_seconds",
];
/// What was sold, by the database.
const UNITS: &str = "SELECT CAST(sum(declared - available) AS BIGINT) FROM stock";
/// Panels whose queries all have values above 0 while the receiver of events is closed.
const WITHOUT_RECEIVER: [&str; 4] =
    ["Failed attempts", "Events pending", "Oldest pending event", "Events given up"];
/// Panels whose queries all have values above 0 while buyers order, pay and wait.
const AT_WORK: [&str; 13] = [
    "Orders paid",
    "Open holds",
    "Waiting buyers",
    "Payments to look at",
    "Orders by outcome",
    "Orders that hold units",
    "Holds expired, waiting buyers served",
    "Payment events",
    "Payments that need an administrator",
    "Deliveries",
    "Time until delivery, P99",
    "Deliveries by sink",
    "Time until delivery",
];
/// Panels that show what the database has.
const BY_DATABASE: [(&str, &str); 4] = [
    ("Open holds", "SELECT count(DISTINCT id) FROM orders WHERE state = 'pending'"),
    ("Waiting buyers", "SELECT count(*) FROM waitlist"),
    (
        "Payments to look at",
        "SELECT count(*) FROM payment_events \
         WHERE outcome NOT IN ('applied', 'ignored') AND resolved_at_ms IS NULL",
    ),
    ("Events given up", "SELECT count(*) FROM failed_events WHERE dead_at_ms IS NOT NULL"),
];

#[tokio::test]
async fn every_panel_has_data_of_its_unit() -> Result<()> {
    let webhook = testkit::free_port()?;
    let mut live = Live::start(open_shop(webhook).await?).await?;
    stalled_sale(&live).await?;
    let dashboards = Dashboard::all()?;
    let sale = dashboards.iter().find(|it| it.name == "sale").context("no dashboard sale")?;
    event_given_up(&live.shop).await?;
    event_not_taken(&live.shop).await?;
    are_above_zero(&live, sale, &WITHOUT_RECEIVER).await?;
    let receiver = Receiver::open(webhook).await?;
    events_taken(&live.shop).await?;
    let buyers = Buyers::start_with_checkout(&live.shop).await?;
    let queries: usize = dashboards.iter().map(|it| it.queries().count()).sum();
    ensure!(queries >= QUERIES, "{queries} queries");
    for prometheus in &live.prometheus {
        for dashboard in &dashboards {
            let what = format!("{} in Prometheus {}", dashboard.name, prometheus.version);
            eventually(&what, SOON, async || {
                let variables = variables(dashboard, prometheus).await?;
                let faults = dashboard.faults(prometheus, &variables).await?;
                ensure!(faults.is_empty(), "{faults:#?}");
                Ok(())
            })
            .await?;
        }
        println!("Prometheus {}: {queries} queries", prometheus.build().await?);
        histograms_are_of_the_kind(prometheus).await?;
    }
    are_above_zero(&live, sale, &AT_WORK).await?;
    if let Some(folder) = std::env::var_os("FLASHSALE_DASHBOARD_DATA").map(PathBuf::from) {
        record(&live, &dashboards, &folder).await?;
    }
    buyers.stop().await;
    short_holds_end(&live.shop).await?;
    for prometheus in &live.prometheus {
        numbers_are_true(&live, sale, prometheus).await?;
    }
    sold_stays_true_over_restarts(&mut live, sale).await?;
    let operator = dashboards.iter().find(|it| it.name == "operator");
    nothing_left_is_shown(&mut live, sale, operator.context("no dashboard operator")?).await?;
    receiver.close().await;
    Ok(())
}

/// A sale of two replicas that sends events to a receiver at this port, once it is open.
async fn open_shop(webhook: u16) -> Result<Shop> {
    let mut shop = Shop::open(0).await?;
    for _ in 0..2 {
        shop.add_replica(&webhook_settings(webhook, "paid,payment_failed,expired"))?;
    }
    for replica in &shop.replicas {
        shop.await_ready(replica).await?;
    }
    Ok(shop)
}

async fn variables(dashboard: &Dashboard, prometheus: &Prometheus) -> Result<Variables> {
    dashboard.variables(prometheus, &[NAMESPACE, SALE]).await
}

/// A second sale, whose Service belongs to somebody else.
async fn stalled_sale(live: &Live) -> Result<()> {
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "namespace": NAMESPACE, "name": "outlet" },
        "spec": { "ports": [{ "port": 80 }] },
    });
    live.cluster.apply(&service).await?;
    let spec = json!({ "products": [{ "id": "1", "stock": 10 }] });
    live.cluster.apply_sale("outlet", &spec, "Pending").await
}

/// Prometheus 2 has classic buckets here and Prometheus 3 native ones, so both halves of the queries are evaluated.
async fn histograms_are_of_the_kind(prometheus: &Prometheus) -> Result<()> {
    let takes_native = prometheus.version == Version::Three;
    for name in NATIVE {
        let classic = prometheus.query(&format!("{name}_bucket")).await?.len();
        ensure!((classic == 0) == takes_native, "{name} has {classic} classic buckets");
        if takes_native {
            let native = prometheus.query(&format!("histogram_count({name})")).await?;
            ensure!(!native.is_empty(), "{name} is no native histogram");
        }
    }
    Ok(())
}

/// Waits until each query of these panels has a value above 0.
async fn are_above_zero(live: &Live, sale: &Dashboard, titles: &[&str]) -> Result<()> {
    for prometheus in &live.prometheus {
        let variables = variables(sale, prometheus).await?;
        for title in titles {
            let of_panel = sale.queries().filter(|(panel, _)| panel.title == *title);
            let targets: Vec<_> = of_panel.map(|(_, target)| target).collect();
            ensure!(!targets.is_empty(), "no panel {title}");
            for target in targets {
                let expression = variables.fill(&target.expr);
                eventually(&format!("{title} ({}) is above 0", target.legend), SOON, async || {
                    let samples = prometheus.query(&expression).await?;
                    let is_above = samples.iter().any(|sample| sample.value > 0.0);
                    ensure!(is_above, "Prometheus {}: {samples:?}", prometheus.version);
                    Ok(())
                })
                .await?;
            }
        }
    }
    Ok(())
}

async fn record(live: &Live, dashboards: &[Dashboard], folder: &std::path::Path) -> Result<()> {
    let newest = live.prometheus.last().context("no Prometheus")?;
    let (seconds, scrapes) = RECORDED;
    let data =
        format!("min(count_over_time(flashsale_http_connections[{seconds}s:500ms] offset 1s))");
    eventually("half a minute of data", SOON, async || {
        let seen = newest.value(&data).await?;
        ensure!(seen >= f64::from(scrapes) - 2.0, "{seen} of {scrapes} scrapes");
        Ok(())
    })
    .await?;
    for dashboard in dashboards {
        let variables = variables(dashboard, newest).await?;
        dashboard.record(newest, &variables, seconds, folder).await?;
    }
    Ok(())
}

/// Waits until all orders of the product for which buyers wait are paid or over: no unit moves after that.
async fn short_holds_end(shop: &Shop) -> Result<()> {
    let pending = "SELECT count(*) FROM orders WHERE product_id = '2' AND state = 'pending'";
    eventually("the holds of product 2 end", SOON, async || {
        let pending = shop.number(pending).await?;
        ensure!(pending == 0, "{pending} are open");
        Ok(())
    })
    .await
}

/// What panels say is what the database and the system say.
async fn numbers_are_true(live: &Live, sale: &Dashboard, prometheus: &Prometheus) -> Result<()> {
    let shop = &live.shop;
    let variables = variables(sale, prometheus).await?;
    let query = |title: &str| query(sale, &variables, title);
    let units = shop.number(UNITS).await?;
    ensure!(units > 0, "nothing was sold");
    let pending = shop
        .number("SELECT CAST(sum(quantity) AS BIGINT) FROM orders WHERE state = 'pending'")
        .await?;
    ensure!(pending > 0, "no order is pending");
    let by_operator = format!(
        "flashsale_operator_sale_units{{namespace=\"{NAMESPACE}\",flashsale=\"{SALE}\",count=\"sold\"}}"
    );
    for (expression, wanted) in [
        (query("Sold")?, units),
        (format!("sum({})", query("Units of orders")?), units),
        (
            format!("({})", query("Units of orders")?)
                + " and on (state) label_replace(vector(1), \"state\", \"pending\", \"\", \"\")",
            pending,
        ),
        (query("Replicas")?, 2),
        (query("Database")?, 1),
        (by_operator, units),
    ] {
        shows(prometheus, &expression, wanted).await?;
    }
    for (title, count) in BY_DATABASE {
        let wanted = shop.number(count).await?;
        ensure!(wanted > 0, "{title}: the database has none");
        shows(prometheus, &query(title)?, wanted).await?;
    }
    // Between a scrape and a look at the system, a process may still free memory.
    let memory = query("Memory")?;
    eventually("memory and processor time are those of the system", SOON, async || {
        processes_are_true(live, &memory, prometheus).await
    })
    .await
}

/// The first query of a panel.
fn query(dashboard: &Dashboard, variables: &Variables, title: &str) -> Result<String> {
    let found = dashboard.queries().find(|(panel, _)| panel.title == title);
    let (_, target) = found.with_context(|| format!("no panel {title}"))?;
    Ok(variables.fill(&target.expr))
}

/// Waits until an expression has this value.
async fn shows(prometheus: &Prometheus, expression: &str, wanted: i64) -> Result<()> {
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let wanted = wanted as f64;
    eventually(expression, SOON, async || {
        let seen = prometheus.value(expression).await?;
        ensure!((seen - wanted).abs() < 0.5, "{seen}, not {wanted}");
        Ok(())
    })
    .await
}

/// One replica after the other is killed and starts again: at no moment the panel has another number, and in the end it
/// is that of replicas that have sold nothing since their start.
async fn sold_stays_true_over_restarts(live: &mut Live, sale: &Dashboard) -> Result<()> {
    let units = live.shop.number(UNITS).await?;
    let began = Instant::now();
    for index in 0..live.shop.replicas.len() {
        let instance = live.shop.replicas[index].internal();
        live.shop.replicas[index].kill()?;
        for prometheus in &live.prometheus {
            shows(prometheus, &format!("up{{instance=\"{instance}\"}}"), 0).await?;
        }
        live.shop.replicas[index].start_again()?;
        live.shop.await_ready(&live.shop.replicas[index]).await?;
        let own = format!("sum(flashsale_stock_sold{{instance=\"{instance}\"}})");
        for prometheus in &live.prometheus {
            shows(prometheus, &own, units).await?;
        }
    }
    let seconds = u32::try_from(began.elapsed().as_secs())?;
    let found = sale.queries().find(|(panel, _)| panel.title == "Sold");
    let (_, sold) = found.context("no panel Sold")?;
    for prometheus in &live.prometheus {
        let sold = variables(sale, prometheus).await?.fill(&sold.expr);
        let series = prometheus.range(&sold, seconds).await?;
        let values = series[0]["values"].as_array().context("no values")?;
        let units = units.to_string();
        let wrong = values.iter().find(|value| value[1].as_str() != Some(units.as_str()));
        ensure!(wrong.is_none(), "{wrong:?} in Prometheus {}, not {units}", prometheus.version);
    }
    Ok(())
}

/// All replicas and the operator are killed: what counts them is 0. Grafana would go on to show an earlier value.
async fn nothing_left_is_shown(
    live: &mut Live,
    sale: &Dashboard,
    operator: &Dashboard,
) -> Result<()> {
    let mut panels = Vec::new();
    for (index, prometheus) in live.prometheus.iter().enumerate() {
        for (dashboard, title) in [(sale, "Replicas"), (sale, "Database"), (operator, "Leaders")] {
            let variables = variables(dashboard, prometheus).await?;
            panels.push((index, query(dashboard, &variables, title)?));
        }
        let (_, leaders) = panels.last().context("no panels")?;
        shows(prometheus, leaders, 1).await?;
    }
    for replica in &mut live.shop.replicas {
        replica.kill()?;
    }
    live.cluster.kill_operator()?;
    for (index, expression) in &panels {
        shows(&live.prometheus[*index], expression, 0).await?;
    }
    Ok(())
}

/// Memory and processor time are those of the replicas' processes.
async fn processes_are_true(live: &Live, memory: &str, prometheus: &Prometheus) -> Result<()> {
    for replica in &live.shop.replicas {
        let of_replica = async |query: &str| {
            let samples = prometheus.query(query).await?;
            let instance = replica.internal();
            let found = samples.iter().find(|it| it.labels.get("instance") == Some(&instance));
            anyhow::Ok(found.context("a replica is missing")?.value)
        };
        let bytes = of_replica(memory).await?;
        let resident = resident_bytes(replica.pid())?;
        ensure!((bytes / resident - 1.0).abs() < 0.2, "{bytes} B, {resident} B by the system");
        let seconds = of_replica("process_cpu_seconds_total").await?;
        let spent = processor_seconds(replica.pid())?;
        ensure!((seconds - spent).abs() < 1.0, "{seconds} s, {spent} s by the system");
        ensure!(seconds.fract() > 0.0, "whole seconds: {seconds}");
    }
    Ok(())
}

fn resident_bytes(pid: u32) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let field = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = field.and_then(|field| field.split_whitespace().next()).context("no VmRSS")?;
    Ok(kib.parse::<f64>()? * 1024.0)
}

fn processor_seconds(pid: u32) -> Result<f64> {
    /// Of a second, on Linux.
    const TICKS: f64 = 100.0;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, fields) = stat.rsplit_once(')').context("no name")?;
    // User and system time are the fields 14 and 15; the state is the third.
    let times = fields.split_whitespace().skip(11).take(2).map(str::parse::<f64>);
    Ok(times.sum::<Result<f64, _>>()? / TICKS)
}
