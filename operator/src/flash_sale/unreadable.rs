//! A sale that the operator cannot read, because another version's CRD accepted it. Its parts stay unchanged; a
//! condition, an event and a metric report it.

use jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::core::error_boundary::InvalidObject;
use kube::runtime::controller::Action;
use kube::runtime::events::EventType;
use kube::{Api, Resource};
use serde_json::{Value, json};
use tracing::warn;

use super::context::Context;
use super::names::FIELD_MANAGER;
use crate::crd::condition::{READY, RECONCILING, STALLED};
use crate::crd::{FlashSale, Phase};
use crate::error_chain::error_chain;
use crate::watched::Watched;

/// Reason of the condition and of the event.
pub const REASON: &str = "Unreadable";

/// Reports that `invalid` cannot be read, once per generation.
///
/// # Errors
/// When a request to the API server fails.
pub async fn report(invalid: &InvalidObject, context: &Context) -> Result<Action, kube::Error> {
    let metadata = &invalid.metadata;
    let (Some(namespace), Some(name)) = (&metadata.namespace, &metadata.name) else {
        // Not from an API server.
        return Ok(Action::await_change());
    };
    let message = format!(
        "{}; the operator leaves this sale unchanged until the field is corrected",
        invalid.error
    );
    let sales: Api<Watched<FlashSale>> = Api::namespaced(context.client.clone(), namespace);
    let Some(sale) = sales.get_opt(name).await? else {
        return Ok(Action::await_change());
    };
    let status = status(&sale, &message, Timestamp::now());
    if sale.object.get("status") == Some(&status) {
        return Ok(Action::await_change());
    }
    warn!(namespace, name, "cannot read the sale: {message}");
    let patch = Patch::Apply(json!({
        "apiVersion": FlashSale::api_version(&()),
        "kind": FlashSale::kind(&()),
        "metadata": { "uid": sale.meta().uid },
        "status": status,
    }));
    let params = PatchParams::apply(FIELD_MANAGER).force();
    if let Err(error) = sales.patch_status(name, &params, &patch).await {
        if !is_refusal(&error) {
            // Tried again: nothing else triggers a report, and the status may say that the sale is ready.
            return Err(error);
        }
        // The event still reports it.
        warn!(namespace, name, error = error_chain(&error), "cannot update the status");
    }
    let reference = sale.object_ref(&());
    if let Err(error) = context.publish(REASON, EventType::Warning, message, &reference).await {
        warn!(error = error_chain(&error), "cannot record the event");
    }
    Ok(Action::await_change())
}

/// Whether another attempt would be refused as well.
fn is_refusal(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if (400..500).contains(&status.code) && status.code != 429)
}

/// The previous status with `Ready` set to False and `Stalled` to True.
fn status(sale: &Watched<FlashSale>, message: &str, now: Timestamp) -> Value {
    let generation = sale.meta().generation.unwrap_or_default();
    let mut status = sale.object.get("status").cloned().unwrap_or_else(|| json!({}));
    let mut conditions = status["conditions"].as_array().cloned().unwrap_or_default();
    let previous = conditions.clone();
    conditions.retain(|it| ![READY, RECONCILING, STALLED].iter().any(|type_| it["type"] == *type_));
    let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
    for (type_, value) in [(READY, "False"), (STALLED, "True")] {
        let mut before = previous.iter().filter(|it| it["type"] == type_);
        let since = before.find(|it| it["status"] == value);
        conditions.push(json!({
            "type": type_,
            "status": value,
            "reason": REASON,
            "message": message,
            "observedGeneration": generation,
            "lastTransitionTime": since.map_or(json!(now), |it| it["lastTransitionTime"].clone()),
        }));
    }
    status["conditions"] = conditions.into();
    status["observedGeneration"] = generation.into();
    if status["phase"].is_null() || status["phase"] == Phase::Pending.as_str() {
        status["phase"] = Phase::Failed.as_str().into();
    }
    status
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Arc;

    use axum::http::{Method, Request, Response};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
    use kube::Client;
    use kube::client::Body;

    use super::*;
    use crate::config::DefaultImages;
    use crate::flash_sale::app_client::HttpAppClient;
    use crate::metrics::Metrics;

    /// An API server that has the sale, and answers each write with this code.
    fn server(code: u16) -> Client {
        let service = tower::service_fn(move |request: Request<Body>| async move {
            let found = json!({
                "apiVersion": "flashsale.dev/v1beta1", "kind": "FlashSale",
                "metadata": { "name": "black-friday", "namespace": "shop", "uid": "u", "generation": 1 },
                "spec": { "products": 7 },
            });
            let refused = json!({
                "apiVersion": "v1", "kind": "Status", "status": "Failure", "message": "no",
                "reason": "", "code": code,
            });
            let is_read = request.method() == Method::GET;
            let (code, answer) = if is_read { (200, found) } else { (code, refused) };
            let mut response = Response::new(Body::from(answer.to_string().into_bytes()));
            *response.status_mut() = code.try_into().unwrap();
            Ok::<_, Infallible>(response)
        });
        Client::new(service, "shop")
    }

    #[tokio::test]
    async fn a_status_that_the_api_server_could_not_take_is_reported_again() {
        let invalid = InvalidObject {
            error: "spec.products: invalid type".to_owned(),
            metadata: ObjectMeta {
                name: Some("black-friday".to_owned()),
                namespace: Some("shop".to_owned()),
                ..ObjectMeta::default()
            },
        };
        for (code, is_reported_again) in [(500, true), (503, true), (429, true), (422, false)] {
            let app = Arc::new(HttpAppClient::new().unwrap());
            let (images, metrics) = (DefaultImages::default(), Metrics::new().unwrap());
            let context = Context::new(server(code), images, app, metrics, "it".to_owned());
            assert_eq!(report(&invalid, &context).await.is_err(), is_reported_again, "{code}");
        }
    }
}
