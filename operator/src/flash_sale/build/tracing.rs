//! Traces of the purchase API, by the variables of OpenTelemetry.

use k8s_openapi::api::core::v1::EnvVar;

use super::pods;
use crate::crd::App;

pub(super) fn environment(app: &App) -> Vec<EnvVar> {
    let Some(tracing) = &app.tracing else { return Vec::new() };
    let mut env = vec![
        pods::env("OTEL_EXPORTER_OTLP_ENDPOINT", &*tracing.endpoint),
        // So that a trace of the shop goes on here.
        pods::env("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
        pods::env("OTEL_TRACES_SAMPLER_ARG", tracing.sampling_ratio.to_string()),
    ];
    if let Some(secret) = &tracing.headers_secret_ref {
        // Optional: without it spans are lost, and without the pod the sale would be.
        env.push(pods::secret_env("OTEL_EXPORTER_OTLP_HEADERS", &secret.name, &secret.key, true));
    }
    env
}
