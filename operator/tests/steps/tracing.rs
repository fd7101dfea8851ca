//! Traces of the purchase API.

use k8s_openapi::api::core::v1::EnvVar;

use crate::build::{built, container, value};
use crate::references;

fn env(changes: &str) -> Vec<EnvVar> {
    container(&built(changes, references())).env.unwrap()
}

fn otel(env: &[EnvVar]) -> Vec<&str> {
    env.iter().map(|it| it.name.as_str()).filter(|name| name.starts_with("OTEL_")).collect()
}

#[test]
fn the_app_is_told_where_to_send_its_traces() {
    let endpoint = "app: {tracing: {endpoint: 'http://otel-collector.monitoring:4318'}}";
    let by_default = env(endpoint);
    let names = ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG"];
    assert_eq!(otel(&by_default), names);
    let values = names.map(|name| value(&by_default, name));
    let collector = "http://otel-collector.monitoring:4318";
    assert_eq!(values, [collector, "parentbased_traceidratio", "0.01"]);
    for (ratio, text) in [("0", "0"), ("1", "1"), ("0.25", "0.25"), ("0.000001", "0.000001")] {
        let changes = format!("app: {{tracing: {{endpoint: 'http://a', samplingRatio: {ratio}}}}}");
        assert_eq!(value(&env(&changes), "OTEL_TRACES_SAMPLER_ARG"), text);
    }
}

#[test]
fn headers_come_from_a_secret_that_may_be_missing() {
    let changes =
        "app: {tracing: {endpoint: 'https://traces.example', headersSecretRef: {name: key}}}";
    let env = env(changes);
    let headers = env.iter().find(|it| it.name == "OTEL_EXPORTER_OTLP_HEADERS").unwrap();
    let source = headers.value_from.as_ref().unwrap().secret_key_ref.as_ref().unwrap();
    assert_eq!((source.name.as_str(), source.key.as_str()), ("key", "headers"));
    assert_eq!(source.optional, Some(true), "a sale is worth more than its traces");
}

#[test]
fn without_the_field_the_pods_know_nothing_of_traces() {
    assert!(otel(&env("")).is_empty());
}
