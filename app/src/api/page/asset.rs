//! A file in memory, and its headers.

use std::sync::OnceLock;

use axum::body::Bytes;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG,
    IF_NONE_MATCH, REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

use crate::http::gzip;

/// The browser loads only files of this server, and text cannot become markup or a script.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
     require-trusted-types-for 'script'; trusted-types 'none'",
);
const OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");

/// A file and its headers.
#[derive(Debug)]
pub(super) struct Asset {
    pub(super) path: &'static str,
    pub(super) kind: &'static str,
    pub(super) content: Bytes,
    /// Compressed when the first client asks for it.
    compressed: OnceLock<Bytes>,
    /// Hash of the content.
    pub(super) version: String,
    /// `None`: the same for readers of all languages.
    language: Option<&'static str>,
}

impl Asset {
    pub(super) fn new(path: &'static str, kind: &'static str, text: String) -> Self {
        let digest = Sha256::digest(&text);
        let start = digest.iter().take(8).fold(0_u64, |start, byte| start << 8 | u64::from(*byte));
        let version = format!("{start:016x}");
        let (content, compressed) = (text.into(), OnceLock::new());
        Self { path, kind, content, compressed, version, language: None }
    }

    /// One of several, for readers of this language.
    pub(super) fn in_language(self, tag: &'static str) -> Self {
        Self { language: Some(tag), ..self }
    }

    /// The URL whose content never changes.
    pub(super) fn url(&self) -> String {
        format!("{}?v={}", self.path, self.version)
    }

    pub(super) fn answer(&self, headers: &HeaderMap, uri: &Uri) -> Response {
        let compressed = gzip::is_accepted(headers);
        // Two forms of a file are two entities, so each has a tag of its own.
        let form = if compressed { "-gzip" } else { "" };
        let tag = format!("\"{}{form}\"", self.version);
        let current = uri.query() == Some(&format!("v={}", self.version));
        // A URL with a version never changes its content. Without one, browsers revalidate.
        let cache = if current { "public, max-age=31536000, immutable" } else { "no-cache" };
        let vary = match self.language {
            Some(_) => "accept-encoding, accept-language, cookie",
            None => "accept-encoding",
        };
        let language = self.language.map(|tag| [(CONTENT_LANGUAGE, tag)]);
        let about = [
            (CONTENT_SECURITY_POLICY, POLICY),
            (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
            (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
            (OPENER_POLICY, HeaderValue::from_static("same-origin")),
            (CACHE_CONTROL, HeaderValue::from_static(cache)),
            (CONTENT_TYPE, HeaderValue::from_static(self.kind)),
            (VARY, HeaderValue::from_static(vary)),
        ];
        if is_known(headers, &tag) {
            return (StatusCode::NOT_MODIFIED, about, language, [(ETAG, tag)]).into_response();
        }
        if compressed {
            let body = self.compressed.get_or_init(|| gzip::smallest(&self.content)).clone();
            let form = [(ETAG, tag.as_str()), (CONTENT_ENCODING, "gzip")];
            return (about, language, form, body).into_response();
        }
        (about, language, [(ETAG, tag)], self.content.clone()).into_response()
    }
}

/// Whether the client has this form of the file. A proxy may have made the tag a weak one.
fn is_known(headers: &HeaderMap, tag: &str) -> bool {
    let fields = headers.get_all(IF_NONE_MATCH).iter().filter_map(|field| field.to_str().ok());
    let mut tags = fields.flat_map(|field| field.split(',')).map(str::trim);
    tags.any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag)
}

#[cfg(test)]
mod tests {
    use axum::http::header::ACCEPT_ENCODING;

    use super::*;

    fn asset() -> Asset {
        Asset::new("/app.css", "text/css; charset=utf-8", "a { color: inherit; }\n".repeat(50))
    }

    fn asking(name: HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())])
    }

    #[test]
    fn a_known_file_is_not_sent_again_and_only_a_versioned_url_is_cached() {
        let asset = asset();
        let plain = asset.answer(&HeaderMap::new(), &Uri::from_static("/app.css"));
        assert_eq!(plain.headers()[CACHE_CONTROL], "no-cache");
        let tag = plain.headers()[ETAG].to_str().unwrap();
        let versioned = asset.url().parse().unwrap();
        for known in [tag.to_owned(), format!("\"a\", W/{tag}"), "*".to_owned()] {
            let again = asset.answer(&asking(IF_NONE_MATCH, &known), &versioned);
            assert_eq!(again.status(), StatusCode::NOT_MODIFIED, "{known}");
            assert_eq!(again.headers()[VARY], "accept-encoding");
            assert!(again.headers()[CACHE_CONTROL].to_str().unwrap().contains("immutable"));
        }
    }

    #[test]
    fn the_two_forms_of_a_file_have_tags_of_their_own() {
        let asset = asset();
        let uri = Uri::from_static("/app.css");
        let plain = asset.answer(&HeaderMap::new(), &uri);
        let mut headers = asking(ACCEPT_ENCODING, "gzip");
        let compressed = asset.answer(&headers, &uri);
        assert_eq!(compressed.headers()[CONTENT_ENCODING], "gzip");
        assert!(!plain.headers().contains_key(CONTENT_ENCODING));
        assert_ne!(compressed.headers()[ETAG], plain.headers()[ETAG]);
        headers.insert(IF_NONE_MATCH, plain.headers()[ETAG].clone());
        assert_eq!(asset.answer(&headers, &uri).status(), StatusCode::OK);
        headers.insert(IF_NONE_MATCH, compressed.headers()[ETAG].clone());
        let known = asset.answer(&headers, &uri);
        assert_eq!(known.status(), StatusCode::NOT_MODIFIED);
        assert!(!known.headers().contains_key(CONTENT_ENCODING));
    }
}
