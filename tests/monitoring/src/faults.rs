//! Faults of other sales and of the operator, with the alerts that they fire until they are mended.

use anyhow::Result;
use serde_json::{Value, json};
use testkit::Authority;

use crate::live::Live;
use crate::shop::NAMESPACE;

fn sale(name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "flashsale.dev/v1beta1", "kind": "FlashSale",
        "metadata": { "namespace": NAMESPACE, "name": name }, "spec": spec,
    })
}

/// The certificate of a sale's stores is valid for one more day.
///
/// # Errors
/// When the alert does not fire, or goes on after a renewal.
pub async fn certificate_of_the_stores_expires(live: &Live, authority: &Authority) -> Result<()> {
    let secret = |days: i32| -> Result<Value> {
        let issued = authority.issue("localhost", days)?;
        Ok(json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": { "namespace": NAMESPACE, "name": "vault-tls" },
            "stringData": {
                "tls.crt": issued.certificate, "tls.key": issued.key, "ca.crt": authority.certificate(),
            },
        }))
    };
    live.cluster.apply(&secret(1)?).await?;
    let tls = json!({ "mode": "Secret", "secretRef": { "name": "vault-tls" } });
    let spec = json!({ "products": [{ "id": "1", "stock": 10 }], "stores": { "tls": tls } });
    live.cluster.apply(&sale("vault", &spec)).await?;
    live.await_alert("FlashSaleStoresCertificateExpires", true).await?;
    live.cluster.apply(&secret(30)?).await?;
    live.await_alert("FlashSaleStoresCertificateExpires", false).await
}

/// A sale has a field that Kubernetes does not know.
///
/// # Errors
/// When the alert does not fire, or goes on after the correction.
pub async fn sale_unreadable(live: &Live) -> Result<()> {
    let mut spec = json!({ "products": [{ "id": "1", "stock": 10 }] });
    let corrected = sale("misspelled", &spec);
    let affinity = json!({ "nodeAffinity": { "preferred": [] } });
    spec["redis"] = json!({ "podTemplate": { "affinity": affinity } });
    live.cluster.apply(&sale("misspelled", &spec)).await?;
    live.await_alert("FlashSaleUnreadable", true).await?;
    live.cluster.apply(&corrected).await?;
    live.await_alert("FlashSaleUnreadable", false).await
}

/// The only operator is a standby.
///
/// # Errors
/// When the alert does not fire, or goes on when an operator leads.
pub async fn no_operator_leads(live: &mut Live) -> Result<()> {
    live.cluster.kill_operator()?;
    live.cluster.start_standby().await?;
    live.await_alert("FlashSaleNoOperatorLeads", true).await?;
    live.cluster.kill_operator()?;
    live.cluster.start_operator()?;
    live.await_alert("FlashSaleNoOperatorLeads", false).await
}
