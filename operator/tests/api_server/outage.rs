//! An API server that is away for a while.

use std::time::Duration;

use flashsale_operator::controller::Scope;
use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use serde_json::json;

use crate::cluster::NAME;
use crate::support::{Operator, Server, apply, create_namespace, minimal, wait_for};

/// Long enough that each watch of the operator has failed several times.
const AWAY: Duration = Duration::from_secs(15);

#[tokio::test]
async fn a_change_is_followed_soon_after_the_api_server_was_away() {
    let server = Server::with_chart().await;
    let (client, namespace) = (server.admin(), "outage");
    create_namespace(&client, namespace).await;
    let apps: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let replicas = |wanted| {
        move |app: Option<&Deployment>| {
            app.and_then(|app| app.spec.as_ref()?.replicas) == Some(wanted)
        }
    };
    let mut sale = minimal(NAME);
    let _operator = Operator::run(server.operator(), Scope::all());
    sale["spec"]["app"] = json!({ "replicas": 2 });
    apply(&client, namespace, &sale).await.unwrap();
    wait_for(&apps, NAME, replicas(2)).await;

    server.is_away_during(tokio::time::sleep(AWAY)).await;

    sale["spec"]["app"] = json!({ "replicas": 3 });
    apply(&client, namespace, &sale).await.unwrap();
    wait_for(&apps, NAME, replicas(3)).await;
}
