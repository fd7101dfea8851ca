//! What the operator requests from the app while the number of Redis nodes changes. Takes no client and no clock.

use super::names;
use super::nodes::ExistingNodes;
use super::validate::ValidatedSale;

/// The addresses to request from the app; `None`: there is nothing to change, or the pods of the nodes do not exist yet.
#[must_use]
pub fn to_request(sale: &ValidatedSale, existing: ExistingNodes) -> Option<Vec<String>> {
    let declared = sale.spec.redis.nodes;
    let pods_exist = existing.pods.is_some_and(|pods| pods >= declared);
    let due = existing.differ_from(declared) && pods_exist && !sale.hibernates;
    due.then(|| names::redis_addresses(&sale.namespace, &sale.name, declared).collect())
}
