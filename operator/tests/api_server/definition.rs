//! Resource definitions that are late or lax. On a server of its own.

use flashsale_operator::controller::{Scope, wait_for_crd};
use flashsale_operator::crd::{FlashSale, Phase, custom_resource_definition};
use kube::Api;
use kube::api::{DynamicObject, PostParams};
use kube::{CustomResourceExt, ResourceExt};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::cluster::in_phase;
use crate::support::{DEADLINE, Operator, Server, install_crd, minimal, wait_for};

#[tokio::test]
async fn a_missing_definition_is_waited_for_and_an_unreadable_sale_stops_no_other() {
    // Ends when it is dropped.
    let server = Server::bare().await;
    let client = server.admin();
    let (asking, never) = (client.clone(), CancellationToken::new());
    let waiting = tokio::spawn(async move { wait_for_crd(&asking, &Scope(None), &never).await });

    // One that lets anything through, as an older or newer one might.
    let mut lax = custom_resource_definition().unwrap();
    lax.spec.versions[0].schema = serde_json::from_value(json!({
        "openAPIV3Schema": { "type": "object", "x-kubernetes-preserve-unknown-fields": true },
    }))
    .unwrap();
    install_crd(&client, lax).await;
    tokio::time::timeout(DEADLINE, waiting).await.unwrap().unwrap();

    let resource = FlashSale::api_resource();
    let sales: Api<DynamicObject> = Api::namespaced_with(client.clone(), "default", &resource);
    let mut unreadable = minimal("unreadable");
    unreadable["spec"]["products"] = json!("none");
    for sale in [unreadable, minimal("readable")] {
        let sale: DynamicObject = serde_json::from_value(sale).unwrap();
        sales.create(&PostParams::default(), &sale).await.unwrap();
    }
    let _operator = Operator::run(client.clone(), Scope(None));
    let readable: Api<FlashSale> = Api::namespaced(client, "default");
    wait_for(&readable, "readable", in_phase(Phase::Provisioning)).await;
    let unreadable = sales.get("unreadable").await.unwrap();
    assert!(unreadable.data.get("status").is_none(), "{}", unreadable.name_any());
}
