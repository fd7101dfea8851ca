use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::api::router::openapi;

fn document() -> Value {
    serde_json::to_value(openapi()).unwrap()
}

/// Every operation by its id, which is unique.
fn operations() -> BTreeMap<String, Value> {
    let mut operations = BTreeMap::new();
    for methods in document()["paths"].as_object().unwrap().values() {
        for operation in methods.as_object().unwrap().values() {
            let id = operation["operationId"].as_str().unwrap().to_owned();
            assert!(operations.insert(id.clone(), operation.clone()).is_none(), "{id} twice");
        }
    }
    operations
}

/// `get_stock` as generators name its types: `GetStock`.
fn type_name(operation_id: &str) -> String {
    let word = |word: &str| word[..1].to_uppercase() + &word[1..];
    operation_id.split('_').map(word).collect()
}

#[test]
fn no_schema_has_a_name_that_generators_give_to_a_type_of_an_operation() {
    let document = document();
    let schemas = document["components"]["schemas"].as_object().unwrap();
    let suffixes = ["", "Request", "Response", "Params", "Body", "JSONBody", "JSONRequestBody"];
    for id in operations().keys() {
        for suffix in suffixes {
            let name = type_name(id) + suffix;
            assert!(!schemas.contains_key(&name), "{id} collides with the schema {name}");
        }
    }
}

#[test]
fn a_value_that_is_never_null_is_not_said_to_be() {
    let document = document();
    let mut nullable = BTreeSet::new();
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        let properties = schema["properties"].as_object().into_iter().flatten();
        for (field, schema) in properties {
            if schema.to_string().contains("\"null\"") {
                nullable.insert(format!("{name}.{field}"));
            }
        }
    }
    // What a request may leave out it may also send as null.
    let requests = [
        "CouponRequest",
        "NewAccount",
        "NewProduct",
        "NewTerms",
        "PaymentReport",
        "Refund",
        "Restock",
    ];
    nullable.retain(|field| !requests.iter().any(|request| field.starts_with(request)));
    assert_eq!(nullable, ["SaleView.ends_at", "SaleView.starts_at"].map(str::to_owned).into());
}

#[test]
fn times_and_states_are_no_mere_strings() {
    let document = document();
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        let Some(properties) = schema["properties"].as_object() else { continue };
        for (field, schema) in properties {
            if field.ends_with("_at") || field == "now" {
                assert_eq!(schema["format"], "date-time", "{name}.{field}");
            }
            if field == "state" {
                let of = schema["$ref"].as_str().unwrap().rsplit('/').next().unwrap();
                assert!(document["components"]["schemas"][of]["enum"].is_array(), "{name}.{field}");
            }
        }
    }
    for (id, operation) in operations() {
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            let schema = &parameter["schema"];
            match parameter["name"].as_str().unwrap() {
                "from" | "until" => assert_eq!(schema["format"], "date-time", "{id}"),
                "state" | "format" => assert!(schema["enum"].is_array(), "{id}: {schema}"),
                _ => {}
            }
        }
    }
}

#[test]
fn a_code_has_one_status_everywhere() {
    let mut statuses = BTreeMap::<String, BTreeSet<String>>::new();
    for operation in operations().values() {
        for (status, response) in operation["responses"].as_object().unwrap() {
            let description = response["description"].as_str().unwrap_or_default();
            for code in description.split('`').skip(1).step_by(2) {
                statuses.entry(code.to_owned()).or_default().insert(status.clone());
            }
        }
    }
    // The advice that follows a code, a field, a success, and the one code of two limits.
    for other in ["Retry-After", "state", "from", "too_many_listeners"] {
        statuses.remove(other);
    }
    statuses.retain(|_, statuses| statuses.len() > 1);
    assert_eq!(statuses, BTreeMap::new());
}
