//! How a reconcile ended: what the status is made from.

use super::build::{Applied, KubernetesResources};
use super::not_ready::NotReady;
use super::observe::Observed;
use super::seed::Seed;

/// How a pass ended.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// Before anything was applied.
    Waiting(NotReady),
    /// The API server did not take objects as they are, and one of them was not there before.
    Refused(Vec<String>),
    /// With all objects in place.
    Applied {
        /// As the API server answered.
        resources: Box<KubernetesResources<Applied>>,
        /// Whether the stock is in place.
        seed: Seed,
        /// What was seen beside the objects.
        observed: Box<Observed>,
        /// Changes of objects that the API server did not take; the objects are as they were.
        refusals: Vec<String>,
    },
}

impl Outcome {
    /// The outcome as a metric's label.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Applied { refusals, .. } if refusals.is_empty() => "applied",
            Self::Waiting(_) => "waiting",
            Self::Applied { .. } | Self::Refused(_) => "refused",
        }
    }
}
