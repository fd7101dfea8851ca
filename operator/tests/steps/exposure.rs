//! How a sale is reached from outside: the built objects, and what the status says of their answers.

use flashsale_operator::crd::App;
use flashsale_operator::flash_sale::app_client::SaleReport;
use flashsale_operator::flash_sale::exposure::{self, Exposure};
use flashsale_operator::flash_sale::network::NetworkParts;
use flashsale_operator::gateway_api::HttpRoute;
use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt;
use serde_json::{Value, json};

use crate::build::built;
use crate::{references, sale};

fn service(changes: &str) -> Service {
    let services = built(changes, references()).services;
    services.into_iter().find(|service| service.name_any() == "black-friday").unwrap()
}

/// Name and number of each port.
fn ports(service: &Service) -> Vec<(String, i32)> {
    let ports = service.spec.as_ref().unwrap().ports.as_ref().unwrap();
    ports.iter().map(|port| (port.name.clone().unwrap(), port.port)).collect()
}

#[test]
fn only_a_service_inside_the_cluster_has_the_metrics_port() {
    let port = |name: &str, port| (name.to_owned(), port);
    let plain = service("");
    assert_eq!(ports(&plain), [port("http", 8080), port("metrics", 9090)]);
    assert_eq!(plain.spec.unwrap().type_, None, "as before: an upgrade changes nothing");
    let inside = service("app: {service: {port: 80}}");
    assert_eq!(ports(&inside), [port("http", 80), port("metrics", 9090)]);
    for type_ in ["NodePort", "LoadBalancer"] {
        let outside = service(&format!("app: {{service: {{type: {type_}, port: 443}}}}"));
        assert_eq!(ports(&outside), [port("http", 443)], "{type_}");
    }
    // The Service of the replicas keeps both, so metrics are scraped whatever the type is.
    let services = built("app: {service: {type: LoadBalancer}}", references()).services;
    let pods = services.iter().find(|it| it.name_any() == "black-friday-pods").unwrap();
    assert_eq!(ports(pods), [port("http", 8080), port("metrics", 9090)]);
    assert_eq!(pods.labels()["flashsale.dev/headless"], "true");
}

#[test]
fn a_service_has_what_is_declared() {
    let declared = "app: {service: {type: LoadBalancer, port: 80, nodePort: 30080, \
                    loadBalancerClass: example.com/nlb, loadBalancerSourceRanges: [203.0.113.0/24], \
                    externalTrafficPolicy: Local, annotations: {example.com/name: sale}}}";
    let service = service(declared);
    let spec = service.spec.clone().unwrap();
    assert_eq!(spec.type_.as_deref(), Some("LoadBalancer"));
    assert_eq!(spec.load_balancer_class.as_deref(), Some("example.com/nlb"));
    assert_eq!(spec.load_balancer_source_ranges.unwrap(), ["203.0.113.0/24"]);
    assert_eq!(spec.external_traffic_policy.as_deref(), Some("Local"));
    let port = &spec.ports.unwrap()[0];
    assert_eq!((port.port, port.node_port), (80, Some(30080)));
    assert_eq!(json!(port.target_port), json!(8080), "the replicas listen where they did");
    assert_eq!(service.annotations()["example.com/name"], "sale");
}

