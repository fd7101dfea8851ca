//! A sale with its operator, and Prometheus 2 and 3 that scrape both and evaluate the chart's alerts.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::chart::Rules;
use crate::cluster::{Cluster, OPERATOR_JOB, OPERATOR_NAMESPACE};
use crate::programs::Version;
use crate::prometheus::{Prometheus, Target};
use crate::shop::{NAMESPACE, Replica, SALE, Shop, products};
use crate::wait::eventually;

/// How long a scrape, an evaluation or a repair may take on a busy machine.
const SOON: Duration = Duration::from_mins(1);

/// All of it.
pub struct Live {
    /// The sale's processes.
    pub shop: Shop,
    /// The API server and the operator.
    pub cluster: Cluster,
    /// Of both versions.
    pub prometheus: Vec<Prometheus>,
}

impl Live {
    /// Starts Prometheus for a sale whose replicas run, and waits until it has scraped all of them and the operator.
    ///
    /// # Errors
    /// When something does not start.
    pub async fn start(shop: Shop) -> Result<Self> {
        let cluster = Cluster::start(&shop.replicas[0]).await?;
        cluster.apply_sale(SALE, &spec(&shop), "Open").await?;
        let replicas = Target {
            job: "black-friday-pods",
            addresses: shop.replicas.iter().map(Replica::internal).collect(),
            labels: json!({ "namespace": NAMESPACE, "flashsale": SALE }),
        };
        let operator = Target {
            job: OPERATOR_JOB,
            addresses: vec![cluster.metrics.clone()],
            labels: json!({ "namespace": OPERATOR_NAMESPACE }),
        };
        let targets = [replicas, operator];
        let rules = Rules::of_chart()?.in_seconds()?;
        let mut prometheus = Vec::new();
        for version in Version::ALL {
            prometheus.push(Prometheus::start(version, &targets, &rules).await?);
        }
        let live = Self { shop, cluster, prometheus };
        let wanted = live.shop.replicas.len() + 1;
        for prometheus in &live.prometheus {
            eventually("all targets are scraped", SOON, async || {
                let up = prometheus.query("up == 1").await?.len();
                ensure!(up == wanted, "{up} of {wanted} targets are up");
                Ok(())
            })
            .await?;
            println!("Prometheus {}", prometheus.build().await?);
        }
        Ok(live)
    }

    /// Waits until both Prometheus have the alert firing, or silent.
    ///
    /// # Errors
    /// When one has not.
    pub async fn await_alert(&self, alert: &str, fires: bool) -> Result<()> {
        let what = format!("{alert} {}", if fires { "fires" } else { "is silent" });
        let started = std::time::Instant::now();
        for prometheus in &self.prometheus {
            eventually(&what, SOON, async || {
                let firing = prometheus.firing_names().await?;
                let found = firing.iter().any(|name| name == alert);
                ensure!(found == fires, "Prometheus {}: {firing:?}", prometheus.version);
                Ok(())
            })
            .await?;
        }
        println!("{what} after {:.1} s", started.elapsed().as_secs_f64());
        Ok(())
    }
}

/// The sale as it is declared: as many replicas as there are.
#[must_use]
pub fn spec(shop: &Shop) -> Value {
    json!({ "products": products(), "app": { "replicas": shop.replicas.len() } })
}
