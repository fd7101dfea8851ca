//! Prometheus's protobuf format (`io.prometheus.client.MetricFamily`, length-delimited): the only one that carries
//! native histograms. It has seven messages of numbers and strings, so it needs no library.

use prometheus::proto::{Metric, MetricType};

use super::family::{Family, NativeBuckets};
use crate::protobuf::{Message, varint, zigzag};

/// All families, each after its length.
pub(super) fn encode(families: &[Family]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for family in families {
        let message = family_message(family).into_bytes();
        varint(&mut bytes, message.len() as u64);
        bytes.extend(message);
    }
    bytes
}

fn family_message(family: &Family) -> Message {
    let Family { classic, native } = family;
    let type_ = match classic.get_field_type() {
        MetricType::COUNTER => 0,
        MetricType::GAUGE => 1,
        MetricType::SUMMARY => 2,
        MetricType::UNTYPED => 3,
        MetricType::HISTOGRAM => 4,
    };
    let mut message = Message::default();
    message.text(1, classic.name());
    message.text(2, classic.help());
    message.number(3, type_);
    for (index, metric) in classic.get_metric().iter().enumerate() {
        message.message(4, &metric_message(metric, type_, native.get(index)));
    }
    message
}

fn metric_message(metric: &Metric, type_: u64, native: Option<&NativeBuckets>) -> Message {
    let mut message = Message::default();
    for label in metric.get_label() {
        let mut pair = Message::default();
        pair.text(1, label.name());
        pair.text(2, label.value());
        message.message(1, &pair);
    }
    let value = |value: f64| {
        let mut message = Message::default();
        message.double(1, value);
        message
    };
    match type_ {
        0 => message.message(3, &value(metric.get_counter().get_value())),
        4 => message.message(7, &histogram_message(metric, native)),
        _ => message.message(2, &value(metric.get_gauge().get_value())),
    }
    message
}

fn histogram_message(metric: &Metric, native: Option<&NativeBuckets>) -> Message {
    let histogram = metric.get_histogram();
    let mut message = Message::default();
    message.number(1, histogram.get_sample_count());
    message.double(2, histogram.get_sample_sum());
    for bucket in histogram.get_bucket() {
        let mut bound = Message::default();
        bound.number(1, bucket.cumulative_count());
        bound.double(2, bucket.upper_bound());
        message.message(3, &bound);
    }
    let Some(native) = native else { return message };
    message.signed(5, native.schema.into());
    message.double(6, native.zero_threshold);
    message.number(7, native.zero_count);
    for (offset, length) in &native.spans {
        let mut span = Message::default();
        span.signed(1, i64::from(*offset));
        span.number(2, u64::from(*length));
        message.message(12, &span);
    }
    let mut deltas = Vec::new();
    for delta in &native.deltas {
        varint(&mut deltas, zigzag(*delta));
    }
    message.bytes(13, &deltas);
    message
}
