//! Chooses requests, makes ids, and queues spans that ended.

use std::sync::Arc;

use axum::http::HeaderMap;

use super::config::Identity;
use super::context::RemoteParent;
use super::queue::SpanQueue;
use super::sampler::Sampler;
use super::span::{Parent, Span, SpanContext};
use crate::metrics::{SpanLoss, TraceMetrics};

/// Shared by all that make spans.
#[derive(Debug)]
pub(super) struct Tracer {
    sampler: Sampler,
    /// Of the API: `http` or `https`.
    pub(super) scheme: &'static str,
    /// `db.system.name` of the database.
    pub(super) database: &'static str,
    pub(super) queue: SpanQueue,
    metrics: Arc<TraceMetrics>,
}

impl Tracer {
    pub(super) fn new(sampler: Sampler, identity: &Identity, metrics: Arc<TraceMetrics>) -> Self {
        let Identity { scheme, database, .. } = *identity;
        Self { sampler, scheme, database, queue: SpanQueue::default(), metrics }
    }

    /// The ids of a request's span, and its parent; `None`: the request is not traced.
    pub(super) fn sample(&self, headers: &HeaderMap) -> Option<(SpanContext, Option<Parent>)> {
        let remote = RemoteParent::of(headers);
        let trace = remote.map_or_else(new_trace, |parent| parent.trace);
        self.sampler.samples(trace, remote).then(|| {
            let parent = remote.map(|parent| Parent { span: parent.span, is_remote: true });
            (SpanContext { trace, span: new_span() }, parent)
        })
    }

    /// Queues a span that ended, or drops it.
    pub(super) fn send(&self, span: Span) {
        if !self.queue.push(span) {
            self.metrics.dropped(SpanLoss::QueueFull, 1);
        }
    }
}

/// The id of a new trace.
pub(super) fn new_trace() -> u128 {
    rand::random::<u128>().max(1)
}

/// The id of a new span.
pub(super) fn new_span() -> u64 {
    rand::random::<u64>().max(1)
}
