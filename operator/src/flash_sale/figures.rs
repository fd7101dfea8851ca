//! Stock, sold and remaining as the app counts them. Behind a trait, so that tests need no app.
//!
//! A sale that sells is asked on a slow timer, and reconciled only when its counts differ from its
//! status: neither each purchase nor an idle sale causes a pass.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt, Stream, StreamExt, stream};
use kube::ResourceExt;
use kube::core::DeserializeGuard;
use kube::runtime::reflector::{ObjectRef, Store};
use serde::Deserialize;

use super::build::names;
use crate::crd::{FlashSale, ProductStatus};

/// Where the counts of a sale come from.
pub trait Figures: Send + Sync {
    /// The counts; absent when nobody answers. That is no error: the last counts stay.
    fn read<'a>(
        &'a self,
        namespace: &'a str,
        sale: &'a str,
    ) -> BoxFuture<'a, Option<Vec<ProductStatus>>>;
}

/// How often counts are read.
const INTERVAL: Duration = Duration::from_secs(10);
/// Sales that are asked at the same time.
const CONCURRENCY: usize = 8;

/// Sales whose counts have changed, as they are noticed.
pub fn changes(
    sales: Store<DeserializeGuard<FlashSale>>,
    figures: Arc<dyn Figures>,
) -> impl Stream<Item = ObjectRef<DeserializeGuard<FlashSale>>> {
    let ticks = stream::unfold(tokio::time::interval(INTERVAL), |mut interval| async move {
        interval.tick().await;
        Some(((), interval))
    });
    ticks
        .flat_map(move |()| stream::iter(sales.state()))
        .map(move |sale| {
            let figures = figures.clone();
            async move { differs(&sale, &*figures).await.then(|| ObjectRef::from_obj(&*sale)) }
        })
        .buffer_unordered(CONCURRENCY)
        .filter_map(std::future::ready)
}

async fn differs(sale: &DeserializeGuard<FlashSale>, figures: &dyn Figures) -> bool {
    let Ok(sale) = &sale.0 else { return false };
    let Some(status) = &sale.status else { return false };
    if status.app.as_ref().is_none_or(|app| app.ready == 0) {
        return false;
    }
    let now = figures.read(&sale.namespace().unwrap_or_default(), &sale.name_any()).await;
    now.is_some_and(|now| sorted(now) != status.products)
}

/// By id: an order of its own would be a change of the status.
#[must_use]
pub fn sorted(mut products: Vec<ProductStatus>) -> Vec<ProductStatus> {
    products.sort_by(|a, b| a.id.cmp(&b.id));
    products
}

/// Asks the app's own port for metrics and probes.
#[derive(Clone, Debug)]
pub struct AppFigures {
    client: reqwest::Client,
}

/// An app that takes longer has better things to do.
const TIMEOUT: Duration = Duration::from_secs(2);

impl AppFigures {
    /// A reader that waits at most two seconds.
    ///
    /// # Errors
    /// When the HTTP client cannot be set up.
    pub fn new() -> reqwest::Result<Self> {
        // The app is next door: no proxy is on the way.
        let client = reqwest::Client::builder().timeout(TIMEOUT).no_proxy().build()?;
        Ok(Self { client })
    }

    async fn ask(&self, namespace: &str, sale: &str) -> reqwest::Result<Vec<ProductStatus>> {
        #[derive(Deserialize)]
        struct Sale {
            products: Vec<ProductStatus>,
        }
        let host = names::app_host(namespace, sale);
        let url = format!("http://{host}:{}/sale", names::METRICS_PORT);
        let sale: Sale = self.client.get(url).send().await?.error_for_status()?.json().await?;
        Ok(sale.products)
    }
}

impl Figures for AppFigures {
    fn read<'a>(
        &'a self,
        namespace: &'a str,
        sale: &'a str,
    ) -> BoxFuture<'a, Option<Vec<ProductStatus>>> {
        async move {
            match self.ask(namespace, sale).await {
                Ok(products) => Some(products),
                Err(error) => {
                    tracing::debug!(namespace, sale, %error, "no counts from the app");
                    None
                }
            }
        }
        .boxed()
    }
}
