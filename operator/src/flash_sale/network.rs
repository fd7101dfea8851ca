//! The network parts of a sale: policies, Ingress, route. The Services are parts of their own.

use k8s_openapi::api::networking::v1::{Ingress, NetworkPolicy};

use crate::gateway_api::HttpRoute;

/// Policies, Ingress and route of a sale.
#[derive(Clone, Debug, Default)]
pub struct NetworkParts {
    /// Network policies; empty: disabled.
    pub policies: Vec<NetworkPolicy>,
    /// Ingress of the app, if declared.
    pub ingress: Option<Ingress>,
    /// Route of the app, if declared.
    pub http_route: Option<HttpRoute>,
    /// The route is declared, but the cluster has no such definition. Known once it was applied.
    pub gateway_api_missing: bool,
}
