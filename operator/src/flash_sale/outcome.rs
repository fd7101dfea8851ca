//! The outcome of a reconcile, from which the status is computed.

use super::build::{Applied, KubernetesResources};
use super::not_ready::NotReady;
use super::observe::Observed;
use super::seed::Seed;

/// Outcome of a reconcile.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The sale waits; nothing was applied.
    Waiting(NotReady),
    /// The API server refused objects, and a required one does not exist.
    Refused(Vec<String>),
    /// All required objects exist.
    Applied {
        /// Objects as the API server returned them.
        resources: Box<KubernetesResources<Applied>>,
        /// State of the seed Job.
        seed: Seed,
        /// Observations in addition to the objects.
        observed: Box<Observed>,
        /// Refused changes; those objects are unchanged.
        refusals: Vec<String>,
    },
}

impl Outcome {
    /// All labels.
    pub const LABELS: [&'static str; 3] = ["applied", "waiting", "refused"];

    /// The outcome as a metric label.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Applied { refusals, .. } if refusals.is_empty() => "applied",
            Self::Waiting(_) => "waiting",
            Self::Applied { .. } | Self::Refused(_) => "refused",
        }
    }
}
