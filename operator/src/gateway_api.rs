//! The `HTTPRoute` of the Gateway API, as far as the operator uses it. `k8s-openapi` has no type for it.

use std::borrow::Cow;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};
use kube::Resource;
use kube::core::{Status, TypeMeta};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::crd::ParentRef;

const GROUP: &str = "gateway.networking.k8s.io";
const VERSION: &str = "v1";
const KIND: &str = "HTTPRoute";

/// Whether the API server serves no such kind. It answers with a plain text, so the status has no reason.
#[must_use]
pub fn is_not_served(status: &Status) -> bool {
    status.code == 404
}

/// A route from Gateways to a Service.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
pub struct HttpRoute {
    #[serde(flatten, default)]
    types: Option<TypeMeta>,
    /// Metadata.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// The spec, as the API defines it.
    #[serde(default)]
    pub spec: Value,
    /// The answers of the Gateways.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<HttpRouteStatus>,
}

impl HttpRoute {
    /// A route to apply.
    #[must_use]
    pub fn new(metadata: ObjectMeta, spec: Value) -> Self {
        let types = TypeMeta { api_version: format!("{GROUP}/{VERSION}"), kind: KIND.to_owned() };
        Self { types: Some(types), metadata, spec, status: None }
    }
}

/// The answers of the Gateways.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
pub struct HttpRouteStatus {
    /// One answer for each Gateway or listener, and controller.
    #[serde(default)]
    pub parents: Vec<ParentStatus>,
}

/// The answer of one Gateway or listener.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ParentStatus {
    /// The Gateway.
    pub parent_ref: ParentRef,
    /// `Accepted` and `ResolvedRefs`.
    #[serde(default)]
    pub conditions: Vec<Condition>,
}

impl Resource for HttpRoute {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        KIND.into()
    }

    fn group((): &()) -> Cow<'_, str> {
        GROUP.into()
    }

    fn version((): &()) -> Cow<'_, str> {
        VERSION.into()
    }

    fn api_version((): &()) -> Cow<'_, str> {
        format!("{GROUP}/{VERSION}").into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        "httproutes".into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}