#[test]
fn an_ingress_and_a_route_lead_to_the_api_and_never_to_the_metrics() {
    let declared = "app: {
        service: {port: 80},
        ingress: {className: nginx, hosts: [sale.example], tlsSecretName: sale-tls,
                  annotations: {cert-manager.io/issuer: ca}},
        httpRoute: {parentRefs: [{name: public, namespace: gateways, sectionName: https}],
                    hostnames: [sale.example], requestTimeout: 0s, annotations: {a.example/b: c}}}";
    let network = built(declared, references()).network;
    let ingress = network.ingress.unwrap();
    assert_eq!(ingress.annotations()["cert-manager.io/issuer"], "ca");
    let backend = json!({ "service": { "name": "black-friday", "port": { "number": 80 } } });
    let expected = json!({
        "ingressClassName": "nginx",
        "rules": [{ "host": "sale.example", "http": { "paths": [
            { "path": "/", "pathType": "Prefix", "backend": backend },
        ] } }],
        "tls": [{ "hosts": ["sale.example"], "secretName": "sale-tls" }],
    });
    assert_eq!(json!(ingress.spec.unwrap()), expected);

    let route = json!(network.http_route.unwrap());
    assert_eq!(route["apiVersion"], "gateway.networking.k8s.io/v1");
    assert_eq!(route["kind"], "HTTPRoute");
    assert_eq!(route["metadata"]["annotations"]["a.example/b"], "c");
    assert_eq!(route["metadata"]["ownerReferences"][0]["name"], "black-friday");
    let expected = json!({
        "parentRefs": [{ "name": "public", "namespace": "gateways", "sectionName": "https" }],
        "hostnames": ["sale.example"],
        "rules": [{
            "matches": [{ "path": { "type": "PathPrefix", "value": "/" } }],
            "backendRefs": [{ "name": "black-friday", "port": 80 }],
            "timeouts": { "request": "0s" },
        }],
    });
    assert_eq!(route["spec"], expected);
    let none = built("", references()).network;
    assert!(none.ingress.is_none() && none.http_route.is_none());
}

fn app(changes: &str) -> App {
    sale(changes).spec.app
}

/// Reasons and URLs.
fn summary(exposure: &Exposure) -> (Vec<&'static str>, Vec<&str>) {
    let reasons = exposure.problems.iter().map(|(reason, _)| *reason).collect();
    (reasons, exposure.urls.iter().map(String::as_str).collect())
}

#[test]
fn a_load_balancer_has_its_addresses_as_urls() {
    let with = |declared: &str, assigned: Value| {
        let app = app(&format!("app: {{{declared}}}"));
        let service: Service =
            serde_json::from_value(json!({ "status": { "loadBalancer": assigned } })).unwrap();
        exposure::of(&app, Some(&service), &NetworkParts::default())
    };
    let balancer = "service: {type: LoadBalancer}";
    assert_eq!(summary(&with(balancer, json!({}))), (vec!["LoadBalancerPending"], vec![]));
    let two = json!({ "ingress": [{ "ip": "203.0.113.7" }, { "hostname": "lb.example" }] });
    let urls = vec!["http://203.0.113.7:8080", "http://lb.example:8080"];
    assert_eq!(summary(&with(balancer, two)), (vec![], urls));
    let tls = "tls: {secretRef: {name: sale-tls}}, ";
    for (tls, port, url) in [
        ("", 80, "http://[2001:db8::7]"),
        ("", 443, "http://[2001:db8::7]:443"),
        (tls, 80, "https://[2001:db8::7]:80"),
        (tls, 443, "https://[2001:db8::7]"),
    ] {
        let declared = format!("{tls}service: {{type: LoadBalancer, port: {port}}}");
        let six = json!({ "ingress": [{ "ip": "2001:db8::7" }] });
        assert_eq!(summary(&with(&declared, six)), (vec![], vec![url]), "{declared}");
    }
    let plain = exposure::of(&app(""), None, &NetworkParts::default());
    assert_eq!(plain, Exposure::default());
    let node_port =
        exposure::of(&app("app: {service: {type: NodePort}}"), None, &NetworkParts::default());
    assert!(node_port.declared && node_port.problems.is_empty());
}

/// A route of generation 2 with these answers of Gateways.
fn route(parents: &Value) -> NetworkParts {
    let route: HttpRoute = serde_json::from_value(json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": { "name": "black-friday", "namespace": "shop", "generation": 2 },
        "spec": {}, "status": { "parents": parents },
    }))
    .unwrap();
    NetworkParts { http_route: Some(route), ..NetworkParts::default() }
}

fn answer(parent: &Value, accepted: (&str, &str), resolved: &str, generation: i64) -> Value {
    let condition = |type_: &str, status: &str, message: &str| {
        json!({
            "type": type_, "status": status, "reason": "Why", "message": message,
            "observedGeneration": generation, "lastTransitionTime": "2026-11-21T00:00:00Z",
        })
    };
    json!({
        "parentRef": parent, "controllerName": "example.com/gateway",
        "conditions": [condition("Accepted", accepted.0, accepted.1), condition("ResolvedRefs", resolved, "")],
    })
}

