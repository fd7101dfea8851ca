//! The sale page and the administration page: static files in the binary, which call the API.
//!
//! The pages have no inline code and no foreign resources, so the content security policy forbids
//! both.

use std::sync::LazyLock;

use axum::Router;
use axum::body::Bytes;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use sha2::{Digest, Sha256};

use crate::api::state::AppState;

/// The browser loads only files of this server, and text cannot become markup or a script.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
     require-trusted-types-for 'script'; trusted-types 'none'",
);
const OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");

/// Name, media type and content of each file.
const FILES: [(&str, &str, &str); 5] = [
    ("app.css", "text/css; charset=utf-8", include_str!("page/app.css")),
    ("common.js", "text/javascript; charset=utf-8", include_str!("page/common.js")),
    ("app.js", "text/javascript; charset=utf-8", include_str!("page/app.js")),
    ("admin.js", "text/javascript; charset=utf-8", include_str!("page/admin.js")),
    ("icon.svg", "image/svg+xml", include_str!("page/icon.svg")),
];
const PAGES: [(&str, &str); 2] =
    [("/", include_str!("page/index.html")), ("/admin", include_str!("page/admin.html"))];

static ASSETS: LazyLock<Vec<Asset>> = LazyLock::new(|| {
    let mut assets: Vec<Asset> = FILES
        .iter()
        .map(|&(name, kind, text)| Asset::new(format!("/{name}"), kind, text.to_owned()))
        .collect();
    for (path, text) in PAGES {
        // `{{app.js}}` becomes the URL of the file with its version.
        let named = assets.iter().fold(text.to_owned(), |text, asset| {
            let name = asset.path.trim_start_matches('/');
            text.replace(&format!("{{{{{name}}}}}"), &format!("{}?v={}", asset.path, asset.version))
        });
        assets.push(Asset::new(path.to_owned(), "text/html; charset=utf-8", named));
    }
    assets
});

/// A file and its headers.
#[derive(Debug)]
struct Asset {
    path: String,
    kind: &'static str,
    content: Bytes,
    /// Hash of the content.
    version: String,
}

impl Asset {
    fn new(path: String, kind: &'static str, text: String) -> Self {
        let digest = Sha256::digest(&text);
        let start = digest.iter().take(8).fold(0_u64, |start, byte| start << 8 | u64::from(*byte));
        let version = format!("{start:016x}");
        Self { path, kind, content: text.into(), version }
    }

    fn answer(&self, headers: &HeaderMap, uri: &Uri) -> Response {
        let tag = format!("\"{}\"", self.version);
        let known = headers.get(IF_NONE_MATCH).and_then(|known| known.to_str().ok());
        let current = uri.query() == Some(&format!("v={}", self.version));
        // A URL with a version never changes its content. Without one, browsers revalidate.
        let cache = if current { "public, max-age=31536000, immutable" } else { "no-cache" };
        let about = [
            (CONTENT_SECURITY_POLICY, POLICY),
            (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
            (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
            (OPENER_POLICY, HeaderValue::from_static("same-origin")),
            (CACHE_CONTROL, HeaderValue::from_static(cache)),
            (CONTENT_TYPE, HeaderValue::from_static(self.kind)),
        ];
        let is_known = known.is_some_and(|known| known.split(',').any(|one| one.trim() == tag));
        let body = if is_known { Bytes::new() } else { self.content.clone() };
        let status = if is_known { StatusCode::NOT_MODIFIED } else { StatusCode::OK };
        (status, about, [(ETAG, tag)], body).into_response()
    }
}

/// The pages and their files.
pub(crate) fn routes() -> Router<AppState> {
    ASSETS.iter().fold(Router::new(), |router, asset| {
        let answer = async |headers: HeaderMap, uri: Uri| asset.answer(&headers, &uri);
        router.route(&asset.path, get(answer))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_name_their_files_with_their_versions_and_have_nothing_inline() {
        let pages: Vec<_> =
            ASSETS.iter().filter(|asset| asset.kind.starts_with("text/html")).collect();
        assert_eq!(pages.len(), 2);
        for page in pages {
            let text = std::str::from_utf8(&page.content).unwrap();
            assert!(!text.contains("{{"), "unknown file: {}", page.path);
            let inline = |word: &str| word.starts_with("on") && word.contains('=');
            assert!(!text.contains("<style") && !text.contains(" style="));
            assert!(!text.split_whitespace().any(inline));
            for asset in ASSETS.iter().filter(|asset| text.contains(&asset.path[1..])) {
                if asset.kind.starts_with("text/html") {
                    continue;
                }
                assert!(text.contains(&format!("{}?v={}", asset.path, asset.version)));
            }
        }
    }

    #[test]
    fn a_known_file_is_not_sent_again_and_only_a_versioned_url_is_cached() {
        let asset = &ASSETS[0];
        let mut headers = HeaderMap::new();
        let plain = asset.answer(&headers, &Uri::from_static("/app.css"));
        assert_eq!(plain.headers()[CACHE_CONTROL], "no-cache");
        headers.insert(IF_NONE_MATCH, plain.headers()[ETAG].clone());
        let versioned = format!("/app.css?v={}", asset.version).parse().unwrap();
        let again = asset.answer(&headers, &versioned);
        assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
        assert!(again.headers()[CACHE_CONTROL].to_str().unwrap().contains("immutable"));
    }
}
