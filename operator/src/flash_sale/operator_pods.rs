//! The operator's own pods, as network policies select them.

use std::collections::BTreeMap;

/// Namespace and labels of the operator's pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorPods {
    /// Their namespace.
    pub namespace: String,
    /// Labels that only they have in that namespace. Empty: all pods of the namespace.
    pub labels: BTreeMap<String, String>,
}
