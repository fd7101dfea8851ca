//! State of the seed Job: whether the declared stock is seeded, and which Jobs are obsolete.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobCondition};
use kube::ResourceExt;

use super::names::TEMPLATE_CHECKSUM;

/// Delay of a retry after a failed seed Job.
const RETRY_FAILED: Duration = Duration::from_mins(1);

/// State of the seed Job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seed {
    /// The Job has not finished.
    Running,
    /// The stock is seeded.
    Done,
    /// The Job failed.
    Failed {
        /// Message of the Job.
        message: String,
        /// Time until the retry; zero: now.
        retry_after: Duration,
    },
}

/// State of `job` at `now`.
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

/// Whether `found` is unfinished and has another template than `wanted`, such as another image or other resources. A
/// Job is immutable, so its pods would keep the old template.
#[must_use]
pub fn is_outdated(found: &Job, wanted: &Job) -> bool {
    let template = |job: &Job| job.annotations().get(TEMPLATE_CHECKSUM).cloned();
    is_true(found, "Complete").is_none() && template(found) != template(wanted)
}

/// Whether any stock is seeded.
#[must_use]
pub fn has_completed(jobs: &[Job]) -> bool {
    jobs.iter().any(|job| is_true(job, "Complete").is_some())
}

/// Jobs whose pods still run or are retried. A hibernating sale has none.
pub fn unfinished(jobs: &[Job]) -> impl Iterator<Item = &Job> {
    jobs.iter().filter(|job| is_true(job, "Complete").is_none())
}

/// Obsolete Jobs: those of earlier stock, and `current` itself if its retry is due.
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
