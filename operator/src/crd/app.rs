//! The part of the spec that configures the purchase API.

use kube::core::Duration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::{Resources, SecretName};
use super::exposure::{AppHttpRoute, AppIngress, AppService};
use super::pod_template::PodTemplate;
use super::probes::AppProbes;
use super::tracing::AppTracing;
use super::{pod_schema, schema};

/// Replicas of the purchase API.
#[derive(JsonSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = schema::app_rules()))]
pub struct App {
    /// Number of replicas; with `autoscaling`, the minimum. `kubectl scale` and autoscalers of the sale write it.
    #[serde(default = "App::default_replicas")]
    #[schemars(range(min = 1, max = 40))]
    pub replicas: i32,
    /// Image of the replicas. Absent: the operator's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255), regex(pattern = r"^\S+$"))]
    pub image: Option<String>,
    /// Requests and limits of each replica. CPU without either requests 100m, memory 64Mi.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// Autoscaling on CPU. Absent: the number of replicas is fixed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autoscaling: Option<Autoscaling>,
    /// More replicas around `startsAt`. Absent: the number does not follow the clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prewarm: Option<Prewarm>,
    /// Number of trusted proxies, such as an ingress, in front of each replica. The client address used to limit
    /// log-ins, sign-ups and live-stock streams is that many entries from the right of `X-Forwarded-For` or
    /// `Forwarded`. 0 or absent: the headers are ignored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10))]
    pub trusted_proxies: Option<i32>,
    /// Who can create an account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sign_up: Option<SignUp>,
    /// Maximum open connections per replica. Further connections receive 503 `overloaded` and are closed. Absent:
    /// 10000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_connections: Option<i32>,
    /// Maximum live-stock streams per replica. Further ones are refused with `too_many_listeners`. Absent: 5000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub max_event_listeners: Option<i32>,
    /// Maximum live-stock streams per replica from one IPv4 address or one IPv6 /64 network. Absent: a tenth of
    /// `maxEventListeners`, at least 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub max_event_listeners_per_address: Option<i32>,
    /// Cross-origin access to the API. Absent: pages of other origins cannot call it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cors: Option<Cors>,
    /// Interval of keep-alive events on a live-stock stream without changes. It must be shorter than the idle timeout
    /// of every proxy. Absent: 15s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::event_keep_alive")]
    pub event_keep_alive: Option<Duration>,
    /// Time after which a connection without a request is closed. It must be longer than proxies keep idle
    /// connections to the replicas. Absent: 75s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::idle_timeout")]
    pub idle_timeout: Option<Duration>,
    /// Time for which a replica that ends still answers on open and new connections, and closes each connection after its
    /// answer (`Connection: close`). Then idle connections are closed. Absent: 5s, or less if
    /// `podTemplate.terminationGracePeriodSeconds` is below 18.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::drain_time")]
    pub drain_time: Option<Duration>,
    /// Service of the API. Absent: a `ClusterIP` Service on port 8080.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<AppService>,
    /// Route through a Gateway of the Gateway API. Absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_route: Option<AppHttpRoute>,
    /// Ingress, for clusters without the Gateway API. Absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress: Option<AppIngress>,
    /// Times and thresholds of the probes. A change restarts the replicas, one at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probes: Option<Box<AppProbes>>,
    /// Changes to the pods of the replicas. A change restarts them, one at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "pod_schema::app_template::<PodTemplate>")]
    pub pod_template: Option<Box<PodTemplate>>,
    /// TLS on port 8080 of the API. Absent: plain HTTP. Port 9090 (metrics and probes) is always plain HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<AppTls>,
    /// Traces over OpenTelemetry's protocol. Absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tracing: Option<Box<AppTracing>>,
}

/// Who can create an account. Absent: `Open`.
#[derive(JsonSchema, Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub enum SignUp {
    /// Everybody.
    Open,
    /// Who has a code of the key `invite-codes` in the Secret of `auth`.
    Invited,
    /// Nobody: buyers come with tokens of the shop.
    Closed,
}

impl SignUp {
    /// As the app reads it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "Open",
            Self::Invited => "Invited",
            Self::Closed => "Closed",
        }
    }
}

/// Certificate of the API.
#[derive(JsonSchema, Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct AppTls {
    /// Secret of type `kubernetes.io/tls`, as cert-manager makes it: `tls.crt` is the certificate with its intermediates,
    /// `tls.key` the private key. A renewed certificate is used within about two minutes, without a restart.
    pub secret_ref: SecretName,
}

/// Cross-origin resource sharing.
#[derive(JsonSchema, Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Cors {
    /// Origins whose pages can call the API, such as `https://shop.example`, without a path. `*` allows all.
    #[schemars(length(min = 1, max = 20))]
    #[schemars(inner(length(max = 255), regex(pattern = ORIGIN)))]
    pub allowed_origins: Vec<String>,
}

/// `*`, or a scheme, a host and an optional port.
const ORIGIN: &str = r"^(\*|https?://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[1-9][0-9]{0,4})?)$";

impl App {
    fn default_replicas() -> i32 {
        3
    }
}

impl Default for App {
    fn default() -> Self {
        Self {
            replicas: Self::default_replicas(),
            image: None,
            resources: None,
            autoscaling: None,
            prewarm: None,
            trusted_proxies: None,
            sign_up: None,
            max_connections: None,
            max_event_listeners: None,
            max_event_listeners_per_address: None,
            cors: None,
            event_keep_alive: None,
            idle_timeout: None,
            drain_time: None,
            service: None,
            http_route: None,
            ingress: None,
            probes: None,
            pod_template: None,
            tls: None,
            tracing: None,
        }
    }
}

/// A `HorizontalPodAutoscaler` on CPU. Utilization is relative to the CPU request of a replica:
/// `app.resources.requests.cpu`, else `app.resources.limits.cpu`, else a request of 100m that the operator sets.
#[derive(JsonSchema, Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Autoscaling {
    /// Maximum number of replicas.
    #[schemars(range(min = 1, max = 40))]
    pub max_replicas: i32,
    /// Target CPU utilization, in percent of the request. Above it, replicas are added.
    #[serde(default = "Autoscaling::default_target")]
    #[schemars(range(min = 1, max = 100))]
    pub target_cpu_percent: i32,
}

impl Autoscaling {
    fn default_target() -> i32 {
        70
    }
}

/// Replicas that are ready before the first buyers come. An autoscaler would notice them too late.
#[derive(JsonSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Prewarm {
    /// Minimum number of replicas in that time. A larger `app.replicas` and autoscalers are not limited by it.
    #[schemars(range(min = 1, max = 40))]
    pub replicas: i32,
    /// Time before `startsAt` at which the replicas are started.
    #[serde(default = "Prewarm::default_time")]
    #[schemars(schema_with = "schema::prewarm_before")]
    pub before: Duration,
    /// Time after `startsAt` for which they are kept, but not beyond `endsAt`.
    #[serde(default = "Prewarm::default_time")]
    #[schemars(schema_with = "schema::prewarm_after")]
    pub after: Duration,
}

impl Prewarm {
    fn default_time() -> Duration {
        std::time::Duration::from_mins(10).into()
    }
}
