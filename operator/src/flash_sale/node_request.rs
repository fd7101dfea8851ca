//! What the operator requests from the app while the number of Redis nodes changes. Takes no client and no clock.

use super::dereference::References;
use super::names;
use super::nodes::ExistingNodes;
use super::seed;
use super::validate::ValidatedSale;
use crate::crd::{FlashSaleStatus, Phase};

/// The nodes that exist, as far as their lock is in use. `status`: of the sale before this reconcile.
///
/// A sale can fail to start because of its nodes, such as five in a namespace with a quota of five pods. Then no replica
/// can confirm a change, and fewer nodes are the remedy.
#[must_use]
pub fn existing_nodes(references: &References, status: Option<&FlashSaleStatus>) -> ExistingNodes {
    if is_lock_used(references, status) {
        references.nodes.reported(status.and_then(|status| status.redis.as_ref()))
    } else {
        references.nodes.of_unused_lock()
    }
}

/// Whether replicas of the app may have used the lock: there is or was stock to sell, or one is or was ready.
fn is_lock_used(references: &References, status: Option<&FlashSaleStatus>) -> bool {
    let was_used = |status: &FlashSaleStatus| {
        let never_ready =
            matches!(status.phase, Phase::Pending | Phase::Provisioning | Phase::Failed);
        let reported = status.redis.as_ref().is_some_and(|redis| redis.members.is_some());
        !never_ready || reported || status.database.is_some() || status.totals.is_some()
    };
    references.app_is_ready
        || seed::has_completed(&references.seed_jobs)
        || status.is_some_and(was_used)
}

/// The addresses to request from the app; `None`: there is nothing to change, or the pods of the nodes do not exist yet.
#[must_use]
pub fn to_request(sale: &ValidatedSale, existing: ExistingNodes) -> Option<Vec<String>> {
    let declared = sale.spec.redis.nodes;
    let pods_exist = existing.pods.is_some_and(|pods| pods >= declared);
    let due = existing.differ_from(declared) && pods_exist && !sale.hibernates;
    due.then(|| names::redis_addresses(&sale.namespace, &sale.name, declared).collect())
}
