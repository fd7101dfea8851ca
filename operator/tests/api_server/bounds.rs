//! `bounds.yaml` against a real API server: what it takes and refuses, and that the operator can read
//! and build what it takes.

use std::collections::BTreeMap;

use flashsale_operator::crd::FlashSale;
use flashsale_operator::flash_sale::build::build;
use flashsale_operator::flash_sale::build::credentials::Passwords;
use flashsale_operator::flash_sale::dereference::{EventSecrets, References};
use flashsale_operator::flash_sale::validate::validate;
use k8s_openapi::ByteString;
use kube::api::{DynamicObject, PostParams};
use kube::{Api, Client, CustomResourceExt};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::support::{images, minimal, namespace};

#[derive(Deserialize)]
struct Bound {
    field: String,
    takes: Vec<Case>,
    refuses: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    spec: Option<Value>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    #[serde(default)]
    entry: Map<String, Value>,
    #[serde(default)]
    catalog: Map<String, Value>,
}

fn bounds() -> Vec<Bound> {
    serde_norway::from_str(include_str!("../../../bounds.yaml")).unwrap()
}

/// What the API server makes of a new sale with this spec, and whether the operator can read it. Not by a
/// server-side apply: its body is read as YAML, which makes a blank of U+0085.
async fn ask(client: &Client, namespace: &str, spec: &Value) -> kube::Result<FlashSale> {
    let mut sale = minimal("black-friday");
    merge(&mut sale["spec"], spec);
    let sale: DynamicObject = serde_json::from_value(sale).unwrap();
    let sales: Api<DynamicObject> =
        Api::namespaced_with(client.clone(), namespace, &FlashSale::api_resource());
    let params = PostParams { dry_run: true, ..PostParams::default() };
    let sale = serde_json::to_value(sales.create(&params, &sale).await?).unwrap();
    serde_json::from_value(sale).map_err(kube::Error::SerdeError)
}

fn merge(into: &mut Value, changes: &Value) {
    match changes {
        Value::Object(changes) if !changes.is_empty() => {
            for (key, value) in changes {
                merge(&mut into[key], value);
            }
        }
        other => *into = other.clone(),
    }
}

/// Secrets that the sale refers to, with whatever it needs of them.
fn secrets(sale: &FlashSale) -> References {
    let uri = sale.spec.database.secret_ref.as_ref().map_or("uri", |secret| &secret.key);
    let data = |values: &[(&str, &str)]| {
        let bytes = |value: &str| ByteString(value.as_bytes().to_vec());
        values.iter().map(|(key, value)| ((*key).to_owned(), bytes(value))).collect()
    };
    let own = ["username", "password", "database"].map(|key| (key, "value"));
    References {
        auth: Some(data(&[("jwt-secret", "0123456789abcdef0123456789abcdef")])),
        database: Some(data(&[&[(uri, "postgres://user@host/name")], &own[..]].concat())),
        events: EventSecrets {
            webhook_key: Some(data(&[("webhook-key", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")])),
            ..EventSecrets::default()
        },
        ..References::default()
    }
}

/// What differs between the case of this field and what the operator makes of the sale.
fn differences(sale: &FlashSale, field: &str, case: &Case) -> Vec<String> {
    let valid = validate(sale, secrets(sale), &images()).unwrap();
    let built = build(&valid, &Passwords::generate()).unwrap();
    let pod = if field.starts_with("spec.seed.") {
        built.seed.spec.and_then(|seed| seed.template.spec)
    } else {
        built.app.spec.and_then(|app| app.template.spec)
    };
    let pod = pod.unwrap();
    let env = pod.containers[0].env.clone().unwrap();
    let made = |name: &str| env.iter().find(|it| it.name == name).and_then(|it| it.value.clone());
    let settings = case.env.iter().filter_map(|(name, value)| {
        let made = made(name);
        (made.as_ref() != Some(value)).then(|| format!("{name} is {made:?}, not {value:?}"))
    });
    let catalog: Value =
        serde_json::from_str(&built.catalog.data.unwrap()["catalog.json"]).unwrap();
    let product = &catalog["products"][0];
    let entries = case.entry.iter().filter_map(|(name, value)| {
        let made = &product[name];
        (made != value).then(|| format!("{name} is {made}, not {value}"))
    });
    let catalog = case.catalog.iter().filter_map(|(name, value)| {
        let made = &catalog[name];
        (made != value).then(|| format!("{name} is {made}, not {value}"))
    });
    settings.chain(entries).chain(catalog).collect()
}

#[tokio::test]
async fn what_is_within_the_bounds_is_taken_and_means_what_the_app_reads() {
    let (client, namespace) = namespace("bounds-within").await;
    let mut wrong = Vec::new();
    for Bound { field, takes, .. } in bounds() {
        for case in takes {
            let Some(spec) = &case.spec else { continue };
            let differences = match ask(&client, &namespace, spec).await {
                Ok(sale) => differences(&sale, &field, &case),
                Err(error) => vec![error.to_string()],
            };
            wrong.extend(differences.into_iter().map(|why| format!("{field} {spec}: {why}")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn what_is_out_of_the_bounds_is_refused_and_names_the_field() {
    let (client, namespace) = namespace("bounds-beyond").await;
    let mut wrong = Vec::new();
    for Bound { field, refuses, .. } in bounds() {
        for Case { spec, .. } in refuses {
            let Some(spec) = spec else { continue };
            match ask(&client, &namespace, &spec).await {
                Err(kube::Error::Api(status)) if status.message.contains(&field) => {}
                other => wrong.push(format!("{field} {spec}: {other:?}")),
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
