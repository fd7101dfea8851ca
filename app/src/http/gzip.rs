//! gzip for answers.
//!
//! Only the routes that ask for it are compressed, so a purchase pays nothing, an event is sent at once, and an answer
//! with an access token is never compressed (its length would depend on the token; compare the BREACH attack).

use std::io::{Read, Write};

use axum::body::{Body, Bytes, HttpBody, to_bytes};
use axum::extract::Request;
use axum::http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, VARY};
use axum::http::{HeaderMap, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;

/// Bytes. A shorter answer fits into one packet in any case.
const LEAST: u64 = 1024;
const GZIP: HeaderValue = HeaderValue::from_static("gzip");
const BY_ENCODING: HeaderValue = HeaderValue::from_static("accept-encoding");

/// Whether a client accepts gzip (RFC 9110, section 12.5.3). One that sends no `Accept-Encoding` does not.
pub(crate) fn is_accepted(headers: &HeaderMap) -> bool {
    let mut any = false;
    for field in headers.get_all(ACCEPT_ENCODING) {
        for coding in field.to_str().unwrap_or_default().split(',') {
            let (name, parameter) = coding.split_once(';').unwrap_or((coding, ""));
            let weight = parameter.trim().strip_prefix("q=").map_or(Ok(1.0), str::parse::<f32>);
            let wanted = weight.is_ok_and(|weight| weight > 0.0);
            match name.trim() {
                name if name.eq_ignore_ascii_case("gzip") => return wanted,
                "*" => any = wanted,
                _ => {}
            }
        }
    }
    any
}

/// The smallest form, for what is compressed once and sent often.
pub(crate) fn smallest(bytes: &[u8]) -> Bytes {
    compress(bytes, Compression::best())
}

fn compress(bytes: &[u8], level: Compression) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 4), level);
    // Writing to memory does not fail.
    let _ = encoder.write_all(bytes);
    encoder.finish().unwrap_or_default().into()
}

/// Middleware that compresses large JSON answers.
pub(crate) async fn compress_json(request: Request, next: Next) -> Response {
    let accepted = is_accepted(request.headers());
    let mut response = next.run(request).await;
    let is_json =
        response.headers().get(CONTENT_TYPE).is_some_and(|kind| kind == "application/json");
    if !is_json {
        return response;
    }
    response.headers_mut().append(VARY, BY_ENCODING);
    // The whole answer is in memory already.
    let is_large = response.body().size_hint().exact().is_some_and(|bytes| bytes >= LEAST);
    if !accepted || !is_large {
        return response;
    }
    replace_body(response, Some(GZIP), |bytes| compress(bytes, Compression::fast())).await
}

/// Middleware for files that are kept compressed: a client that does not accept gzip gets them as they were.
pub(crate) async fn expand_files(request: Request, next: Next) -> Response {
    let accepted = is_accepted(request.headers());
    let mut response = next.run(request).await;
    if response.headers().get(CONTENT_ENCODING) != Some(&GZIP) {
        return response;
    }
    response.headers_mut().append(VARY, BY_ENCODING);
    if accepted {
        return response;
    }
    let expand = |bytes: &[u8]| {
        let mut expanded = Vec::new();
        // The files are part of this binary, and complete.
        let _ = GzDecoder::new(bytes).read_to_end(&mut expanded);
        expanded.into()
    };
    replace_body(response, None, expand).await
}

/// Replaces a body that is in memory.
async fn replace_body(
    response: Response,
    encoding: Option<HeaderValue>,
    replace: impl Fn(&[u8]) -> Bytes,
) -> Response {
    let (mut parts, body) = response.into_parts();
    // It is in memory, so it neither fails nor ends early.
    let body = to_bytes(body, usize::MAX).await.unwrap_or_default();
    parts.headers.remove(CONTENT_LENGTH);
    match encoding {
        Some(encoding) => drop(parts.headers.insert(CONTENT_ENCODING, encoding)),
        None => drop(parts.headers.remove(CONTENT_ENCODING)),
    }
    Response::from_parts(parts, Body::from(replace(&body)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepts(fields: &[&'static str]) -> bool {
        let mut headers = HeaderMap::new();
        for field in fields {
            headers.append(ACCEPT_ENCODING, HeaderValue::from_static(field));
        }
        is_accepted(&headers)
    }

    #[test]
    fn a_client_accepts_what_it_names_with_a_weight_above_zero() {
        assert!(accepts(&["gzip, deflate, br, zstd"]));
        assert!(accepts(&["br", "GZIP"]));
        assert!(accepts(&["gzip;q=0.001"]));
        assert!(accepts(&["br;q=1.0, gzip; q=0.8, *;q=0"]));
        assert!(accepts(&["*"]));
        assert!(!accepts(&[]));
        assert!(!accepts(&[""]));
        assert!(!accepts(&["br, gzipped"]));
        assert!(!accepts(&["gzip;q=0, *"]));
        assert!(!accepts(&["*;q=0.000"]));
        assert!(!accepts(&["gzip;q=much"]));
    }

    #[test]
    fn what_was_compressed_is_the_same_again() {
        let text = "first come, first served ".repeat(100);
        let compressed = smallest(text.as_bytes());
        assert!(compressed.len() < text.len() / 10);
        let mut expanded = String::new();
        GzDecoder::new(&compressed[..]).read_to_string(&mut expanded).unwrap();
        assert_eq!(expanded, text);
    }
}
