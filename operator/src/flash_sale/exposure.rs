//! How the purchase API is reached from outside, from applied objects: URLs, and the condition `Exposed`. Takes no
//! client and no clock.

use k8s_openapi::api::core::v1::{LoadBalancerStatus, Service};
use k8s_openapi::api::networking::v1::Ingress;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::names;
use super::network::NetworkParts;
use crate::crd::{App, AppHttpRoute, ParentRef, ServiceType};
use crate::gateway_api::HttpRoute;

/// Reason of the condition when the cluster has no `HTTPRoute` definition.
pub const GATEWAY_API_MISSING: &str = "GatewayApiMissing";
/// Reason of the condition when a Gateway or the API server refuses the route.
pub const ROUTE_REFUSED: &str = "RouteRefused";

/// How the API is reached from outside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exposure {
    /// Known URLs.
    pub urls: Vec<String>,
    /// What is missing, the most severe first: reason and message.
    pub problems: Vec<(&'static str, String)>,
    /// Whether anything beyond a `ClusterIP` Service is declared.
    pub declared: bool,
}

/// The exposure of a sale with this app, Service and network parts.
#[must_use]
pub fn of(app: &App, service: Option<&Service>, network: &NetworkParts) -> Exposure {
    let mut exposure = Exposure::default();
    if let Some(declared) = &app.http_route {
        exposure.add_route(declared, network);
    }
    let type_ = app.service.as_ref().map(|service| service.type_).unwrap_or_default();
    if type_ != ServiceType::ClusterIP {
        exposure.declared = true;
    }
    if type_ == ServiceType::LoadBalancer {
        exposure.add_load_balancer(service, app);
    }
    if let Some(declared) = &app.ingress {
        let scheme = if declared.tls_secret_name.is_some() { "https" } else { "http" };
        exposure.declared = true;
        exposure.urls.extend(declared.hosts.iter().map(|host| format!("{scheme}://{host}")));
        if network.ingress.as_ref().is_none_or(|ingress| !has_address(ingress)) {
            let message = "no Ingress controller has published an address of the Ingress yet: check \
                           app.ingress.className";
            exposure.problems.push(("IngressPending", message.to_owned()));
        }
    }
    exposure
}

impl Exposure {
    fn add_load_balancer(&mut self, service: Option<&Service>, app: &App) {
        let status = service.and_then(|service| service.status.as_ref()?.load_balancer.as_ref());
        let addresses = addresses(status);
        if addresses.is_empty() {
            let message = "the cluster has assigned no address to the load balancer yet; the events of the Service \
                           have the reason";
            self.problems.push(("LoadBalancerPending", message.to_owned()));
        }
        let (scheme, port) = (names::scheme(app), Some(names::service_port(app)));
        self.urls.extend(addresses.iter().map(|address| url(scheme, address, port)));
    }

    fn add_route(&mut self, declared: &AppHttpRoute, network: &NetworkParts) {
        self.declared = true;
        if network.gateway_api_missing {
            let message = "the cluster has no HTTPRoute (gateway.networking.k8s.io/v1): install the Gateway API, or \
                           use app.ingress; the route is applied once the definition exists";
            self.problems.push((GATEWAY_API_MISSING, message.to_owned()));
            return;
        }
        // The parts are those after the apply: only a refused route does not exist.
        let Some(route) = &network.http_route else {
            let message = "the API server refused the route: see the condition Ready";
            self.problems.push((ROUTE_REFUSED, message.to_owned()));
            return;
        };
        let mut accepted = Vec::new();
        let (mut refused, mut pending) = (Vec::new(), Vec::new());
        for parent in &declared.parent_refs {
            match answer(route, parent) {
                Answer::Accepted => accepted.push(parent),
                Answer::Refused(why) => refused.push(format!("Gateway {}: {why}", name(parent))),
                Answer::None => pending.push(name(parent)),
            }
        }
        if !refused.is_empty() {
            self.problems.push((ROUTE_REFUSED, refused.join("; ")));
        }
        if !pending.is_empty() {
            let message = format!(
                "no answer to the route yet from Gateway {}: check that it exists and that its controller runs",
                pending.join(", ")
            );
            self.problems.push(("RoutePending", message));
        }
        for host in &declared.hostnames {
            let urls = accepted.iter().map(|parent| url(scheme(parent), host, parent.port));
            for url in urls {
                if !self.urls.contains(&url) {
                    self.urls.push(url);
                }
            }
        }
    }
}

enum Answer {
    Accepted,
    Refused(String),
    None,
}

/// The answer of a Gateway to the current generation of the route. One of several controllers suffices.
fn answer(route: &HttpRoute, parent: &ParentRef) -> Answer {
    let namespace =
        |of: &ParentRef| of.namespace.clone().or_else(|| route.metadata.namespace.clone());
    let is_same = |other: &ParentRef| {
        other.name == parent.name
            && namespace(other) == namespace(parent)
            && other.section_name == parent.section_name
            && other.port == parent.port
    };
    let generation = route.metadata.generation.unwrap_or_default();
    let is_current =
        |it: &&Condition| it.observed_generation.is_none_or(|observed| observed >= generation);
    let parents = route.status.iter().flat_map(|status| &status.parents);
    let mut answer = Answer::None;
    for status in parents.filter(|status| is_same(&status.parent_ref)) {
        let find =
            |type_: &str| status.conditions.iter().filter(is_current).find(|it| it.type_ == type_);
        let conditions = [find("Accepted"), find("ResolvedRefs")];
        let unmet = conditions.iter().flatten().find(|it| it.status == "False");
        if let Some(unmet) = unmet {
            answer = Answer::Refused(format!("{} ({})", unmet.message, unmet.reason));
        } else if conditions[0].is_some_and(|accepted| accepted.status == "True") {
            return Answer::Accepted;
        }
    }
    answer
}

fn name(parent: &ParentRef) -> String {
    let namespace = parent.namespace.iter().map(|namespace| format!("{namespace}/"));
    namespace.chain([parent.name.clone()]).collect()
}

/// A route does not know whether its listener terminates TLS, so this follows the usual ports and names.
fn scheme(parent: &ParentRef) -> &'static str {
    let section = parent.section_name.as_deref().unwrap_or_default();
    if parent.port == Some(443) || section.contains("https") { "https" } else { "http" }
}

/// Without the port if it is the scheme's own.
fn url(scheme: &str, host: &str, port: Option<i32>) -> String {
    let own = if scheme == names::HTTPS { 443 } else { 80 };
    let port = port.filter(|&port| port != own).map(|port| format!(":{port}"));
    format!("{scheme}://{host}{}", port.unwrap_or_default())
}

fn has_address(ingress: &Ingress) -> bool {
    let status = ingress.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    status.is_some_and(|status| status.ingress.as_ref().is_some_and(|all| !all.is_empty()))
}

fn addresses(status: Option<&LoadBalancerStatus>) -> Vec<String> {
    let assigned = status.and_then(|status| status.ingress.as_deref()).unwrap_or_default();
    let address = |ip: &String| if ip.contains(':') { format!("[{ip}]") } else { ip.clone() };
    assigned.iter().filter_map(|it| it.hostname.clone().or(it.ip.as_ref().map(address))).collect()
}
