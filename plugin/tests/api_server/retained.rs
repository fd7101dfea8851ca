//! `retained`.

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Secret};
use kube::Api;
use kube::api::ListParams;
use serde_json::{Value, json};

use crate::support::Shop;

fn claim(name: &str, labels: &Value) -> Value {
    json!({
        "metadata": { "name": name, "labels": labels },
        "spec": { "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } } },
    })
}

#[tokio::test]
async fn retained_data_are_listed_and_removed_only_when_told_to() {
    let shop = Shop::open("retained").await;
    let nothing = shop.run(&["retained", "list"]).await;
    assert!(nothing.code == Some(0) && nothing.err.contains("nothing is retained"), "{nothing:?}");
    let label = json!({ "flashsale.dev/retained": "autumn" });
    shop.create::<PersistentVolumeClaim>(claim("data-autumn-db-0", &label)).await;
    shop.create::<PersistentVolumeClaim>(claim("data-live-db-0", &json!({}))).await;
    let secret = json!({ "metadata": { "name": "autumn-db", "labels": label }, "stringData": { "uri": "x" } });
    shop.create::<Secret>(secret).await;

    let listed = shop.run(&["retained", "list"]).await;
    assert!(listed.out.contains("pvc/data-autumn-db-0 secret/autumn-db"), "{listed:?}");
    assert!(!listed.out.contains("data-live"), "{listed:?}");
    let claims: Api<PersistentVolumeClaim> = shop.api();
    let number = async || claims.list(&ListParams::default()).await.unwrap().items.len();
    let asked = shop.run(&["retained", "remove", "autumn"]).await;
    assert_eq!((asked.code, number().await), (Some(2), 2), "{asked:?}");
    assert!(asked.err.contains("--yes"), "{asked:?}");
    let unknown = shop.run(&["retained", "remove", "live", "--yes"]).await;
    assert_eq!((unknown.code, number().await), (Some(2), 2), "{unknown:?}");
    let removed = shop.run(&["retained", "remove", "autumn", "--yes"]).await;
    assert_eq!(removed.code, Some(0), "{removed:?}");
    // Claims have a finalizer that a controller removes.
    let live = claims.list(&ListParams::default()).await.unwrap().items;
    let live = live.iter().filter(|claim| claim.metadata.deletion_timestamp.is_none()).count();
    assert_eq!(live, 1);
    let secrets: Api<Secret> = shop.api();
    assert!(secrets.get_opt("autumn-db").await.unwrap().is_none());
}
