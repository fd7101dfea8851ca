//! Rows on what the response times consist of: they tell a slow sale from slow connections.

use std::collections::BTreeMap;
use std::time::Duration;

use super::rows::{self, Bound, Rows};
use crate::observed::{Latency, LatencyParts};

/// Adds the rows; the figures of the report, by part and by statistic.
pub fn add(rows: &mut Rows, parts: &LatencyParts) -> BTreeMap<String, BTreeMap<String, f64>> {
    let LatencyParts { lookup, tcp, tls, answer } = parts;
    let mut figures = BTreeMap::new();
    rows.timing("name lookup", Some(milliseconds(*lookup)), " ms", Bound::None);
    figures.insert("name_lookup".to_owned(), [("max_ms".to_owned(), milliseconds(*lookup))].into());
    for (name, field, times) in [
        ("TCP connect", "tcp_connect", tcp),
        ("TLS handshake", "tls_handshake", tls),
        ("answer alone", "answer", answer),
    ] {
        if times.requests > 0 {
            figures.insert(field.to_owned(), part(rows, name, times));
        }
    }
    figures
}

fn part(rows: &mut Rows, name: &str, times: &Latency) -> BTreeMap<String, f64> {
    let Latency { requests, p50, average, p99, max } = times;
    let mut figures = BTreeMap::new();
    figures.insert("count".to_owned(), f64::from(*requests));
    for (statistic, field, took) in [
        ("P50", "p50_ms", p50),
        ("average", "average_ms", average),
        ("P99", "p99_ms", p99),
        ("max", "max_ms", max),
    ] {
        let took = milliseconds(*took);
        // The table has the two that say most; the others are in the JSON object.
        if matches!(statistic, "P50" | "max") {
            rows.timing(&format!("{name} {statistic}"), Some(took), " ms", Bound::None);
        }
        figures.insert(field.to_owned(), took);
    }
    figures
}

fn milliseconds(took: Duration) -> f64 {
    rows::milliseconds(took.as_secs_f64())
}
