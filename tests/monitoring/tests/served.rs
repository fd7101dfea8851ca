//! What `/metrics` of a replica and of the operator serves, against the documentation, the dashboards and the alerts.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use flashsale_monitoring::{
    Cluster, Dashboard, Exposition, Rules, SALE, Selector, Shop, Version, documented, eventually,
    promtool, selectors,
};
use serde_json::json;
use testkit::{Authority, TlsFolder};

const SOON: Duration = Duration::from_secs(30);
/// Prometheus adds these, or their values are those of a sale.
const NOT_BOUNDED: [&str; 5] = ["namespace", "flashsale", "instance", "job", "product"];
/// Labels that have the same values in every sale, and all of these values, read by a dashboard or not. Those of requests
/// and payment events are in the app's own tests.
const BOUNDED: &str = r#"
    flashsale_purchases_total{outcome=~"sold|replayed|sale_not_open|unknown_product|sold_out|limit_reached|limit_claim_missing"}
    flashsale_purchases_total{outcome=~"idempotency_key_reused|lock_timeout|quorum_unavailable|overloaded|database_unavailable"}
    flashsale_purchases_total{outcome=~"stock_unavailable|not_with_atomic|interrupted|internal"}
    flashsale_orders_total{outcome=~"placed|replayed|unchanged|cancelled|paid|payment_failed|expired|refund_required|refunded"}
    flashsale_orders_total{outcome=~"unknown_order|order_not_recorded_yet|mixed_currencies|order_state|sold_out|interrupted"}
    flashsale_coupons_total{outcome=~"issued|replayed|unknown_coupon|coupon_exists|coupon_exhausted|coupon_not_open|interrupted"}
    flashsale_event_delivery_seconds{sink=~"webhook|nats"}
    flashsale_event_attempts_failed_total{sink=~"webhook|nats"}
    flashsale_events_pending{sink=~"webhook|nats"}
    flashsale_events_dead{sink=~"webhook|nats"}
    flashsale_event_lag_seconds{sink=~"webhook|nats"}
    flashsale_event_sink_disabled{sink=~"webhook|nats"}
    flashsale_lock_wait_seconds{outcome=~"acquired|timeout|quorum_unavailable|interrupted|invalid"}
    flashsale_lock_acquisitions_total{outcome=~"acquired|timeout|quorum_unavailable|interrupted|invalid"}
    flashsale_lock_node_seconds{node=~"0|1|2|3|4"}
    flashsale_lock_node_failures_total{node=~"0|1|2|3|4"}
    flashsale_lock_node_exclusions_total{node=~"0|1|2|3|4",reason=~"restarted|clock_jumped|refuses_writes|damaged"}
    flashsale_lock_node_admissions_total{node=~"0|1|2|3|4"}
    flashsale_store_drift_total{kind=~"missing|behind|different|ahead|database_older"}
    flashsale_store_runs_total{job=~"compare|load"}
    flashsale_tls_handshake_failures_total{reason=~"timeout|plain_http|failed"}
    flashsale_trace_spans_dropped_total{reason=~"queue_full|unreachable|refused"}
    flashsale_log_ins_total{outcome=~"succeeded|wrong_credentials|too_many_attempts|overloaded"}
    flashsale_sign_ups_total{outcome=~"succeeded|account_exists|too_many_attempts|overloaded|failed"}
    flashsale_operator_sale_phase{phase=~"Pending|Provisioning|Scheduled|Open|SoldOut|Ended|Hibernated|Degraded|Failed"}
    flashsale_operator_sale_condition{condition=~"RedisReady|DatabaseReady|StockSeeded|AppAvailable|Exposed|Ready|Reconciling"}
    flashsale_operator_sale_condition{condition=~"Stalled|Degraded|ConfigurationWarning|HibernationDelayed|ReconciliationPaused"}
    flashsale_operator_sale_units{count=~"stock|sold|remaining"}
    flashsale_operator_sale_replicas{count=~"desired|ready"}
    flashsale_operator_sale_redis_nodes{count=~"declared|voting"}
    flashsale_operator_reconciliations_total{outcome=~"applied|waiting|refused|error"}
    flashsale_operator_reconcile_errors_total{step=~"dereference|build|certificates|retention|volumes|apply|observe|update_status"}
"#;

/// What both serve, before anybody buys.
struct Served {
    shop: Shop,
    _cluster: Cluster,
    /// The text of each.
    texts: BTreeMap<&'static str, String>,
    _tls: TlsFolder,
}