#[test]
fn the_answers_of_the_gateways_are_told() {
    let declared = "app: {httpRoute: {hostnames: [sale.example], \
                    parentRefs: [{name: public, namespace: gateways, sectionName: https}]}}";
    let app = app(declared);
    let public = || {
        json!({ "group": "gateway.networking.k8s.io", "kind": "Gateway",
                            "name": "public", "namespace": "gateways", "sectionName": "https" })
    };
    let told = |parents: Value| exposure::of(&app, None, &route(&parents));
    let reasons = |parents: Value| summary(&told(parents)).0.clone();

    assert_eq!(reasons(json!([])), ["RoutePending"]);
    let accepted = answer(&public(), ("True", ""), "True", 2);
    assert_eq!(summary(&told(json!([accepted]))), (vec![], vec!["https://sale.example"]));
    let refused = told(json!([answer(&public(), ("False", "no hostname in common"), "True", 2)]));
    assert_eq!(summary(&refused), (vec!["RouteRefused"], vec![]));
    let message = &refused.problems[0].1;
    assert_eq!(message, "Gateway gateways/public: no hostname in common (Why)");
    assert_eq!(reasons(json!([answer(&public(), ("True", ""), "False", 2)])), ["RouteRefused"]);
    // An answer to an earlier generation, or of another Gateway, is none.
    assert_eq!(reasons(json!([answer(&public(), ("True", ""), "True", 1)])), ["RoutePending"]);
    let other = json!({ "name": "public", "sectionName": "https" });
    assert_eq!(reasons(json!([answer(&other, ("True", ""), "True", 2)])), ["RoutePending"]);

    let missing = NetworkParts { gateway_api_missing: true, ..NetworkParts::default() };
    let missing = exposure::of(&app, None, &missing);
    assert_eq!(summary(&missing), (vec!["GatewayApiMissing"], vec![]));
    assert!(missing.problems[0].1.contains("app.ingress"), "names the remedy");
    // A policy or a missing right: the condition Ready has the API server's reason.
    let none = exposure::of(&app, None, &NetworkParts::default());
    assert_eq!(summary(&none), (vec!["RouteRefused"], vec![]));
}

#[test]
fn a_route_has_the_port_of_its_listener_in_its_url() {
    let urls = |parent: Value| {
        let declared =
            json!({ "httpRoute": { "hostnames": ["sale.example"], "parentRefs": [parent] } });
        let app = app(&json!({ "app": declared }).to_string());
        exposure::of(&app, None, &route(&json!([answer(&parent, ("True", ""), "True", 2)]))).urls
    };
    for (section, port, url) in [
        ("https", 8443, "https://sale.example:8443"),
        ("web", 8080, "http://sale.example:8080"),
        ("web", 443, "https://sale.example"),
        ("web", 80, "http://sale.example"),
    ] {
        assert_eq!(urls(json!({ "name": "public", "sectionName": section, "port": port })), [url]);
    }
}

#[test]
fn an_ingress_waits_for_its_controller() {
    let with = |status: Value| {
        let ingress = serde_json::from_value(json!({ "status": status })).unwrap();
        let app = app("app: {ingress: {hosts: [a.example, b.example], tlsSecretName: tls}}");
        let network = NetworkParts { ingress: Some(ingress), ..NetworkParts::default() };
        exposure::of(&app, None, &network)
    };
    let urls = || vec!["https://a.example", "https://b.example"];
    assert_eq!(summary(&with(json!({}))), (vec!["IngressPending"], urls()));
    let published = json!({ "loadBalancer": { "ingress": [{ "ip": "203.0.113.7" }] } });
    assert_eq!(summary(&with(published)), (vec![], urls()));
}

/// What an app without a token, or with another one, answers must not change the sale's status: an older operator, or a
/// rollout with a new token.
#[test]
fn a_refused_token_is_no_report() {
    let refused = br#"{"type": "urn:flashsale:problem:unauthenticated", "title": "Unauthorized",
        "status": 401, "detail": "send a token", "code": "unauthenticated"}"#;
    assert_eq!(SaleReport::from_response(401, refused), None);
}
