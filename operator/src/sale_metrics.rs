//! Metrics of the sales, from their statuses at the time of a scrape: a deleted sale is not in them. They have the labels
//! `namespace` and `flashsale`, like the metrics of the replicas.

use std::sync::Arc;

use kube::ResourceExt;
use kube::core::DeserializeGuard;
use kube::runtime::reflector::Store;
use prometheus::core::Collector;
use prometheus::proto::MetricFamily;
use prometheus::{IntGaugeVec, Opts};

use crate::crd::{FlashSale, FlashSaleStatus, Phase, condition};
use crate::metrics::Source;

/// The sales of all watches.
#[derive(Debug)]
pub struct SaleMetrics(pub Arc<[Store<DeserializeGuard<FlashSale>>]>);

impl Source for SaleMetrics {
    fn collect(&self) -> prometheus::Result<Vec<MetricFamily>> {
        let gauges = Gauges::new()?;
        for sale in self.0.iter().flat_map(Store::state) {
            if let Ok(sale) = &sale.0
                && let Some(status) = &sale.status
            {
                gauges.add(&sale.namespace().unwrap_or_default(), &sale.name_any(), status);
            }
        }
        Ok(gauges.collect())
    }
}

struct Gauges {
    phase: IntGaugeVec,
    condition: IntGaugeVec,
    units: IntGaugeVec,
    replicas: IntGaugeVec,
    redis_nodes: IntGaugeVec,
    stores_certificate: IntGaugeVec,
}

impl Gauges {
    fn new() -> prometheus::Result<Self> {
        let gauge = |name: &str, help: &str, label| {
            let opts = Opts::new(format!("flashsale_operator_sale_{name}"), help);
            IntGaugeVec::new(opts, &["namespace", "flashsale", label])
        };
        Ok(Self {
            phase: gauge("phase", "1 for the phase of the sale, 0 for the others.", "phase")?,
            condition: gauge(
                "condition",
                "1 for each condition of the sale that is True, 0 for one that is False or absent.",
                "condition",
            )?,
            units: gauge(
                "units",
                "Units of all products of the sale by the database: stock (ever put on sale), sold, remaining.",
                "count",
            )?,
            replicas: gauge("replicas", "Replicas of the purchase API: desired, ready.", "count")?,
            redis_nodes: gauge(
                "redis_nodes",
                "Redis nodes of the sale: declared, voting.",
                "count",
            )?,
            stores_certificate: IntGaugeVec::new(
                Opts::new(
                    "flashsale_operator_sale_stores_certificate_expiration_timestamp_seconds",
                    "End of validity of the certificate of the Redis nodes and of the sale's own database, as Unix time.",
                ),
                &["namespace", "flashsale"],
            )?,
        })
    }

    fn add(&self, namespace: &str, name: &str, status: &FlashSaleStatus) {
        let set = |gauge: &IntGaugeVec, label: &str, value: i64| {
            gauge.with_label_values(&[namespace, name, label]).set(value);
        };
        for phase in Phase::ALL {
            set(&self.phase, phase.as_str(), (status.phase == phase).into());
        }
        for type_ in condition::ALL.into_iter().chain([condition::EXPOSED]) {
            set(&self.condition, type_, status.is_true(type_).into());
        }
        if let Some(totals) = status.totals {
            set(&self.units, "stock", totals.stock);
            set(&self.units, "sold", totals.sold);
            set(&self.units, "remaining", totals.remaining);
        }
        if let Some(app) = &status.app {
            set(&self.replicas, "ready", app.ready.into());
            set(&self.replicas, "desired", app.desired.unwrap_or(app.replicas).into());
        }
        if let Some(redis) = &status.redis {
            set(&self.redis_nodes, "voting", redis.ready.into());
            set(&self.redis_nodes, "declared", redis.nodes.into());
        }
        if let Some(end) = &status.stores_certificate_not_after {
            let gauge = self.stores_certificate.with_label_values(&[namespace, name]);
            gauge.set(end.0.as_second());
        }
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let all = [
            &self.phase,
            &self.condition,
            &self.units,
            &self.replicas,
            &self.redis_nodes,
            &self.stores_certificate,
        ];
        let families = all.into_iter().flat_map(Collector::collect);
        // A family without a sale cannot be encoded.
        families.filter(|family| !family.get_metric().is_empty()).collect()
    }
}
