//! The network of a sale on a real API server: policies, types of the Service, Ingress, `HTTPRoute`, the operator's token.

use std::fmt::Debug;
use std::process::Command;

use flashsale_operator::controller::Scope;
use flashsale_operator::crd::{FlashSale, Phase};
use flashsale_operator::gateway_api::HttpRoute;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Secret, Service};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::networking::v1::{Ingress, NetworkPolicy};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::cluster::{NAME, condition, everything_runs, in_phase, owned, reconcile_once, report};
use crate::support::{
    Operator, Server, apply, create_namespace, eventually, install_crd, minimal, namespace,
    wait_for,
};

/// A sale with this in its spec.
fn with(spec: Value) -> Value {
    let mut sale = minimal(NAME);
    let Value::Object(spec) = spec else { panic!("not a spec: {spec}") };
    sale["spec"].as_object_mut().unwrap().extend(spec);
    sale
}

async fn change(operator: &Operator, client: &Client, namespace: &str, spec: Value) -> FlashSale {
    apply(client, namespace, &with(spec)).await.unwrap();
    reconcile_once(operator, client, namespace).await;
    Api::namespaced(client.clone(), namespace).get(NAME).await.unwrap()
}

async fn names<K>(client: &Client, namespace: &str) -> Vec<String>
where
    K: kube::Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + Debug
        + DeserializeOwned,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    let items = api.list_metadata(&ListParams::default()).await.unwrap().items;
    items.iter().map(ResourceExt::name_any).collect()
}

#[tokio::test]
async fn network_policies_are_there_unless_they_are_disabled() {
    let (client, namespace) = namespace("policies").await;
    let operator = Operator::idle().await;
    let all = ["black-friday", "black-friday-db", "black-friday-redis"];
    change(&operator, &client, &namespace, json!({})).await;
    assert_eq!(names::<NetworkPolicy>(&client, &namespace).await, all);
    let policies: Api<NetworkPolicy> = Api::namespaced(client.clone(), &namespace);
    let redis = policies.get("black-friday-redis").await.unwrap().spec.unwrap();
    let peers = redis.ingress.unwrap()[0].from.clone().unwrap();
    assert!(
        json!(peers).to_string().contains("flashsale-system"),
        "the operator's namespace is admitted: {peers:?}"
    );

    // Somebody else's are no concern of the sale.
    let foreign: NetworkPolicy = serde_json::from_value(json!({
        "metadata": { "name": "deny-all" }, "spec": { "podSelector": {} },
    }))
    .unwrap();
    policies.create(&PostParams::default(), &foreign).await.unwrap();
    let disabled = json!({ "networkPolicy": { "enabled": false } });
    change(&operator, &client, &namespace, disabled).await;
    assert_eq!(names::<NetworkPolicy>(&client, &namespace).await, ["deny-all"]);
    change(&operator, &client, &namespace, json!({})).await;
    assert_eq!(names::<NetworkPolicy>(&client, &namespace).await.len(), 4);
}

#[tokio::test]
async fn a_policy_of_another_owner_is_left_alone_where_policies_are_disabled() {
    let (client, namespace) = namespace("foreign-policy").await;
    let operator = Operator::idle().await;
    let policies: Api<NetworkPolicy> = Api::namespaced(client.clone(), &namespace);
    let foreign: NetworkPolicy = serde_json::from_value(json!({
        "metadata": { "name": NAME }, "spec": { "podSelector": {} },
    }))
    .unwrap();
    let before = policies.create(&PostParams::default(), &foreign).await.unwrap();
    let disabled = json!({ "networkPolicy": { "enabled": false } });
    let sale = change(&operator, &client, &namespace, disabled).await;
    assert_eq!(sale.status.unwrap().phase, Phase::Provisioning);
    assert_eq!(policies.get(NAME).await.unwrap(), before);
}

