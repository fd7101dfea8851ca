//! Checks each answer that a test receives against the OpenAPI document.

use std::sync::LazyLock;

use serde_json::Value;

static DOCUMENT: LazyLock<Value> =
    LazyLock::new(|| serde_json::to_value(flashsale_app::api::openapi()).unwrap());

/// Answers of no operation: a defect, an unknown path, an unknown method.
const UNDOCUMENTED: [&str; 3] = ["internal", "not_found", "method_not_allowed"];

/// Fails when no operation of the path lists the problem. The method of an answer is not known.
pub fn check(path: &str, status: u16, body: &Value) {
    let Some(code) = body["code"].as_str().filter(|code| !UNDOCUMENTED.contains(code)) else {
        return;
    };
    let paths = DOCUMENT["paths"].as_object().unwrap();
    let mut operations = paths
        .iter()
        .filter(|(template, _)| matches(template, path))
        .flat_map(|(_, methods)| methods.as_object().unwrap().values())
        .peekable();
    let lists = |operation: &Value| {
        let problem = &operation["responses"][status.to_string()]["description"];
        problem.as_str().is_some_and(|codes| codes.contains(&format!("`{code}`")))
    };
    let known = operations.peek().is_some();
    assert!(!known || operations.any(lists), "{path}: {status} `{code}` is not documented");
}

/// Whether a path is one of a template such as `/v1/orders/{id}`.
fn matches(template: &str, path: &str) -> bool {
    let (template, path) = (template.split('/'), path.split('/'));
    template.clone().count() == path.clone().count()
        && template.zip(path).all(|(name, segment)| name.starts_with('{') || name == segment)
}
