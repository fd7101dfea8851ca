//! The texts of the pages in the reader's language.
//!
//! Each text has one key and stands once in each file of `texts/`: the server fills it into the page, or a script of
//! the page looks it up in the part of the file that the page brings along.

use std::collections::BTreeMap;

use axum::http::HeaderMap;
use axum::http::header::{ACCEPT_LANGUAGE, COOKIE};

/// The texts of one language by their keys.
pub(super) type Texts = BTreeMap<String, String>;

/// A language that the pages speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Language {
    English,
    Korean,
}

impl Language {
    pub(super) const ALL: [Self; 2] = [Self::English, Self::Korean];

    /// The BCP 47 tag.
    pub(super) const fn tag(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::Korean => "ko",
        }
    }

    pub(super) const fn other(self) -> Self {
        match self {
            Self::English => Self::Korean,
            Self::Korean => Self::English,
        }
    }

    /// The language that the reader chose on the page, else the first one of the browser's that there is, else English.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        Self::chosen(headers).or_else(|| Self::accepted(headers)).unwrap_or(Self::English)
    }

    /// The cookie `lang`, which the page's switch sets.
    fn chosen(headers: &HeaderMap) -> Option<Self> {
        let cookies = headers.get_all(COOKIE).iter().filter_map(|field| field.to_str().ok());
        cookies
            .flat_map(|field| field.split(';'))
            .find_map(|cookie| Self::tagged(cookie.trim().strip_prefix("lang=")?))
    }

    /// `Accept-Language` (RFC 9110, section 12.5.4). Of equal weights, the first.
    fn accepted(headers: &HeaderMap) -> Option<Self> {
        let mut best: Option<(f32, Self)> = None;
        for field in headers.get_all(ACCEPT_LANGUAGE) {
            for range in field.to_str().unwrap_or_default().split(',') {
                let (tag, parameter) = range.split_once(';').unwrap_or((range, ""));
                let weight = parameter.trim().strip_prefix("q=").map_or(Ok(1.0), str::parse::<f32>);
                let Some(language) = Self::tagged(tag.trim()) else { continue };
                let weight = weight.unwrap_or(0.0);
                if weight > best.map_or(0.0, |(most, _)| most) {
                    best = Some((weight, language));
                }
            }
        }
        best.map(|(_, language)| language)
    }

    /// `ko`, `ko-KR` and `KO` are Korean.
    fn tagged(tag: &str) -> Option<Self> {
        let primary = tag.split('-').next().unwrap_or_default();
        Self::ALL.into_iter().find(|language| language.tag().eq_ignore_ascii_case(primary))
    }

    pub(super) fn texts(self) -> Texts {
        let file = match self {
            Self::English => include_str!("texts/en.json"),
            Self::Korean => include_str!("texts/ko.json"),
        };
        // A test reads both.
        serde_json::from_str(file).unwrap_or_default()
    }
}

/// Replaces each `{{name}}` of a page; an unknown name stays as it is.
pub(super) fn fill(page: &str, value: impl Fn(&str) -> Option<String>) -> String {
    let mut filled = String::with_capacity(page.len() * 2);
    let mut rest = page;
    while let Some((before, after)) = rest.split_once("{{") {
        let Some((name, after)) = after.split_once("}}") else { break };
        filled.push_str(before);
        filled.push_str(&value(name).unwrap_or_else(|| format!("{{{{{name}}}}}")));
        rest = after;
    }
    filled.push_str(rest);
    filled
}

/// A text as the content of an element or of a quoted attribute.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// The texts whose keys begin with one of the prefixes, as the content of a `<script type="application/json">`, which
/// a browser does not execute.
pub(super) fn data_block(texts: &Texts, prefixes: &[&str]) -> String {
    let wanted = |key: &str| prefixes.iter().any(|prefix| key.starts_with(prefix));
    let wanted: BTreeMap<_, _> = texts.iter().filter(|(key, _)| wanted(key)).collect();
    // `</script>` would end the block.
    serde_json::to_string(&wanted).unwrap_or_default().replace('<', "\\u003c")
}

#[cfg(test)]
mod tests;
