//! The sale page and the administration page: static files in the binary, which call the API.
//!
//! The pages have no inline code and no foreign resources, so the content security policy forbids
//! both. Each page exists once in each language.

mod asset;
mod texts;

use std::sync::LazyLock;

use axum::Router;
use axum::http::{HeaderMap, Uri};
use axum::routing::get;

use self::asset::Asset;
use self::texts::{Language, data_block, escaped, fill};
use crate::api::state::AppState;

/// Path, media type and content of each file.
const FILES: [(&str, &str, &str); 8] = [
    ("/app.css", "text/css; charset=utf-8", include_str!("page/app.css")),
    ("/common.js", "text/javascript; charset=utf-8", include_str!("page/common.js")),
    ("/feed.js", "text/javascript; charset=utf-8", include_str!("page/feed.js")),
    ("/waitlist.js", "text/javascript; charset=utf-8", include_str!("page/waitlist.js")),
    ("/app.js", "text/javascript; charset=utf-8", include_str!("page/app.js")),
    ("/admin.js", "text/javascript; charset=utf-8", include_str!("page/admin.js")),
    ("/orders.js", "text/javascript; charset=utf-8", include_str!("page/orders.js")),
    ("/icon.svg", "image/svg+xml", include_str!("page/icon.svg")),
];
const PAGES: [Page; 2] = [
    Page { path: "/", html: include_str!("page/index.html"), texts: "sale." },
    Page { path: "/admin", html: include_str!("page/admin.html"), texts: "admin." },
];

/// A page with `{{names}}` of files and texts.
struct Page {
    path: &'static str,
    html: &'static str,
    /// What the keys of its own texts begin with.
    texts: &'static str,
}

impl Page {
    fn in_language(&self, language: Language) -> Asset {
        let texts = language.texts();
        let value = |name: &str| match name {
            "lang" => Some(language.tag().to_owned()),
            "other" => Some(language.other().tag().to_owned()),
            "texts" => Some(data_block(&texts, &["common.", "error.", "rule.", self.texts])),
            // `{{app.js}}` becomes the URL of the file with its version.
            _ => match name.strip_prefix("t:") {
                Some(key) => texts.get(key).map(|text| escaped(text)),
                None => ASSETS.iter().find(|asset| asset.path[1..] == *name).map(Asset::url),
            },
        };
        let html = fill(self.html, value);
        Asset::new(self.path, "text/html; charset=utf-8", html).in_language(language.tag())
    }
}

static ASSETS: LazyLock<Vec<Asset>> = LazyLock::new(|| {
    FILES.iter().map(|&(path, kind, text)| Asset::new(path, kind, without_comments(text))).collect()
});

/// A file as browsers get it. Lines that are comments of a script are empty, so that the others keep their numbers.
fn without_comments(text: &str) -> String {
    let is_comment = |line: &str| line.trim_start().starts_with("//");
    let lines = text.lines().map(|line| if is_comment(line) { "" } else { line });
    lines.collect::<Vec<_>>().join("\n")
}

/// Each page in each language, in the order of [`Language::ALL`].
static TRANSLATED: LazyLock<Vec<[Asset; 2]>> = LazyLock::new(|| {
    let in_all = |page: &Page| Language::ALL.map(|language| page.in_language(language));
    PAGES.iter().map(in_all).collect()
});

/// Where the pages and their files are.
pub(crate) fn paths() -> impl Iterator<Item = &'static str> {
    let files = ASSETS.iter().map(|asset| asset.path);
    files.chain(TRANSLATED.iter().map(|[page, _]| page.path))
}

/// The pages and their files.
pub(crate) fn routes() -> Router<AppState> {
    let files = ASSETS.iter().fold(Router::new(), |router, asset| {
        let answer = async |headers: HeaderMap, uri: Uri| asset.answer(&headers, &uri);
        router.route(asset.path, get(answer))
    });
    TRANSLATED.iter().fold(files, |router, [english, korean]| {
        let answer = async |headers: HeaderMap, uri: Uri| match Language::of(&headers) {
            Language::English => english.answer(&headers, &uri),
            Language::Korean => korean.answer(&headers, &uri),
        };
        router.route(english.path, get(answer))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_are_not_sent_and_the_other_lines_keep_their_numbers() {
        let text = "// Why.\nconst a = '//'; // one\n  // And why.\na { b: c; }\n";
        assert_eq!(without_comments(text), "\nconst a = '//'; // one\n\na { b: c; }");
    }

    #[test]
    fn pages_name_their_files_with_their_versions_and_have_nothing_inline() {
        let pages = TRANSLATED.iter().flatten();
        for page in pages {
            let text = std::str::from_utf8(&page.content).unwrap();
            assert!(!text.contains("{{"), "unknown file or text: {}", page.path);
            let inline = |word: &str| word.starts_with("on") && word.contains('=');
            assert!(!text.contains("<style") && !text.contains(" style="));
            assert!(!text.split_whitespace().any(inline));
            let scripts = text.split("<script").skip(1);
            for script in scripts {
                let data = script.starts_with(" id=\"texts\" type=\"application/json\">");
                assert!(data || script.starts_with(" src=\"/"), "{script}");
            }
            for asset in ASSETS.iter().filter(|asset| text.contains(&asset.path[1..])) {
                assert!(text.contains(&asset.url()));
            }
        }
    }
}
