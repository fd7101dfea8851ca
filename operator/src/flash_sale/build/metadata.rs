//! Metadata that all parts of a sale share.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::flash_sale::names::{self, Component};
use crate::flash_sale::validate::ValidatedSale;

/// Metadata of a part. Its owner reference deletes the part with the sale.
pub(super) fn metadata(sale: &ValidatedSale, name: String, component: Component) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: Some(sale.namespace.clone()),
        labels: Some(names::labels(&sale.name, component)),
        owner_references: Some(vec![sale.owner.clone()]),
        ..ObjectMeta::default()
    }
}
