//! A span, as it waits to be exported.

use std::borrow::Cow;
use std::time::Instant;

/// Identifies a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SpanContext {
    /// Not 0.
    pub(super) trace: u128,
    /// Not 0.
    pub(super) span: u64,
}

/// The span that caused another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Parent {
    pub(super) span: u64,
    /// In another process.
    pub(super) is_remote: bool,
}

/// The role of a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SpanKind {
    Internal,
    Server,
    Client,
}

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Text(Cow<'static, str>),
    Number(i64),
}

impl From<&'static str> for Value {
    fn from(text: &'static str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl From<u16> for Value {
    fn from(number: u16) -> Self {
        Self::Number(number.into())
    }
}

impl From<usize> for Value {
    fn from(number: usize) -> Self {
        Self::Number(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

/// A span that ended.
#[derive(Debug)]
pub(super) struct Span {
    pub(super) context: SpanContext,
    pub(super) parent: Option<Parent>,
    /// The header `tracestate`; empty without one.
    pub(super) trace_state: String,
    pub(super) name: Cow<'static, str>,
    pub(super) kind: SpanKind,
    pub(super) started: Instant,
    pub(super) ended: Instant,
    pub(super) attributes: Vec<(&'static str, Value)>,
    pub(super) links: Vec<SpanContext>,
    /// Its failure, if it failed.
    pub(super) error: Option<Cow<'static, str>>,
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A span with this id.
    pub(in super::super) fn span(span: u64) -> Span {
        let now = Instant::now();
        Span {
            context: SpanContext { trace: 1, span },
            parent: None,
            trace_state: String::new(),
            name: "test".into(),
            kind: SpanKind::Internal,
            started: now,
            ended: now,
            attributes: Vec::new(),
            links: Vec::new(),
            error: None,
        }
    }
}
