//! The span of a batch, and of the steps that it waited for.
//!
//! A batch serves requests of many traces, so it is a trace of its own: it has a link to each traced request, and each
//! of these has a link to it.

use std::sync::Arc;
use std::time::Instant;

use sale::{BatchKind, BatchReport, Observer, Origin, PurchaseError, Receipt, StepKind};

use super::request::TracedRequest;
use super::span::{Parent, Span, SpanContext, SpanKind, Value};
use super::tracer::{Tracer, new_span, new_trace};

/// Follows traced requests into their batches.
#[derive(Debug)]
pub(super) struct BatchTracer(Arc<Tracer>);

impl BatchTracer {
    pub(super) fn new(tracer: Arc<Tracer>) -> Self {
        Self(tracer)
    }
}

impl Observer for BatchTracer {
    fn origin(&self) -> Option<Origin> {
        Some(TracedRequest::current()?)
    }

    fn purchase(&self, result: Result<&Receipt, &PurchaseError>) {
        TracedRequest::decided(match result {
            Ok(Receipt { replayed: false, .. }) => "sold",
            Ok(Receipt { replayed: true, .. }) => "replayed",
            Err(error) => error.code(),
        });
    }

    fn order(&self, outcome: &'static str) {
        TracedRequest::decided(outcome);
    }

    fn coupon(&self, outcome: &'static str) {
        TracedRequest::decided(outcome);
    }

    fn batch_ended(&self, report: &BatchReport<'_>) {
        let now = Instant::now();
        let context = SpanContext { trace: new_trace(), span: new_span() };
        let requests = report.origins.iter().filter_map(|origin| origin.downcast_ref());
        let requests: Vec<&TracedRequest> = requests.collect();
        for request in &requests {
            request.link(context);
        }
        for step in report.steps {
            let (name, kind, system) = match step.kind {
                StepKind::Lock => ("acquire lock", SpanKind::Internal, None),
                StepKind::Database => ("database", SpanKind::Client, Some(self.0.database)),
                StepKind::Redis => ("redis", SpanKind::Client, Some("redis")),
            };
            self.0.send(Span {
                context: SpanContext { span: new_span(), ..context },
                parent: Some(Parent { span: context.span, is_remote: false }),
                trace_state: String::new(),
                name: name.into(),
                kind,
                started: step.started,
                ended: step.ended,
                attributes: system.map(|it| ("db.system.name", it.into())).into_iter().collect(),
                links: Vec::new(),
                error: None,
            });
        }
        let mut attributes: Vec<(&'static str, Value)> =
            vec![("flashsale.batch.size", report.size.into())];
        attributes.extend(report.failure.map(|code| ("error.type", code.into())));
        self.0.send(Span {
            context,
            parent: None,
            trace_state: String::new(),
            name: name(report.kind).into(),
            kind: SpanKind::Internal,
            started: report.steps.first().map_or(now, |step| step.started),
            ended: now,
            attributes,
            links: requests.iter().map(|request| request.context).collect(),
            error: report.failure.map(Into::into),
        });
    }
}

fn name(kind: BatchKind) -> &'static str {
    match kind {
        BatchKind::Purchases => "purchase batch",
        BatchKind::Orders => "order batch",
        BatchKind::Coupons => "coupon batch",
    }
}
