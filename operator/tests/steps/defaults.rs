//! `kubectl explain` shows no defaults, so descriptions name them.

use flashsale_operator::crd::custom_resource_definition;
use serde_json::Value;

#[test]
fn descriptions_name_the_defaults() {
    let definition = serde_json::to_value(custom_resource_definition().unwrap()).unwrap();
    let mut wrong = Vec::new();
    check(
        "spec",
        &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"],
        &mut wrong,
    );
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn check(path: &str, schema: &Value, wrong: &mut Vec<String>) {
    let default = match &schema["default"] {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        value @ (Value::Bool(_) | Value::Number(_)) => Some(value.to_string()),
        _ => None,
    };
    let description = schema["description"].as_str().unwrap_or_default();
    let named =
        default.iter().filter(|it| description.ends_with(&format!("Default: {it}."))).count();
    if default.iter().count() != named || description.matches("Default").count() != named {
        wrong.push(format!("{path}: {default:?} in {description:?}"));
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        check(&format!("{path}.{name}"), property, wrong);
    }
    if schema["items"].is_object() {
        check(&format!("{path}[]"), &schema["items"], wrong);
    }
}
