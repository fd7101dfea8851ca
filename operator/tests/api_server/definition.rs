//! Resource definitions that are late or lax. On a server of its own.

use flashsale_operator::controller::{Scope, wait_for_crd};
use flashsale_operator::crd::{FlashSale, Phase, custom_resource_definition};
use flashsale_operator::flash_sale::names::MANAGED_BY;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams,
};
use kube::core::PartialObjectMeta;
use kube::{Api, CustomResourceExt};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::cluster::in_phase;
use crate::support::{DEADLINE, Operator, Server, eventually, install_crd, minimal, wait_for};

#[tokio::test]
async fn a_missing_definition_is_waited_for_and_a_sale_that_can_t_be_read_says_so_and_stops_no_other()
 {
    // Ends when it is dropped.
    let server = Server::bare().await;
    let client = server.admin();
    let (asking, never) = (client.clone(), CancellationToken::new());
    let waiting = tokio::spawn(async move { wait_for_crd(&asking, &Scope::all(), &never).await });

    // One that lets anything through, as an older or newer one might.
    let mut lax = custom_resource_definition().unwrap();
    lax.spec.versions.truncate(1);
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
    // Metadata that the operator can't read either: anybody may write such times.
    for kind in [FlashSale::api_resource(), ApiResource::erase::<ConfigMap>(&())] {
        let mut timeless = minimal("timeless");
        timeless["apiVersion"] = json!(kind.api_version);
        timeless["kind"] = json!(kind.kind);
        timeless["metadata"]["labels"] = json!({ "app.kubernetes.io/managed-by": MANAGED_BY });
        if kind.kind == "ConfigMap" {
            timeless.as_object_mut().unwrap().remove("spec");
        }
        let objects: Api<DynamicObject> = Api::namespaced_with(client.clone(), "default", &kind);
        let object: DynamicObject = serde_json::from_value(timeless).unwrap();
        objects.create(&PostParams::default(), &object).await.unwrap();
        let never = json!([{
            "manager": "kubectl", "operation": "Update", "apiVersion": kind.api_version,
            "time": "9999-12-31T23:59:59Z", "fieldsType": "FieldsV1", "fieldsV1": { "f:metadata": { "f:labels": { ".": {} } } },
        }]);
        let patch = Patch::Merge(json!({ "metadata": { "managedFields": never } }));
        let patched: Result<PartialObjectMeta<DynamicObject>, _> =
            objects.patch_metadata("timeless", &PatchParams::default(), &patch).await;
        assert!(patched.is_err(), "its answer can't be read: {patched:?}");
    }

    let operator = Operator::run(client.clone(), Scope::all());
    let readable: Api<FlashSale> = Api::namespaced(client.clone(), "default");
    wait_for(&readable, "readable", in_phase(Phase::Provisioning)).await;
    // Its parts are watched: the operator brings back what is deleted.
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    maps.delete("readable-catalog", &DeleteParams::default()).await.unwrap();
    eventually("the catalog is back", async || maps.get_opt("readable-catalog").await.unwrap())
        .await;

    let status = eventually("a condition", async || {
        let sale = sales.get("unreadable").await.unwrap();
        sale.data.get("status").cloned()
    })
    .await;
    assert_eq!(status["phase"], "Failed");
    let ready = &status["conditions"][0];
    assert_eq!(
        [&ready["type"], &ready["status"], &ready["reason"]],
        ["Ready", "False", "Unreadable"]
    );
    assert!(ready["message"].as_str().unwrap().starts_with("spec.products: "), "{ready}");
    let stalled = &status["conditions"][1];
    assert_eq!([&stalled["type"], &stalled["status"]], ["Stalled", "True"]);
    assert_eq!(stalled["message"], ready["message"]);
    let events: Api<Event> = Api::namespaced(client, "default");
    eventually("an event", async || {
        let events = events.list(&ListParams::default()).await.unwrap().items;
        events.into_iter().find(|event| event.reason.as_deref() == Some("Unreadable"))
    })
    .await;
    let metrics = operator.metrics.render().unwrap();
    assert!(metrics.contains("flashsale_operator_unreadable_sales 1"), "{metrics}");
}

/// The whole way of a cluster: sales written by the old version, the definition of today, the migration, and a definition
/// without the old version.
#[tokio::test]
async fn sales_of_the_old_version_are_kept_served_and_migrated() {
    let server = Server::bare().await;
    let client = server.admin();
    let current = custom_resource_definition().unwrap();
    let mut old = current.clone();
    old.spec.versions.remove(0);
    old.spec.versions[0].storage = true;
    install_crd(&client, old).await;
    let mut sale = minimal("old");
    sale["apiVersion"] = json!("flashsale.dev/v1alpha1");
    sale["spec"]["lock"] = json!({ "order": "Fair", "leaseTime": "1500ms" });
    let sale: DynamicObject = serde_json::from_value(sale).unwrap();
    let mut resource = FlashSale::api_resource();
    let new: Api<DynamicObject> = Api::namespaced_with(client.clone(), "default", &resource);
    resource.version = "v1alpha1".to_owned();
    resource.api_version = "flashsale.dev/v1alpha1".to_owned();
    let sales: Api<DynamicObject> = Api::namespaced_with(client.clone(), "default", &resource);
    let written = sales.create(&PostParams::default(), &sale).await.unwrap();

    install_crd(&client, current.clone()).await;
    let read = eventually("the new version is served", async || new.get("old").await.ok()).await;
    assert_eq!(read.types.as_ref().unwrap().api_version, "flashsale.dev/v1beta1");
    assert_eq!((&read.data, &read.metadata.uid), (&written.data, &written.metadata.uid));
    // As docs/OPERATIONS.md says.
    let replaced = new.replace("old", &PostParams::default(), &read).await.unwrap();
    assert_ne!(replaced.metadata.resource_version, read.metadata.resource_version, "written anew");
    let _operator = Operator::run(client.clone(), Scope::all());
    let typed: Api<FlashSale> = Api::namespaced(client.clone(), "default");
    let sale = wait_for(&typed, "old", in_phase(Phase::Provisioning)).await;
    assert_eq!(sale.metadata.generation, Some(1), "a conversion is no change");
    assert_eq!(sales.get("old").await.unwrap().data["status"]["phase"], "Provisioning");

    let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
    let name = "flashsales.flashsale.dev";
    let stored = crds.get(name).await.unwrap().status.unwrap().stored_versions.unwrap();
    assert_eq!(stored, ["v1alpha1", "v1beta1"]);
    let only = Patch::Merge(json!({ "status": { "storedVersions": ["v1beta1"] } }));
    crds.patch_status(name, &PatchParams::default(), &only).await.unwrap();
    let mut later = current;
    later.spec.versions.truncate(1);
    install_crd(&client, later).await;
    assert_eq!(new.get("old").await.unwrap().data["spec"], written.data["spec"]);
}