impl Served {
    /// A replica with TLS and traces, because their metrics are there only with them, and an operator with a sale that has
    /// TLS to its stores.
    async fn start() -> Result<Self> {
        let mut shop = Shop::open(0).await?;
        let authority = Authority::new()?;
        let tls = TlsFolder::new(&authority.issue("localhost", 30)?, authority.certificate())?;
        let file = |name: &str| tls.path(name).display().to_string();
        // Nobody takes the spans.
        let collector = format!("http://127.0.0.1:{}", testkit::free_port()?);
        shop.add_replica(&[
            ("TLS_CERT_FILE", file("tls.crt")),
            ("TLS_KEY_FILE", file("tls.key")),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", collector),
        ])?;
        let replica = &shop.replicas[0];
        let cluster = Cluster::start(replica).await?;
        shop.await_ready(replica).await?;
        let spec = json!({
            "products": [{ "id": "1", "stock": 1_000_000 }],
            "stores": { "tls": { "mode": "Managed" } },
        });
        cluster.apply_sale(SALE, &spec, "Open").await?;
        let app = shop.metrics(replica).await?;
        let operator = eventually("the operator has the counts of the sale", SOON, async || {
            let url = format!("http://{}/metrics", cluster.metrics);
            let text = shop.http.get(url).send().await?.error_for_status()?.text().await?;
            ensure!(text.contains("flashsale_operator_sale_units"), "{}", cluster.log());
            Ok(text)
        })
        .await?;
        let texts = BTreeMap::from([("replica", app), ("operator", operator)]);
        Ok(Self { shop, _cluster: cluster, texts, _tls: tls })
    }

    fn of(&self, who: &str) -> Exposition {
        Exposition::read(&self.texts[who])
    }

    fn of_both(&self) -> Exposition {
        self.of("replica").and(self.of("operator"))
    }
}

/// What the dashboards and the alerts read.
fn named() -> Result<Vec<(String, Selector)>> {
    let mut named = Vec::new();
    for dashboard in Dashboard::all()? {
        for (panel, target) in dashboard.queries() {
            let place = format!("{}/{}", dashboard.name, panel.title);
            named.extend(selectors(&target.expr).into_iter().map(|it| (place.clone(), it)));
        }
    }
    for alert in Rules::of_chart()?.alerts()? {
        named.extend(selectors(&alert.expr).into_iter().map(|it| (alert.alert.clone(), it)));
    }
    named.retain(|(_, selector)| selector.name != "up");
    Ok(named)
}

fn none<T: std::fmt::Debug>(what: &str, faults: &[T]) -> Result<()> {
    ensure!(faults.is_empty(), "{what}: {faults:#?}");
    Ok(())
}

#[tokio::test]
async fn the_table_of_metrics_is_what_is_served() -> Result<()> {
    let served = Served::start().await?;
    let replica = &served.shop.replicas[0];
    // It begins with the first run of a job.
    let late = "flashsale_store_last_run_timestamp_seconds";
    let all = eventually("the late metric is served", SOON, async || {
        let all = served.shop.exposition(replica).await?.and(served.of("operator"));
        ensure!(all.has(late), "not yet");
        Ok(all)
    })
    .await?;
    none("documentation and /metrics differ", &all.differences_from_documentation()?)?;
    for who in ["replica", "operator"] {
        let of_the_other = |name: &&String| match who {
            "replica" => name.starts_with("flashsale_operator_"),
            _ => name.starts_with("flashsale_") && !name.starts_with("flashsale_operator_"),
        };
        let families = served.of(who).families;
        let strangers: Vec<_> = families.keys().filter(of_the_other).collect();
        none(who, &strangers)?;
        // Both have these, so one that lacks them is not noticed above.
        let of_process = |name: &String| name.starts_with("process_");
        let lacks = |name: &String| of_process(name) && !families.contains_key(name);
        let missing: Vec<String> = documented()?.into_keys().filter(lacks).collect();
        none(&format!("the {who} lacks"), &missing)?;
    }
    Ok(())
}

#[tokio::test]
async fn names_units_and_help_pass_promtool() -> Result<()> {
    let served = Served::start().await?;
    for version in Version::ALL {
        for (who, text) in &served.texts {
            let said = promtool(version, Path::new("/"), &["check", "metrics"], text);
            let said = said.with_context(|| format!("of the {who}"))?;
            ensure!(said.trim().is_empty(), "promtool {version} of the {who}: {said}");
        }
    }
    let bad = promtool(Version::Three, Path::new("/"), &["check", "metrics"], "x_total 1\n");
    ensure!(bad.is_err(), "promtool accepts a metric without help text");
    Ok(())
}

#[tokio::test]
async fn every_bounded_label_value_is_there_before_the_first_purchase() -> Result<()> {
    let served = Served::start().await?;
    let all = served.of_both();
    let mut faults = Vec::new();
    let bounded = selectors(BOUNDED);
    let lines = BOUNDED.lines().filter(|line| !line.is_empty()).count();
    ensure!(bounded.len() == lines, "{} of {lines} lines are read", bounded.len());
    for selector in bounded {
        let missing = all.missing(&selector, &[]);
        faults.extend(missing.into_iter().map(|it| format!("{it} is not there yet")));
    }
    for (place, selector) in named()? {
        if !all.has(&selector.name) {
            faults.push(format!("{place}: {} does not exist", selector.name));
        }
        let missing = all.missing(&selector, &NOT_BOUNDED);
        faults.extend(missing.into_iter().map(|it| format!("{place}: {it} is not there yet")));
    }
    none("read by a dashboard or an alert, or bounded", &faults)?;
    let unknown = Selector {
        name: "flashsale_purchases_total".to_owned(),
        ..selectors(r#"up{outcome="given_away"}"#).remove(0)
    };
    ensure!(!all.missing(&unknown, &NOT_BOUNDED).is_empty(), "an unknown value is found");
    Ok(())
}
