//! The files of texts against each other, the pages, the scripts and the error codes.

use std::collections::BTreeSet;

use axum::http::{HeaderName, HeaderValue};

use super::*;

const PAGES: [&str; 2] = [include_str!("../index.html"), include_str!("../admin.html")];
const SCRIPTS: [&str; 6] = [
    include_str!("../common.js"),
    include_str!("../app.js"),
    include_str!("../feed.js"),
    include_str!("../waitlist.js"),
    include_str!("../admin.js"),
    include_str!("../orders.js"),
];
const TROUBLESHOOTING: &str = include_str!("../../../../../docs/TROUBLESHOOTING.md");

fn language(fields: &[(HeaderName, &'static str)]) -> Language {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(name, HeaderValue::from_static(value));
    }
    Language::of(&headers)
}

#[test]
fn the_choice_of_the_reader_comes_before_the_browsers_languages() {
    use Language::{English, Korean};
    let accepted = |value| language(&[(ACCEPT_LANGUAGE, value)]);
    assert_eq!(language(&[]), English);
    assert_eq!(accepted("ko-KR,ko;q=0.9,en-US;q=0.8,en;q=0.7"), Korean);
    assert_eq!(accepted("en-US,en;q=0.9,ko;q=0.8"), English);
    assert_eq!(accepted("fr-FR, fr;q=0.9, KO;q=0.5, en;q=0.4"), Korean);
    assert_eq!(accepted("en;q=0.5,ko;q=0.7"), Korean);
    assert_eq!(accepted("ko;q=0,en;q=0.1"), English);
    assert_eq!(accepted("kok, *"), English, "Konkani is not Korean");
    assert_eq!(accepted("ko;q=many"), English);
    assert_eq!(language(&[(ACCEPT_LANGUAGE, "en"), (COOKIE, "a=b; lang=ko")]), Korean);
    assert_eq!(language(&[(ACCEPT_LANGUAGE, "ko"), (COOKIE, "lang=en")]), English);
    assert_eq!(language(&[(ACCEPT_LANGUAGE, "ko"), (COOKIE, "slang=en; lang=<b>")]), Korean);
}

/// The names in braces.
fn placeholders(text: &str) -> BTreeSet<&str> {
    text.split('{').skip(1).filter_map(|rest| rest.split('}').next()).collect()
}

#[test]
fn every_text_exists_in_both_languages_with_the_same_placeholders() {
    let [english, korean] = Language::ALL.map(Language::texts);
    assert!(english.len() > 100);
    assert_eq!(english.keys().collect::<Vec<_>>(), korean.keys().collect::<Vec<_>>());
    for (key, text) in &english {
        assert_eq!(placeholders(text), placeholders(&korean[key]), "{key}");
        assert!(!text.trim().is_empty() && !korean[key].trim().is_empty(), "{key}");
        let hangul = |text: &str| text.chars().any(|c| ('가'..='힣').contains(&c));
        let is_name = key == "common.other_language";
        assert!(is_name || !hangul(text), "{key} of the English texts is Korean");
        let mut own = text.split('{').map(|part| part.split('}').next_back().unwrap_or_default());
        let has_words = own.any(|part| part.chars().any(char::is_alphabetic));
        let is_korean = !has_words || hangul(&korean[key]);
        assert!(is_name || is_korean, "{key} of the Korean texts is not Korean");
    }
}

/// The keys that pages and scripts name; those of scripts that end with a dot are prefixes.
fn named() -> BTreeSet<String> {
    let mut named = BTreeSet::new();
    for page in PAGES {
        let keys = page.split("{{t:").skip(1).filter_map(|rest| rest.split("}}").next());
        named.extend(keys.map(str::to_owned));
    }
    for script in SCRIPTS {
        for quote in ['\'', '`'] {
            for literal in script.split(quote) {
                let key = literal.split("${").next().unwrap_or_default();
                let is_key = ["common.", "error.", "rule.", "sale.", "admin."]
                    .iter()
                    .any(|prefix| key.starts_with(prefix));
                if is_key && key.chars().all(|c| c.is_ascii_alphanumeric() || "._".contains(c)) {
                    named.insert(key.to_owned());
                }
            }
        }
    }
    named
}

#[test]
fn every_text_is_used_and_every_used_text_exists() {
    let texts = Language::English.texts();
    let named = named();
    for name in &named {
        // `sale.bought` stands for `sale.bought.one` and `sale.bought.other`.
        let plural = format!("{name}.other");
        let exists = if name.ends_with('.') {
            texts.keys().any(|key| key.starts_with(name))
        } else {
            texts.contains_key(name) || texts.contains_key(&plural)
        };
        assert!(exists, "there is no text {name}");
    }
    for key in texts.keys() {
        let singular = key.strip_suffix(".one").or_else(|| key.strip_suffix(".other"));
        let used = named.contains(key)
            || singular.is_some_and(|key| named.contains(key))
            || named.iter().any(|name| name.ends_with('.') && key.starts_with(name));
        assert!(used, "nothing uses the text {key}");
    }
}

#[test]
fn the_scripts_have_no_text_of_their_own() {
    for script in SCRIPTS {
        for line in script.lines().filter(|line| !line.trim_start().starts_with("//")) {
            let code = line.split(" // ").next().unwrap_or_default();
            for literal in code.split(['\'', '`']).skip(1).step_by(2) {
                let words = literal.split_whitespace().filter(|word| {
                    word.len() > 1 && word.chars().all(|c| c.is_alphabetic() || ".,!?’".contains(c))
                });
                // `use strict` and lists of classes are two words.
                assert!(words.count() < 3, "a text in code: {literal:?}");
            }
        }
    }
}

#[test]
fn every_documented_error_code_has_a_text() {
    let texts = Language::English.texts();
    let (_, table) = TROUBLESHOOTING.split_once("## Error codes").unwrap();
    let (table, _) = table.split_once("\nMalformed HTTP").unwrap();
    let cells = table.lines().filter_map(|line| line.strip_prefix("| `")?.split(" |").next());
    let codes: BTreeSet<&str> = cells
        .flat_map(|cell| cell.split(", "))
        .map(|code| code.trim_matches('`'))
        // Of plain HTTP on a port that speaks TLS, which no page calls.
        .filter(|code| *code != "https_required")
        .collect();
    assert!(codes.len() > 35);
    let of_texts: BTreeSet<&str> =
        texts.keys().filter_map(|key| key.strip_prefix("error.")).collect();
    let of_pages = BTreeSet::from(["no_answer", "unknown"]);
    assert_eq!(of_texts, &codes | &of_pages);
}

#[test]
fn texts_cannot_become_markup() {
    assert_eq!(escaped("<b title=\"a\">&"), "&lt;b title=&quot;a&quot;&gt;&amp;");
    let texts = Texts::from([
        ("sale.a".to_owned(), "</script>".to_owned()),
        ("admin.a".to_owned(), String::new()),
    ]);
    assert_eq!(data_block(&texts, &["sale."]), r#"{"sale.a":"\u003c/script>"}"#);
    let page = fill("a {{x}} {{y}} b", |name| (name == "x").then(|| "{{y}}".to_owned()));
    assert_eq!(page, "a {{y}} {{y}} b");
}
