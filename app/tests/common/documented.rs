//! Checks each answer that a test receives against the OpenAPI document.

use std::sync::LazyLock;

use reqwest::header::{HeaderMap, HeaderName};
use serde_json::Value;

static DOCUMENT: LazyLock<Value> =
    LazyLock::new(|| serde_json::to_value(flashsale_app::api::openapi()).unwrap());

/// Answers of no operation: an unknown path, an unknown method. And a defect, which all have.
const UNDOCUMENTED: [&str; 3] = ["internal", "not_found", "method_not_allowed"];
/// Headers of HTTP itself; the document never has them.
const COMMON: [&str; 8] = [
    "allow",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "date",
    "transfer-encoding",
    "vary",
];

/// Fails when no operation of the path lists the problem and the headers. The method of an answer is not known.
pub fn check(path: &str, status: u16, headers: &HeaderMap, body: &Value) {
    let code = body["code"].as_str();
    if code.is_some_and(|code| UNDOCUMENTED.contains(&code)) {
        return;
    }
    let paths = DOCUMENT["paths"].as_object().unwrap();
    let responses: Vec<&Value> = paths
        .iter()
        .filter(|(template, _)| matches(template, path))
        .flat_map(|(_, methods)| methods.as_object().unwrap().values())
        .map(|operation| &operation["responses"][status.to_string()])
        .collect();
    if responses.is_empty() {
        return;
    }
    if let Some(code) = code {
        let lists = |response: &&Value| {
            let problem = response["description"].as_str();
            problem.is_some_and(|codes| codes.contains(&format!("`{code}`")))
        };
        assert!(responses.iter().any(lists), "{path}: {status} `{code}` is not documented");
    }
    for name in headers.keys().map(HeaderName::as_str) {
        if COMMON.contains(&name) || name.starts_with("access-control-") {
            continue;
        }
        let declares = |response: &&Value| {
            let mut declared = response["headers"].as_object().into_iter().flatten();
            declared.any(|(declared, _)| declared.eq_ignore_ascii_case(name))
        };
        assert!(responses.iter().any(declares), "{path}: {status} has {name}, not documented");
    }
}

/// Whether a path is one of a template such as `/v1/orders/{id}`.
fn matches(template: &str, path: &str) -> bool {
    let (template, path) = (template.split('/'), path.split('/'));
    template.clone().count() == path.clone().count()
        && template.zip(path).all(|(name, segment)| name.starts_with('{') || name == segment)
}
