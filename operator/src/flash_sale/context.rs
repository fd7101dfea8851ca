//! Shared dependencies of all reconciles.

use std::sync::Arc;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};

use super::app_client::AppClient;
use super::applied_versions::AppliedVersions;
use super::operator_pods::OperatorPods;
use super::report_tokens::ReportTokens;
use super::secret_watches::SecretWatches;
use crate::config::DefaultImages;
use crate::metrics::Metrics;

/// Longest note of an event in bytes, by the API server.
const MAX_NOTE: usize = 1024;

/// Shared dependencies of all reconciles.
pub struct Context {
    /// Client of the API server.
    pub client: Client,
    /// Images of sales that do not set their own.
    pub images: DefaultImages,
    /// Client of the app.
    pub app: Arc<dyn AppClient>,
    /// Tokens for the reports of the app.
    pub report_tokens: ReportTokens,
    /// What was applied last.
    pub applied: AppliedVersions,
    /// Where Secrets are watched.
    pub secret_watches: SecretWatches,
    /// The operator's own pods; absent: it runs outside of the cluster.
    pub operator_pods: Option<OperatorPods>,
    /// Metrics of the operator.
    pub metrics: Metrics,
    reporter: Reporter,
}

impl Context {
    /// A context whose events have the reporter `pod`.
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
        Self {
            client,
            images,
            app,
            report_tokens: ReportTokens::default(),
            applied: AppliedVersions::default(),
            secret_watches: SecretWatches::default(),
            operator_pods: None,
            metrics,
            reporter,
        }
    }

    /// Lets the network policies of sales admit the operator's pods.
    #[must_use]
    pub fn with_operator_pods(mut self, pods: Option<OperatorPods>) -> Self {
        self.operator_pods = pods;
        self
    }

    /// Records an event on a sale.
    ///
    /// # Errors
    /// When the API server refuses the event.
    pub async fn publish(
        &self,
        reason: &str,
        type_: EventType,
        mut note: String,
        sale: &ObjectReference,
    ) -> Result<(), kube::Error> {
        note.truncate(note.floor_char_boundary(MAX_NOTE));
        let event = Event {
            type_,
            reason: reason.to_owned(),
            note: Some(note),
            action: "Reconcile".to_owned(),
            secondary: None,
        };
        // A recorder counts a second event with the same reason as a repetition, and keeps the first one's note.
        let recorder = Recorder::new(self.client.clone(), self.reporter.clone());
        recorder.publish(&event, sale).await
    }
}
