//! Part of step 5: the images that the sale keeps from now on, because its parts are ready with them.

use k8s_openapi::api::apps::v1::StatefulSet;

use super::app_client::SaleReport;
use super::build::{Applied, KubernetesResources};
use super::names::{DATABASE_CONTAINER, REDIS_CONTAINER};
use super::pinned_images::{container, major_version};
use super::rollout;
use crate::crd::ImagesStatus;

/// The images after a reconcile. Parts that are not ready keep the previous ones.
pub(super) fn after(
    previous: Option<&ImagesStatus>,
    resources: &KubernetesResources<Applied>,
    report: Option<&SaleReport>,
) -> Option<ImagesStatus> {
    let previous = previous.cloned().unwrap_or_default();
    let redis = ready_image(&resources.redis, REDIS_CONTAINER).or(previous.redis);
    let Some(own) = &resources.database else {
        return redis.map(|redis| ImagesStatus { redis: Some(redis), ..ImagesStatus::default() });
    };
    let database = ready_image(own, DATABASE_CONTAINER);
    let reported = report.and_then(|report| report.database.as_ref()?.version);
    let database_version = reported
        .or_else(|| database.as_deref().and_then(major_version))
        .or(previous.database_version);
    let kept = ImagesStatus { redis, database: database.or(previous.database), database_version };
    (kept != ImagesStatus::default()).then_some(kept)
}

/// The image with which all pods are ready.
fn ready_image(set: &StatefulSet, name: &str) -> Option<String> {
    let status = rollout::redis_status(set);
    let all_ready = status.nodes > 0 && status.ready == status.nodes && rollout::of_nodes(set).done;
    container(set, name).filter(|_| all_ready)?.image.clone()
}
