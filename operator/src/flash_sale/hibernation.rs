//! Hibernation: a sale without pods, whose data stay. Takes no client and no clock.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::app_client::{SaleReport, Unfinished};
use super::build::{Applied, KubernetesResources};
use super::names::Component;
use crate::crd::{FlashSaleSpec, HibernationMode, Phase};

/// Default of `hibernation.delay`.
const DELAY: Duration = Duration::from_hours(1);
/// How long after `hibernation.delay` the pods wait for events that cannot be delivered, and for a replica that answers.
/// Neither ends by itself.
const PATIENCE: SignedDuration = SignedDuration::from_hours(1);

/// Whether the sale should have no pods at `now`. `AfterEnd` waits for the phase `Ended`: until then, a replica sells
/// by former times, or the sale was never ready.
#[must_use]
pub fn is_due(spec: &FlashSaleSpec, phase: Option<Phase>, now: Timestamp) -> bool {
    let ended = matches!(phase, Some(Phase::Ended | Phase::Hibernated));
    match mode(spec) {
        HibernationMode::Never => false,
        HibernationMode::Now => true,
        HibernationMode::AfterEnd => ended && due_at(spec).is_some_and(|due| now >= due),
    }
}

/// Time of the hibernation by the clock, if nothing is unfinished.
#[must_use]
pub fn due_at(spec: &FlashSaleSpec) -> Option<Timestamp> {
    if mode(spec) != HibernationMode::AfterEnd {
        return None;
    }
    spec.ends_at?.checked_add(SignedDuration::try_from(delay(spec)).ok()?).ok()
}

/// Whether the pods run and would end by the clock at `now`, so that the app is asked first what is unfinished.
#[must_use]
pub fn is_due_by_clock(spec: &FlashSaleSpec, phase: Option<Phase>, now: Timestamp) -> bool {
    phase == Some(Phase::Ended)
        && mode(spec) == HibernationMode::AfterEnd
        && is_due(spec, phase, now)
}

/// What the pods of a sale that is due by the clock still run for; `None`: nothing. A version of the app that does not
/// report what is unfinished goes by the clock.
#[must_use]
pub fn unfinished(
    spec: &FlashSaleSpec,
    report: Option<&SaleReport>,
    now: Timestamp,
) -> Option<String> {
    let until = due_at(spec)?.checked_add(PATIENCE).ok()?;
    let is_patient = now < until;
    let Some(report) = report.filter(|report| !report.database_unavailable) else {
        return is_patient.then(|| {
            format!("hibernation waits until {until} for a replica that counts what is unfinished")
        });
    };
    let Unfinished { holds, waitlists, events } = report.unfinished?;
    let counts = [("holds", holds), ("waitlists", waitlists)];
    let mut parts: Vec<String> = counts
        .into_iter()
        .filter(|(_, count)| *count > 0)
        .map(|(name, count)| format!("{name}: {count}"))
        .collect();
    if events > 0 && is_patient {
        parts.push(format!("events: {events} (until {until})"));
    }
    (!parts.is_empty()).then(|| format!("hibernation waits for {}", parts.join(", ")))
}

/// Time from the end of the sale to its hibernation by the clock.
#[must_use]
pub fn delay(spec: &FlashSaleSpec) -> Duration {
    let declared = spec.hibernation.as_ref().and_then(|hibernation| hibernation.delay);
    declared.map_or(DELAY, Duration::from)
}

fn mode(spec: &FlashSaleSpec) -> HibernationMode {
    spec.hibernation.as_ref().map_or(HibernationMode::Never, |hibernation| hibernation.mode)
}

/// Whether the applied objects are those of a hibernating sale: any other sale has a Redis node.
#[must_use]
pub fn is_applied<State>(resources: &KubernetesResources<State>) -> bool {
    resources.redis.spec.as_ref().and_then(|spec| spec.replicas) == Some(0)
}

/// A pod that has not ended yet, other than those of backups, or a workload whose controller has not seen the change;
/// `None`: all pods are gone.
#[must_use]
pub fn remaining(resources: &KubernetesResources<Applied>, pods: &[Pod]) -> Option<String> {
    let pod = pods.iter().find(|pod| {
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        // A backup without its database fails, and its Job gives up by itself, which can take an hour.
        !Component::Backup.has(pod) && !matches!(phase, Some("Succeeded" | "Failed"))
    });
    if let Some(pod) = pod {
        return Some(format!("pod {} is still terminating", pod.name_any()));
    }
    let sets = [Some(&resources.redis), resources.database.as_ref()];
    let mut pods_of_sets = sets.into_iter().flatten().map(|set| {
        let status = set.status.clone().unwrap_or_default();
        (status.observed_generation, set.metadata.generation, Some(status.replicas))
    });
    let app = resources.app.status.clone().unwrap_or_default();
    let of_app = (app.observed_generation, resources.app.metadata.generation, app.replicas);
    let left = pods_of_sets.any(is_left) || is_left(of_app);
    left.then(|| "pods are still terminating".to_owned())
}

fn is_left((observed, generation, pods): (Option<i64>, Option<i64>, Option<i32>)) -> bool {
    observed.unwrap_or_default() < generation.unwrap_or_default() || pods.unwrap_or_default() > 0
}
