//! What the seed Jobs say: whether the declared stock is in place, and what to do about old Jobs.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt;

/// A failed seed is tried again after this long: a database may have come up since.
const RETRY_FAILED: Duration = Duration::from_mins(1);

/// Whether the stock is in place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seed {
    /// The Job that puts it there is yet to finish.
    Running,
    /// It is.
    Done,
    /// The Job gave up.
    Failed {
        /// In the Job's words.
        message: String,
        /// How long until it is worth another try; zero: now.
        retry_after: Duration,
    },
}

/// What `job` says at `now`.
#[must_use]
pub fn state(job: &Job, now: Timestamp) -> Seed {
    let status = job.status.as_ref();
    let conditions = status.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let is_true = |kind: &str| {
        conditions.iter().find(|condition| condition.type_ == kind && condition.status == "True")
    };
    if is_true("Complete").is_some() {
        return Seed::Done;
    }
    let Some(failed) = is_true("Failed") else {
        return Seed::Running;
    };
    let since = failed.last_transition_time.as_ref().map_or(now, |time| time.0);
    let elapsed = Duration::try_from(now.duration_since(since)).unwrap_or_default();
    Seed::Failed {
        message: failed.message.clone().unwrap_or_default(),
        retry_after: RETRY_FAILED.saturating_sub(elapsed),
    }
}

/// Jobs that are no longer needed: those of earlier stock, once `current` exists, and `current`
/// itself when it failed long enough ago.
pub fn obsolete<'a>(
    jobs: &'a [Job],
    current: &'a Job,
    state: &Seed,
) -> impl Iterator<Item = &'a Job> {
    let retry = matches!(state, Seed::Failed { retry_after, .. } if retry_after.is_zero());
    let name = current.name_any();
    let earlier = jobs.iter().filter(move |job| job.name_any() != name);
    earlier.chain(retry.then_some(current))
}
