//! The phase of a sale: a pure function of observations and of the time, which the driver passes in.

use std::time::Duration;

use jiff::Timestamp;

use super::{hibernation, prewarm};
use crate::crd::{FlashSaleSpec, Phase, Totals};

/// Inputs of [`phase`].
#[derive(Clone, Copy, Debug)]
pub struct Inputs {
    /// The previous phase; absent for a new sale.
    pub previous: Option<Phase>,
    /// Progress of this reconcile.
    pub progress: Progress,
    /// Counts of the database, if known.
    pub totals: Option<Totals>,
    /// Whether a replica still sells with an earlier `startsAt` and `endsAt`. Replicas keep the times of their start.
    pub selling: bool,
}

/// Progress of a reconcile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Something outside the sale is missing.
    Waiting,
    /// The API server refused a part, or the seed failed.
    Blocked,
    /// A part is unavailable or has not started.
    PartsUnavailable,
    /// The parts are available; the seed Job runs.
    Seeding,
    /// The parts are available; a rolling update is in progress.
    RollingOut,
    /// All parts are ready.
    Ready,
    /// The sale has no pods, as declared.
    Hibernated,
}

/// The phase at `now`.
#[must_use]
pub fn phase(spec: &FlashSaleSpec, inputs: Inputs, now: Timestamp) -> Phase {
    let was_ready = inputs.previous.is_some_and(|phase| match phase {
        Phase::Pending | Phase::Provisioning | Phase::Failed | Phase::Hibernated => false,
        Phase::Scheduled | Phase::Open | Phase::SoldOut | Phase::Ended | Phase::Degraded => true,
    });
    if inputs.progress == Progress::Hibernated || stays_hibernated(spec, inputs, now) {
        return Phase::Hibernated;
    }
    if was_ready && !inputs.selling && spec.ends_at.is_some_and(|end| now >= end) {
        return Phase::Ended;
    }
    match inputs.progress {
        Progress::Waiting if !was_ready => Phase::Pending,
        Progress::Blocked if !was_ready => Phase::Failed,
        Progress::PartsUnavailable | Progress::Seeding | Progress::RollingOut if !was_ready => {
            Phase::Provisioning
        }
        Progress::Waiting | Progress::Blocked | Progress::PartsUnavailable => Phase::Degraded,
        // The sale continues while raised stock is seeded and replicas are replaced.
        Progress::Seeding | Progress::RollingOut | Progress::Ready | Progress::Hibernated => {
            by_clock(spec, inputs, now)
        }
    }
}

/// Whether a hibernating sale that waits or is refused a part still has no pods. A sale that waits was not changed; a
/// refused part can belong to a sale that wakes, and the other parts start then.
fn stays_hibernated(spec: &FlashSaleSpec, inputs: Inputs, now: Timestamp) -> bool {
    inputs.previous == Some(Phase::Hibernated)
        && match inputs.progress {
            Progress::Waiting => true,
            Progress::Blocked => hibernation::is_due(spec, inputs.previous, now),
            Progress::PartsUnavailable
            | Progress::Seeding
            | Progress::RollingOut
            | Progress::Ready
            | Progress::Hibernated => false,
        }
}

fn by_clock(spec: &FlashSaleSpec, inputs: Inputs, now: Timestamp) -> Phase {
    if !inputs.selling && spec.ends_at.is_some_and(|end| now >= end) {
        Phase::Ended
    } else if !inputs.selling && spec.starts_at.is_some_and(|start| now < start) {
        Phase::Scheduled
    } else if inputs.totals.is_some_and(|totals| totals.remaining <= 0) {
        Phase::SoldOut
    } else {
        Phase::Open
    }
}

/// Time until `startsAt`, `endsAt` or a hibernation changes the phase, or `app.prewarm` the number of replicas.
#[must_use]
pub fn until_next_change(spec: &FlashSaleSpec, now: Timestamp) -> Option<Duration> {
    let moments = [spec.starts_at, spec.ends_at, hibernation::due_at(spec)].into_iter().flatten();
    let moments = moments.chain(prewarm::window(spec).into_iter().flatten());
    moments
        .filter(|&at| at > now)
        .min()
        .and_then(|at| Duration::try_from(at.duration_since(now)).ok())
}
