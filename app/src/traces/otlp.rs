//! OTLP: the protobuf messages `ExportTraceServiceRequest` and `ExportTraceServiceResponse`.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::config::Identity;
use super::span::{Span, SpanContext, SpanKind, Value};
use crate::protobuf::Message;

/// The bit of a sampled trace in `flags`; a span that is exported is sampled.
const SAMPLED: u32 = 1;
/// `flags` say whether the parent is in another process.
const HAS_IS_REMOTE: u32 = 0x100;
const IS_REMOTE: u32 = 0x200;
/// `STATUS_CODE_ERROR`
const ERROR: u64 = 2;

/// What all spans of a replica share, encoded.
#[derive(Debug)]
pub(super) struct Resource {
    resource: Message,
    scope: Message,
}

impl Resource {
    pub(super) fn new(service: &str, identity: &Identity) -> Self {
        let version = env!("CARGO_PKG_VERSION");
        let mut resource = Message::default();
        for (key, value) in [
            ("service.name", service),
            ("service.version", version),
            ("service.instance.id", &*identity.replica),
            ("flashsale.sale", &*identity.sale),
        ] {
            if !value.is_empty() {
                resource.message(1, &attribute(key, &Value::from(value.to_owned())));
            }
        }
        let mut scope = Message::default();
        scope.text(1, env!("CARGO_PKG_NAME"));
        scope.text(2, version);
        Self { resource, scope }
    }

    /// The request that exports these spans.
    pub(super) fn request(&self, spans: &[Span]) -> Vec<u8> {
        let clock = Clock::now();
        let mut of_scope = Message::default();
        of_scope.message(1, &self.scope);
        for span in spans {
            of_scope.message(2, &span_message(span, &clock));
        }
        let mut of_resource = Message::default();
        of_resource.message(1, &self.resource);
        of_resource.message(2, &of_scope);
        let mut request = Message::default();
        request.message(1, &of_resource);
        request.into_bytes()
    }
}

/// Turns moments of the monotonic clock into Unix time.
struct Clock {
    instant: Instant,
    since_epoch: Duration,
}

impl Clock {
    fn now() -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { instant: Instant::now(), since_epoch }
    }

    fn nanoseconds(&self, at: Instant) -> u64 {
        let ago = self.instant.saturating_duration_since(at);
        u64::try_from(self.since_epoch.saturating_sub(ago).as_nanos()).unwrap_or(u64::MAX)
    }
}

fn span_message(span: &Span, clock: &Clock) -> Message {
    let mut message = Message::default();
    ids(&mut message, span.context);
    if !span.trace_state.is_empty() {
        message.text(3, &span.trace_state);
    }
    let mut flags = SAMPLED | HAS_IS_REMOTE;
    if let Some(parent) = span.parent {
        message.bytes(4, &parent.span.to_be_bytes());
        flags |= if parent.is_remote { IS_REMOTE } else { 0 };
    }
    message.text(5, &span.name);
    message.number(
        6,
        match span.kind {
            SpanKind::Internal => 1,
            SpanKind::Server => 2,
            SpanKind::Client => 3,
        },
    );
    message.fixed64(7, clock.nanoseconds(span.started));
    message.fixed64(8, clock.nanoseconds(span.ended));
    for (key, value) in &span.attributes {
        message.message(9, &attribute(key, value));
    }
    for link in &span.links {
        let mut of_link = Message::default();
        ids(&mut of_link, *link);
        of_link.fixed32(6, SAMPLED | HAS_IS_REMOTE);
        message.message(13, &of_link);
    }
    if let Some(error) = &span.error {
        let mut status = Message::default();
        status.text(2, error);
        status.number(3, ERROR);
        message.message(15, &status);
    }
    message.fixed32(16, flags);
    message
}

/// The ids of a span or of a link.
fn ids(message: &mut Message, context: SpanContext) {
    message.bytes(1, &context.trace.to_be_bytes());
    message.bytes(2, &context.span.to_be_bytes());
}

fn attribute(key: &str, value: &Value) -> Message {
    let mut any = Message::default();
    match value {
        Value::Text(text) => any.text(1, text),
        Value::Number(number) => any.number(3, number.cast_unsigned()),
    }
    let mut attribute = Message::default();
    attribute.text(1, key);
    attribute.message(2, &any);
    attribute
}

/// How many spans of a request the collector refused, by its response (`partial_success.rejected_spans`).
pub(super) fn rejected_spans(response: &[u8]) -> u64 {
    let partial_success = field(response, 1);
    let rejected = partial_success.and_then(|field| match field {
        Field::Bytes(bytes) => self::field(bytes, 1),
        Field::Number(_) => None,
    });
    match rejected {
        Some(Field::Number(number)) => number,
        _ => 0,
    }
}

enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The first field of this number; `None` if it is absent or the message is broken.
fn field(mut message: &[u8], number: u64) -> Option<Field<'_>> {
    while !message.is_empty() {
        let key = read_varint(&mut message)?;
        let field = match key & 7 {
            0 => Field::Number(read_varint(&mut message)?),
            2 => {
                let length = usize::try_from(read_varint(&mut message)?).ok()?;
                Field::Bytes(message.split_off(..length)?)
            }
            _ => return None,
        };
        if key >> 3 == number {
            return Some(field);
        }
    }
    None
}

fn read_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.split_off_first()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_spans_are_read_from_a_response() {
        let partial = |rejected: u64, message: &str| {
            let mut partial = Message::default();
            partial.text(2, message);
            partial.number(1, rejected);
            let mut response = Message::default();
            response.message(1, &partial);
            response.into_bytes()
        };
        assert_eq!(rejected_spans(&partial(300, "too many")), 300);
        assert_eq!(rejected_spans(&partial(0, "a warning")), 0);
        for broken in [&[][..], &[0x0a], &[0x0a, 0xff], &[0x0a, 2, 8], &[0xff; 20], b"ok", &[9, 9]]
        {
            assert_eq!(rejected_spans(broken), 0, "{broken:?}");
        }
    }

    #[test]
    fn moments_are_unix_time() {
        let clock = Clock { instant: Instant::now(), since_epoch: Duration::from_secs(100) };
        assert_eq!(clock.nanoseconds(clock.instant), 100_000_000_000);
        let later = clock.instant + Duration::from_secs(1);
        let clock = Clock { instant: later, ..clock };
        assert_eq!(clock.nanoseconds(later - Duration::from_secs(1)), 99_000_000_000);
    }
}