#[tokio::test]
async fn the_type_of_the_service_changes_back_and_forth_on_a_live_sale() {
    let (client, namespace) = namespace("service-types").await;
    let operator = Operator::idle().await;
    change(&operator, &client, &namespace, json!({})).await;
    let services: Api<Service> = Api::namespaced(client.clone(), &namespace);
    let first = services.get(NAME).await.unwrap();
    let look = async |spec: Value| {
        let sale = change(&operator, &client, &namespace, spec).await;
        assert_ne!(condition(&sale, "Ready").1, "ChangeRefused");
        let service = services.get(NAME).await.unwrap();
        assert_eq!(service.uid(), first.uid(), "changed, not made anew");
        let spec = service.spec.unwrap();
        let before = first.spec.as_ref().unwrap();
        assert_eq!(spec.cluster_ip, before.cluster_ip, "clients inside notice nothing");
        let ports = spec.ports.clone().unwrap();
        let ports: Vec<_> = ports.iter().map(|it| (it.port, it.node_port.is_some())).collect();
        (spec.type_.unwrap(), ports, sale)
    };
    let service = |service: Value| json!({ "app": { "service": service } });
    let inside = vec![(8080, false), (9090, false)];
    let balanced = service(json!({
        "type": "LoadBalancer", "port": 80, "loadBalancerClass": "example.com/lb",
        "externalTrafficPolicy": "Local", "loadBalancerSourceRanges": ["203.0.113.0/24"],
    }));
    for _ in 0..2 {
        let (type_, ports, sale) = look(balanced.clone()).await;
        assert_eq!((type_.as_str(), ports), ("LoadBalancer", vec![(80, true)]));
        assert_eq!(condition(&sale, "Exposed"), ("False", "LoadBalancerPending"));
        let url = sale.status.unwrap().url.unwrap();
        assert_eq!(url, "http://black-friday.service-types.svc:80");

        let assigned = json!({ "loadBalancer": { "ingress": [{ "ip": "203.0.113.7" }] } });
        report(&services, NAME, assigned).await;
        let (_, _, sale) = look(balanced.clone()).await;
        assert_eq!(condition(&sale, "Exposed"), ("True", "Reachable"));
        assert_eq!(sale.status.unwrap().urls, ["http://203.0.113.7"]);

        let (type_, ports, sale) = look(service(json!({ "type": "NodePort" }))).await;
        assert_eq!((type_.as_str(), ports), ("NodePort", vec![(8080, true)]));
        assert_eq!(sale.status.unwrap().urls, Vec::<String>::new());
        let (type_, ports, sale) = look(json!({})).await;
        assert_eq!((type_.as_str(), &ports), ("ClusterIP", &inside), "no node port is left");
        assert_eq!(condition(&sale, "Exposed"), ("", ""), "nothing is declared any more");
        // And a class can be another one after that.
        look(service(json!({ "type": "LoadBalancer", "loadBalancerClass": "example.com/b" })))
            .await;
        look(json!({})).await;
    }
    let pods = services.get("black-friday-pods").await.unwrap().spec.unwrap().ports.unwrap();
    assert!(pods.iter().any(|it| it.port == 9090), "metrics of each replica, in all types");

    let class =
        |class: &str| service(json!({ "type": "LoadBalancer", "loadBalancerClass": class }));
    apply(&client, &namespace, &with(class("example.com/a"))).await.unwrap();
    let refused = apply(&client, &namespace, &with(class("example.com/b"))).await.unwrap_err();
    assert!(refused.to_string().contains("change the type to ClusterIP first"), "{refused}");
}

#[tokio::test]
async fn an_ingress_comes_and_goes_and_one_of_another_owner_stays() {
    let (client, namespace) = namespace("ingress").await;
    let operator = Operator::idle().await;
    let ingresses: Api<Ingress> = Api::namespaced(client.clone(), &namespace);
    let declared = json!({ "app": { "ingress": {
        "className": "nginx", "hosts": ["sale.example"], "tlsSecretName": "sale-tls",
    } } });
    let sale = change(&operator, &client, &namespace, declared.clone()).await;
    assert_eq!(condition(&sale, "Exposed"), ("False", "IngressPending"));
    assert_eq!(sale.status.unwrap().urls, ["https://sale.example"]);
    let published = json!({ "loadBalancer": { "ingress": [{ "ip": "203.0.113.7" }] } });
    report(&ingresses, NAME, published).await;
    let sale = change(&operator, &client, &namespace, declared.clone()).await;
    assert_eq!(condition(&sale, "Exposed"), ("True", "Reachable"));

    let sale = change(&operator, &client, &namespace, json!({})).await;
    assert!(ingresses.get_opt(NAME).await.unwrap().is_none());
    assert_eq!(condition(&sale, "Exposed"), ("", ""));
    assert_eq!(sale.status.unwrap().urls, Vec::<String>::new());

    let backend = json!({ "service": { "name": "other", "port": { "number": 80 } } });
    let foreign: Ingress = serde_json::from_value(json!({
        "metadata": { "name": NAME }, "spec": { "defaultBackend": backend },
    }))
    .unwrap();
    let before = ingresses.create(&PostParams::default(), &foreign).await.unwrap();
    change(&operator, &client, &namespace, json!({})).await;
    let sale = change(&operator, &client, &namespace, declared).await;
    assert_eq!(condition(&sale, "Ready"), ("False", "NameTaken"));
    assert_eq!(ingresses.get(NAME).await.unwrap(), before);
}

