//! The conditions that say whether a person must act, by the convention of kstatus: `Reconciling` while the sale
//! makes progress, `Stalled` while nothing will happen without a person, none of them while it is ready. Flux, Argo CD
//! and `helm --wait` read them. Takes no client and no clock.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::nodes::NODES_UNSUPPORTED;
use crate::crd::{FlashSaleStatus, Phase, WaitingFor, condition};

/// Inputs of [`complete`].
pub(super) struct Inputs<'a> {
    /// The status so far: the phase, and the conditions of the parts and of the sale.
    pub status: &'a FlashSaleStatus,
    /// The previous status.
    pub previous: &'a FlashSaleStatus,
    /// Whether the conditions of the parts were evaluated in this reconcile.
    pub parts_evaluated: bool,
    /// Whether the pods of the Redis nodes and of the database are ready, so that a failure of the seed is its own.
    pub stores_up: bool,
    /// Warnings about the spec; absent: they were not evaluated.
    pub warnings: Option<&'a [String]>,
    /// What the pods run for although the sale should hibernate by the clock.
    pub unfinished: Option<&'a str>,
    /// Time of the observation.
    pub now: Timestamp,
}

const SEED_FAILED: &str = "SeedFailed";

/// Time after which a person must act on a reason. Until then the kubelet, the scheduler or another controller may
/// still succeed.
fn grace(reason: &str) -> Duration {
    match reason {
        // Decided: a retry changes nothing.
        "ChangeRefused"
        | "NameTaken"
        | "NoImage"
        | "SecretInvalid"
        | "DataLost"
        | "DataRetained"
        | "RetainedDataMissing"
        | "DatabaseClaimed"
        | "RolloutStuck"
        | "VolumeUnreadable" => Duration::ZERO,
        // Retried by the kubelet or by a controller several times a minute. The seed: by the operator once a minute,
        // so a corrected sale is not judged by the Job of before.
        SEED_FAILED
        // The same edit may bring the image that can.
        | NODES_UNSUPPORTED
        | "ImagePullBackOff"
        | "CreateContainerConfigError"
        | "RunContainerError"
        | "CrashLoopBackOff"
        | "OOMKilled"
        | "PodFailed"
        | "FailedCreate"
        | "FailedCreatePodSandBox"
        | "SecretMissing"
        | "SecretIncomplete" => Duration::from_mins(2),
        // New machines and volumes take minutes.
        "Unschedulable" | "FailedMount" | "ProvisioningFailed" => Duration::from_mins(5),
        // No cause is known: large images, restarts one at a time.
        _ => Duration::from_mins(15),
    }
}

/// The conditions after those of the parts, and the reason that the sale waits for.
pub(super) fn complete(inputs: &Inputs<'_>) -> (Vec<Condition>, Option<WaitingFor>) {
    let mut conditions = inputs.status.conditions.clone();
    let ready = conditions.iter().find(|it| it.type_ == condition::READY).cloned();
    let Some(ready) = ready.filter(|ready| ready.status != "True") else {
        conditions.extend(warning(inputs));
        conditions.extend(hibernation_delayed(inputs));
        return (conditions, None);
    };
    let unmet = candidate(inputs, &ready);
    let reason = waited_for(&unmet).to_owned();
    let since = waiting_since(inputs, &reason);
    let elapsed = Duration::try_from(inputs.now.duration_since(since.0)).unwrap_or_default();
    conditions.push(if elapsed >= grace(&unmet.reason) {
        raised(inputs, condition::STALLED, &unmet.reason, &unmet.message)
    } else {
        raised(inputs, condition::RECONCILING, &ready.reason, &ready.message)
    });
    if inputs.status.phase == Phase::Degraded {
        conditions.push(raised(inputs, condition::DEGRADED, &ready.reason, &ready.message));
    }
    conditions.extend(warning(inputs));
    conditions.extend(hibernation_delayed(inputs));
    (conditions, Some(WaitingFor { reason, since }))
}

/// The unmet condition that a person must act on first.
fn candidate(inputs: &Inputs<'_>, ready: &Condition) -> Condition {
    let parts = inputs.status.conditions.iter().filter(|it| {
        let is_part = condition::PARTS.contains(&it.type_.as_str());
        // The seed needs the stores: until they are up, its failure is a consequence.
        let is_consequence = it.type_ == condition::STOCK_SEEDED && !inputs.stores_up;
        inputs.parts_evaluated && is_part && it.status != "True" && !is_consequence
    });
    let all = parts.chain([ready]);
    all.min_by_key(|it| grace(&it.reason)).unwrap_or(ready).clone()
}

/// The reason that the sale waits for. The crashes of the seed lead to the failure of its Job: one reason.
fn waited_for(unmet: &Condition) -> &str {
    let crashes = unmet.type_ == condition::STOCK_SEEDED && unmet.reason == "CrashLoopBackOff";
    if crashes { SEED_FAILED } else { &unmet.reason }
}

/// Since when the sale waits for this reason. A new generation starts anew, because its pods have just been created.
fn waiting_since(inputs: &Inputs<'_>, reason: &str) -> Time {
    let same_generation = inputs.previous.observed_generation == inputs.status.observed_generation;
    let before = inputs.previous.waiting_for.as_ref().filter(|_| same_generation);
    let before = before.filter(|before| before.reason == reason);
    before.map_or(Time(whole_second(inputs.now)), |before| before.since.clone())
}

fn warning(inputs: &Inputs<'_>) -> Option<Condition> {
    match inputs.warnings {
        Some([]) => None,
        Some(warnings) => {
            let message = warnings.join("; ");
            Some(raised(inputs, condition::CONFIGURATION_WARNING, "Risky", &message))
        }
        None => {
            let mut previous = inputs.previous.conditions.iter();
            previous.find(|it| it.type_ == condition::CONFIGURATION_WARNING).cloned()
        }
    }
}

fn hibernation_delayed(inputs: &Inputs<'_>) -> Option<Condition> {
    let message = inputs.unfinished?;
    Some(raised(inputs, condition::HIBERNATION_DELAYED, "Unfinished", message))
}

/// A condition that is present only while it is True.
fn raised(inputs: &Inputs<'_>, type_: &str, reason: &str, message: &str) -> Condition {
    let before = inputs.previous.conditions.iter().find(|it| it.type_ == type_);
    let since = before.filter(|it| it.status == "True").map(|it| it.last_transition_time.clone());
    Condition {
        type_: type_.to_owned(),
        status: "True".to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        observed_generation: Some(inputs.status.observed_generation),
        last_transition_time: since.unwrap_or(Time(whole_second(inputs.now))),
    }
}

/// The API has whole seconds.
fn whole_second(now: Timestamp) -> Timestamp {
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}
