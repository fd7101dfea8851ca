//! The span of a request.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::Response;

use super::context::trace_state;
use super::span::{Parent, Span, SpanContext, SpanKind, Value};
use super::tracer::Tracer;

tokio::task_local! {
    /// The sampled request that this task answers.
    static CURRENT: Arc<TracedRequest>;
}

/// A sampled request that is being answered. It is the mark that the sale returns with a batch.
#[derive(Debug)]
pub(super) struct TracedRequest {
    pub(super) context: SpanContext,
    learned: Mutex<Learned>,
}

/// What becomes known while a request is answered.
#[derive(Debug, Default)]
struct Learned {
    /// What the sale decided, as its metrics name it.
    outcome: Option<&'static str>,
    /// The batches that decided it; more than one if it had to be tried again.
    batches: Vec<SpanContext>,
}

impl TracedRequest {
    /// The request that this task answers; `None`: it is not traced.
    pub(super) fn current() -> Option<Arc<Self>> {
        CURRENT.try_with(Arc::clone).ok()
    }

    /// Notes what the sale decided about the request of this task.
    pub(super) fn decided(outcome: &'static str) {
        // Not traced otherwise.
        let _ = CURRENT.try_with(|request| request.learned().outcome = Some(outcome));
    }

    /// Notes a batch.
    pub(super) fn link(&self, batch: SpanContext) {
        self.learned().batches.push(batch);
    }

    fn learned(&self) -> MutexGuard<'_, Learned> {
        self.learned.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The layer of all routes.
pub(super) async fn trace(
    State(tracer): State<Arc<Tracer>>,
    request: Request,
    next: Next,
) -> Response {
    let Some((context, parent)) = tracer.sample(request.headers()) else {
        return next.run(request).await;
    };
    let current = Arc::new(TracedRequest { context, learned: Mutex::default() });
    let mut recording = Recording {
        request: Arc::clone(&current),
        parent,
        trace_state: if parent.is_some() { trace_state(request.headers()) } else { String::new() },
        method: request.method().clone(),
        path: bounded(request.uri().path()),
        route: request.extensions().get::<MatchedPath>().cloned(),
        started: Instant::now(),
        status: None,
        tracer,
    };
    let response = CURRENT.scope(current, next.run(request)).await;
    recording.status = Some(response.status());
    response
}

/// Ends the span when it is dropped, with the answer or with the connection.
struct Recording {
    tracer: Arc<Tracer>,
    request: Arc<TracedRequest>,
    parent: Option<Parent>,
    trace_state: String,
    method: Method,
    path: String,
    route: Option<MatchedPath>,
    started: Instant,
    status: Option<StatusCode>,
}

impl Drop for Recording {
    fn drop(&mut self) {
        let ended = Instant::now();
        let Learned { outcome, batches } = std::mem::take(&mut *self.request.learned());
        let method = standard(&self.method);
        let mut attributes: Vec<(&'static str, Value)> = vec![
            ("http.request.method", method.into()),
            ("url.scheme", self.tracer.scheme.into()),
            ("url.path", std::mem::take(&mut self.path).into()),
        ];
        if method == OTHER {
            attributes.push(("http.request.method_original", bounded(self.method.as_str()).into()));
        }
        let route = self.route.as_ref().map(MatchedPath::as_str);
        attributes.extend(route.map(|route| ("http.route", route.to_owned().into())));
        attributes.extend(outcome.map(|outcome| ("flashsale.outcome", outcome.into())));
        // By the standard, a refusal (4xx) is no failure of the server.
        let error: Option<Cow<'static, str>> = match self.status {
            None => Some("the client closed the connection".into()),
            Some(status) => {
                attributes.push(("http.response.status_code", status.as_u16().into()));
                status.is_server_error().then(|| outcome.unwrap_or_default().into())
            }
        };
        if error.is_some() {
            let status = self.status.map(|status| status.as_str().to_owned());
            let kind = status.unwrap_or_else(|| "client_closed_request".to_owned());
            attributes.push(("error.type", kind.into()));
        }
        let method = if method == OTHER { "HTTP" } else { method };
        self.tracer.send(Span {
            context: self.request.context,
            parent: self.parent,
            trace_state: std::mem::take(&mut self.trace_state),
            name: route.map_or(method.into(), |route| format!("{method} {route}").into()),
            kind: SpanKind::Server,
            started: self.started,
            ended,
            attributes,
            links: batches,
            error,
        });
    }
}

/// Bytes of a text that a client chose. Thousands of spans wait in memory.
const LONGEST_TEXT: usize = 256;

fn bounded(text: &str) -> String {
    text[..text.floor_char_boundary(LONGEST_TEXT)].to_owned()
}

/// Of a method that no standard knows. A client may send any word.
const OTHER: &str = "_OTHER";

fn standard(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "HEAD" => "HEAD",
        "OPTIONS" => "OPTIONS",
        "CONNECT" => "CONNECT",
        "TRACE" => "TRACE",
        _ => OTHER,
    }
}
