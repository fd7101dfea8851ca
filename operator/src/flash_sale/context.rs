//! What every reconcile may use.

use std::sync::Arc;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};

use super::app_client::AppClient;
use crate::config::DefaultImages;
use crate::metrics::Metrics;

/// What every reconcile may use.
pub struct Context {
    /// The API server.
    pub client: Client,
    /// Images of sales that name none.
    pub images: DefaultImages,
    /// Where counts come from.
    pub app: Arc<dyn AppClient>,
    /// What the operator counts about itself.
    pub metrics: Metrics,
    recorder: Recorder,
}

impl Context {
    /// A context in which events are reported by `pod`.
    #[must_use]
    pub fn new(
        client: Client,
        images: DefaultImages,
        app: Arc<dyn AppClient>,
        metrics: Metrics,
        pod: String,
    ) -> Self {
        let reporter =
            Reporter { controller: "flashsale-operator".to_owned(), instance: Some(pod) };
        let recorder = Recorder::new(client.clone(), reporter);
        Self { client, images, app, metrics, recorder }
    }

    /// Records an event on a sale.
    ///
    /// # Errors
    /// When the API server does not take it.
    pub async fn publish(
        &self,
        reason: &str,
        type_: EventType,
        note: String,
        sale: &ObjectReference,
    ) -> Result<(), kube::Error> {
        let event = Event {
            type_,
            reason: reason.to_owned(),
            // An event's note may have 1 kB.
            note: Some(note.chars().take(1000).collect()),
            action: "Reconcile".to_owned(),
            secondary: None,
        };
        self.recorder.publish(&event, sale).await
    }
}