/// The definition of `HTTPRoute`, from the module of the Gateway API.
pub fn http_route_definition() -> CustomResourceDefinition {
    let file = "config/crd/standard/gateway.networking.k8s.io_httproutes.yaml";
    foreign_definition("sigs.k8s.io/gateway-api@v1.4.0", file)
}

/// A definition of another project, from a file of its Go module.
pub fn foreign_definition(module: &str, file: &str) -> CustomResourceDefinition {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new("go")
        .args(["mod", "download", "-json", module])
        .current_dir(folder.path())
        .output()
        .expect("go runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let downloaded: Value = serde_json::from_slice(&output.stdout).unwrap();
    let path = format!("{}/{file}", downloaded["Dir"].as_str().unwrap());
    serde_norway::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// On a server of its own, because a definition is there for all namespaces.
#[tokio::test]
async fn a_route_waits_for_the_gateway_api_and_tells_what_the_gateway_says() {
    let server = Server::with_chart().await;
    let (client, namespace) = (server.admin(), "route");
    create_namespace(&client, namespace).await;
    let operator = Operator::run(server.operator(), Scope::of([namespace]));
    let public = json!({ "name": "public", "namespace": "gateways", "sectionName": "https" });
    let route = json!({ "parentRefs": [public], "hostnames": ["sale.example"] });
    let declared = with(json!({ "app": { "httpRoute": route } }));
    apply(&client, namespace, &declared).await.unwrap();
    let sales: Api<FlashSale> = Api::namespaced(client.clone(), namespace);
    let exposed = |expected: (&'static str, &'static str)| {
        move |sale: Option<&FlashSale>| {
            sale.is_some_and(|sale| condition(sale, "Exposed") == expected)
        }
    };
    wait_for(&sales, NAME, exposed(("False", "GatewayApiMissing"))).await;
    everything_runs(&client, namespace).await;
    let sale = wait_for(&sales, NAME, in_phase(Phase::Open)).await;
    assert_eq!(condition(&sale, "Ready"), ("True", "AllReady"), "everything else goes on");
    assert_eq!(condition(&sale, "Exposed"), ("False", "GatewayApiMissing"));
    let events: Api<Event> = Api::namespaced(client.clone(), namespace);
    let event = eventually("the event", async || {
        let events = events.list(&ListParams::default()).await.unwrap().items;
        events.into_iter().find(|event| event.reason.as_deref() == Some("GatewayApiMissing"))
    })
    .await;
    assert_eq!(event.type_.as_deref(), Some("Warning"));

    install_crd(&client, http_route_definition()).await;
    let routes: Api<HttpRoute> = Api::namespaced(client.clone(), namespace);
    let is_there = |route: Option<&HttpRoute>| route.is_some();
    let route = wait_for(&routes, NAME, is_there).await;
    assert_eq!(route.owner_references()[0].uid, sale.uid().unwrap());
    wait_for(&sales, NAME, exposed(("False", "RoutePending"))).await;

    // What a Gateway's controller would write. The watch of routes brings it to the status.
    let answer = async |accepted: &str| {
        let generation = routes.get(NAME).await.unwrap().metadata.generation;
        let condition = |type_: &str, status: &str| {
            json!({
                "type": type_, "status": status, "reason": "NoMatchingListenerHostname",
                "message": "no hostname in common", "observedGeneration": generation,
                "lastTransitionTime": "2026-11-21T00:00:00Z",
            })
        };
        let parent = json!({
            "parentRef": public, "controllerName": "example.com/gateway",
            "conditions": [condition("Accepted", accepted), condition("ResolvedRefs", "True")],
        });
        report(&routes, NAME, json!({ "parents": [parent] })).await;
    };
    answer("False").await;
    let sale = wait_for(&sales, NAME, exposed(("False", "RouteRefused"))).await;
    let conditions = &sale.status.as_ref().unwrap().conditions;
    let message = &conditions.iter().find(|it| it.type_ == "Exposed").unwrap().message;
    assert!(message.contains("Gateway gateways/public: no hostname in common"), "{message}");
    answer("True").await;
    let sale = wait_for(&sales, NAME, exposed(("True", "Reachable"))).await;
    assert_eq!(sale.status.unwrap().urls, ["https://sale.example"]);

    // An unchanged sale changes nothing on the route.
    let before = routes.get(NAME).await.unwrap().resource_version();
    reconcile_once(&operator, &client, namespace).await;
    assert_eq!(routes.get(NAME).await.unwrap().resource_version(), before);

    // A route that somebody deletes comes back, and an undeclared one goes.
    let first = routes.get(NAME).await.unwrap().uid();
    routes.delete(NAME, &DeleteParams::default()).await.unwrap();
    eventually("the route is back", async || {
        routes.get_opt(NAME).await.unwrap().filter(|route| route.uid() != first)
    })
    .await;
    apply(&client, namespace, &minimal(NAME)).await.unwrap();
    eventually("the route is gone", async || {
        routes.get_opt(NAME).await.unwrap().is_none().then_some(())
    })
    .await;
    wait_for(&sales, NAME, exposed(("", ""))).await;
}

/// A sale from before has no token: it gets one, which is no news to its buyers, and stays ready while replicas of
/// before, and an app that refuses the token, are asked.
#[tokio::test]
async fn a_running_sale_gets_a_token_and_the_app_is_asked_with_it() {
    let (client, namespace) = namespace("token").await;
    let operator = Operator::idle().await;
    apply(&client, &namespace, &minimal(NAME)).await.unwrap();
    reconcile_once(&operator, &client, &namespace).await;
    everything_runs(&client, &namespace).await;
    reconcile_once(&operator, &client, &namespace).await;
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &namespace);
    let own = "black-friday-operator";
    let token = async || {
        let data = secrets.get(own).await.unwrap().data.unwrap();
        String::from_utf8(data["token"].0.clone()).unwrap()
    };
    let first = token().await;
    assert_eq!(operator.app.2.lock().unwrap().as_deref(), Some(first.as_str()));
    let sales: Api<FlashSale> = Api::namespaced(client.clone(), &namespace);
    assert_eq!(condition(&sales.get(NAME).await.unwrap(), "Ready"), ("True", "AllReady"));

    secrets.delete(own, &DeleteParams::default()).await.unwrap();
    reconcile_once(&operator, &client, &namespace).await;
    // The app answers nothing (it refuses the token): the sale stays open while the replicas are replaced.
    reconcile_once(&operator, &client, &namespace).await;
    let second = token().await;
    assert_ne!(first, second);
    assert_eq!(operator.app.2.lock().unwrap().as_deref(), Some(second.as_str()));
    let sale = sales.get(NAME).await.unwrap();
    assert_eq!(sale.status.as_ref().unwrap().phase, Phase::Open);
    assert_eq!(condition(&sale, "Ready"), ("False", "RollingOut"), "replicas get the new token");
    let events: Api<Event> = Api::namespaced(client.clone(), &namespace);
    let events = events.list(&ListParams::default()).await.unwrap().items;
    let regenerated = events.iter().any(|event| event.reason.as_deref() == Some("SecretMadeAgain"));
    assert!(!regenerated, "no buyer's token became invalid");
    assert!(owned(&client, &namespace).await.contains_key("Secret black-friday-operator"));

    let short = Patch::Merge(json!({ "stringData": { "token": "short" } }));
    secrets.patch(own, &PatchParams::default(), &short).await.unwrap();
    reconcile_once(&operator, &client, &namespace).await;
    let sale = sales.get(NAME).await.unwrap();
    assert_eq!(condition(&sale, "Ready"), ("False", "SecretInvalid"));
}
