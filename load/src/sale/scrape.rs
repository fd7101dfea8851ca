//! Scrapes the lock's metrics from every replica of the app, before and after a run. Knows the names of
//! the metrics, but no targets.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::future::try_join_all;
use tokio::net::lookup_host;

use crate::config::MetricsSource;
use crate::error::error_chain;
use crate::http::{Authorities, Call, Caller, HttpError, Server};
use crate::observed::{LockMetrics, NodeAttempts};
use crate::sale::prometheus::Samples;

const TIMEOUT: Duration = Duration::from_secs(5);
const WAIT: &str = "flashsale_lock_wait_seconds";
const NODE: &str = "flashsale_lock_node_seconds";
const ACQUISITIONS: &str = "flashsale_lock_acquisitions_total";

/// Each replica's samples, by URL.
pub type Scrape = BTreeMap<String, Samples>;

/// Scrapes all replicas.
pub async fn scrape(authorities: &Authorities, source: &MetricsSource) -> Result<Scrape, String> {
    let urls = match source {
        MetricsSource::Urls(urls) => urls.clone(),
        MetricsSource::Host(host) => addresses(host).await?,
    };
    let replicas = urls.into_iter().map(async |url| {
        let text = fetch(authorities, &url)
            .await
            .map_err(|error| format!("{url}: {}", error_chain(&error)))?;
        let samples =
            Samples::parse(&text).map_err(|line| format!("{url}: cannot read {line:?}"))?;
        Ok::<_, String>((url, samples))
    });
    Ok(try_join_all(replicas).await?.into_iter().collect())
}

/// All addresses of a headless Service: one per replica.
async fn addresses(host: &str) -> Result<Vec<String>, String> {
    let found = lookup_host(host).await.map_err(|error| format!("{host}: {error}"))?;
    let found: BTreeSet<_> = found.collect();
    if found.is_empty() {
        return Err(format!("{host}: has no address"));
    }
    Ok(found.iter().map(|address| format!("http://{address}/metrics")).collect())
}

async fn fetch(authorities: &Authorities, url: &str) -> Result<String, HttpError> {
    let server = Server::new(url, authorities)?;
    let answer = server.call(&Call::get(""), Caller::default(), TIMEOUT).await?;
    if !answer.status.is_success() {
        return Err(HttpError::Url(format!("answers {}", answer.status)));
    }
    Ok(String::from_utf8_lossy(&answer.body).into_owned())
}

/// The increase between two scrapes, summed over all replicas.
pub fn locks(before: &Scrape, after: &Scrape) -> Result<LockMetrics, String> {
    if let Some(gone) = before.keys().find(|url| !after.contains_key(*url)) {
        return Err(format!("the replica at {gone} is gone, and its figures with it"));
    }
    let mut all = Samples::default();
    for (url, samples) in after {
        all.add(before.get(url).map_or_else(|| samples.clone(), |earlier| samples.since(earlier)));
    }
    let wait = all.histogram(WAIT, None);
    let attempts = all.sum(ACQUISITIONS, None);
    let acquired = all.sum(ACQUISITIONS, Some(("outcome", "acquired")));
    let node = |node: String| {
        let histogram = all.histogram(NODE, Some(("node", &node)))?;
        let figures = NodeAttempts { average: histogram.average(), p99: histogram.quantile(0.99) };
        Some((node, (figures, histogram.buckets())))
    };
    let nodes: BTreeMap<_, _> =
        all.label_values(&format!("{NODE}_count"), "node").into_iter().filter_map(node).collect();
    let node_attempts =
        nodes.iter().map(|(node, (_, buckets))| (node.clone(), buckets.clone())).collect();
    Ok(LockMetrics {
        wait_p50: wait.as_ref().map(|histogram| histogram.quantile(0.5)),
        wait_p99: wait.as_ref().map(|histogram| histogram.quantile(0.99)),
        nodes: nodes.into_iter().map(|(node, (figures, _))| (node, figures)).collect(),
        quorum_success: (attempts > 0.0).then(|| acquired / attempts),
        waits: wait.map(|histogram| histogram.buckets()).unwrap_or_default(),
        node_attempts,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replica(acquired: u32, timeout: u32) -> Samples {
        Samples::parse(&format!(
            "{ACQUISITIONS}{{outcome=\"acquired\"}} {acquired}\n\
             {ACQUISITIONS}{{outcome=\"timeout\"}} {timeout}\n\
             {WAIT}_bucket{{outcome=\"acquired\",le=\"0.01\"}} {acquired}\n\
             {WAIT}_bucket{{outcome=\"acquired\",le=\"+Inf\"}} {acquired}\n\
             {NODE}_bucket{{node=\"0\",le=\"0.01\"}} {acquired}\n\
             {NODE}_bucket{{node=\"0\",le=\"+Inf\"}} {acquired}\n\
             {NODE}_count{{node=\"0\"}} {acquired}\n\
             {NODE}_sum{{node=\"0\"}} {}",
            f64::from(acquired) * 0.004
        ))
        .unwrap()
    }

    fn scrape(replicas: &[(&str, Samples)]) -> Scrape {
        replicas.iter().map(|(url, samples)| ((*url).to_owned(), samples.clone())).collect()
    }

    #[test]
    fn adds_what_all_replicas_did() {
        let before = scrape(&[("a", replica(10, 5)), ("b", replica(0, 0))]);
        let after = scrape(&[("a", replica(13, 5)), ("b", replica(4, 0)), ("c", replica(1, 0))]);
        let locks = locks(&before, &after).unwrap();
        assert_eq!(locks.quorum_success, Some(1.0), "the timeouts were before");
        assert!((locks.wait_p50.unwrap() - 0.005).abs() < 1e-9);
        assert!((locks.nodes["0"].average - 0.004).abs() < 1e-9);
    }

    #[test]
    fn counts_failures_and_notices_a_lost_replica() {
        let before = scrape(&[("a", replica(0, 0))]);
        let after = scrape(&[("a", replica(3, 1))]);
        assert_eq!(locks(&before, &after).unwrap().quorum_success, Some(0.75));
        assert_eq!(locks(&before, &before).unwrap().quorum_success, None);
        assert!(locks(&before, &Scrape::new()).unwrap_err().contains("is gone"));
    }
}
