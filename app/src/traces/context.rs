//! W3C Trace Context: the headers `traceparent` and `tracestate`.

use axum::http::{HeaderMap, HeaderName};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
/// Characters of a `tracestate` that are kept; the standard demands 512.
const LONGEST_STATE: usize = 512;
/// The bit of a sampled trace.
const SAMPLED: u8 = 1;

/// The caller's span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RemoteParent {
    pub(super) trace: u128,
    pub(super) span: u64,
    pub(super) is_sampled: bool,
}

impl RemoteParent {
    /// The caller's span; `None` without a header, or with one that is not valid.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(TRACEPARENT).iter();
        let value = values.next()?;
        // Two of them contradict each other.
        if values.next().is_some() {
            return None;
        }
        Self::read(value.to_str().ok()?.trim())
    }

    fn read(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let version = hexadecimal::<2>(parts.next()?)?;
        let trace = hexadecimal::<32>(parts.next()?)?;
        let span = hexadecimal::<16>(parts.next()?)?;
        let flags = hexadecimal::<2>(parts.next()?)?;
        // A later version may append parts.
        let is_complete = version != 0 || parts.next().is_none();
        let is_valid = version != 0xff && trace != 0 && span != 0 && is_complete;
        is_valid.then_some(Self {
            trace,
            span: u64::try_from(span).ok()?,
            is_sampled: u8::try_from(flags).ok()? & SAMPLED != 0,
        })
    }
}

/// What vendors pass on beside the parent; empty if it is absent or too long.
pub(super) fn trace_state(headers: &HeaderMap) -> String {
    let values = headers.get_all(TRACESTATE).iter();
    let texts: Option<Vec<&str>> = values.map(|value| value.to_str().ok()).collect();
    let state = texts.unwrap_or_default().join(",");
    if state.len() > LONGEST_STATE { String::new() } else { state }
}

/// A number of exactly this many digits, with small letters.
fn hexadecimal<const DIGITS: usize>(text: &str) -> Option<u128> {
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let is_number = text.len() == DIGITS && text.bytes().all(is_digit);
    is_number.then(|| u128::from_str_radix(text, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_valid_header_is_read() {
        let parent = RemoteParent {
            trace: 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736,
            span: 0x00f0_67aa_0ba9_02b7,
            is_sampled: true,
        };
        assert_eq!(RemoteParent::read(PARENT), Some(parent));
        let unsampled = RemoteParent { is_sampled: false, ..parent };
        for (text, expected) in [
            (PARENT.replace("-01", "-00"), unsampled),
            (PARENT.replace("-01", "-02"), unsampled),
            (PARENT.replace("-01", "-03"), parent),
            (PARENT.replace("00-4", "cc-4"), parent),
            (PARENT.replace("00-4", "cc-4") + "-what-will-come", parent),
        ] {
            assert_eq!(RemoteParent::read(&text), Some(expected), "{text}");
        }
    }

    #[test]
    fn an_invalid_header_is_ignored() {
        for wrong in [
            String::new(),
            "00".to_owned(),
            PARENT.to_uppercase(),
            PARENT.replace("00-4", "ff-4"),
            PARENT.replace("00-4", "0-4"),
            PARENT.replace("-01", ""),
            PARENT.replace("-01", "-1"),
            PARENT.replace("-01", "-0g"),
            PARENT.to_owned() + "-more",
            PARENT.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            PARENT.replace("00f067aa0ba902b7", &"0".repeat(16)),
            PARENT.replace("4bf9", "4bf"),
            PARENT.replace("4bf9", "+bf9"),
        ] {
            assert_eq!(RemoteParent::read(&wrong), None, "{wrong}");
        }
        let mut headers = HeaderMap::new();
        assert_eq!(RemoteParent::of(&headers), None);
        headers.append(TRACEPARENT, HeaderValue::from_static(PARENT));
        assert!(RemoteParent::of(&headers).is_some());
        headers.append(TRACEPARENT, HeaderValue::from_static(PARENT));
        assert_eq!(RemoteParent::of(&headers), None, "two headers");
    }

    #[test]
    fn a_state_is_kept_whole_or_not_at_all() {
        let mut headers = HeaderMap::new();
        assert_eq!(trace_state(&headers), "");
        headers.append(TRACESTATE, HeaderValue::from_static("a=1"));
        headers.append(TRACESTATE, HeaderValue::from_static("b=2,c=3"));
        assert_eq!(trace_state(&headers), "a=1,b=2,c=3");
        headers.append(TRACESTATE, format!("d={}", "x".repeat(500)).parse().unwrap());
        assert_eq!(trace_state(&headers), "");
    }
}
