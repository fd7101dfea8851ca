//! What the seed Jobs say: whether the declared stock is in place, and what to do about old Jobs.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobCondition};
use kube::ResourceExt;

use super::names::TEMPLATE_CHECKSUM;

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
    if is_true(job, "Complete").is_some() {
        return Seed::Done;
    }
    let Some(failed) = is_true(job, "Failed") else {
        return Seed::Running;
    };
    let since = failed.last_transition_time.as_ref().map_or(now, |time| time.0);
    let elapsed = Duration::try_from(now.duration_since(since)).unwrap_or_default();
    Seed::Failed {
        message: failed.message.clone().unwrap_or_default(),
        retry_after: RETRY_FAILED.saturating_sub(elapsed),
    }
}

fn is_true<'a>(job: &'a Job, kind: &str) -> Option<&'a JobCondition> {
    let conditions = job.status.as_ref()?.conditions.as_deref()?;
    conditions.iter().find(|condition| condition.type_ == kind && condition.status == "True")
}

/// Whether `found` is to do what `wanted` does, in another way (another image, other resources), and
/// has not done it. A Job can't be changed, so its pods would keep what was wrong.
#[must_use]
pub fn is_outdated(found: &Job, wanted: &Job) -> bool {
    let template = |job: &Job| job.annotations().get(TEMPLATE_CHECKSUM).cloned();
    is_true(found, "Complete").is_none() && template(found) != template(wanted)
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
