//! Where a sale stands: a function of what was seen and of the time, which the driver passes in.

use std::time::Duration;

use jiff::Timestamp;

use crate::crd::{FlashSaleSpec, Phase, Totals};

/// What decides on the phase.
#[derive(Clone, Copy, Debug)]
pub struct Inputs {
    /// The phase until now; absent for a new sale.
    pub previous: Option<Phase>,
    /// How far this pass got.
    pub progress: Progress,
    /// What the database says, if it was asked.
    pub totals: Option<Totals>,
    /// Whether a replica sells by the times it was started with, whatever the spec says now.
    pub selling: bool,
}

/// How far a pass got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Something outside the sale is missing.
    Waiting,
    /// A part was refused, or the stock could not be put in place.
    Blocked,
    /// A part is away or yet to start.
    PartsUnavailable,
    /// The parts are there; the stock is being put in place.
    Seeding,
    /// The parts are there, and some are yet to be replaced by those that are declared.
    RollingOut,
    /// All is there.
    Ready,
}

/// The phase at `now`.
#[must_use]
pub fn phase(spec: &FlashSaleSpec, inputs: Inputs, now: Timestamp) -> Phase {
    let was_ready = inputs.previous.is_some_and(|phase| match phase {
        Phase::Pending | Phase::Provisioning | Phase::Failed => false,
        Phase::Scheduled | Phase::Open | Phase::SoldOut | Phase::Ended | Phase::Degraded => true,
    });
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
        // Raised stock is put in place, and replicas are replaced, while the sale goes on.
        Progress::Seeding | Progress::RollingOut | Progress::Ready => by_clock(spec, inputs, now),
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

/// How long until the clock alone changes the phase.
#[must_use]
pub fn until_next_change(spec: &FlashSaleSpec, now: Timestamp) -> Option<Duration> {
    let ahead = [spec.starts_at, spec.ends_at].into_iter().flatten().filter(|&at| at > now);
    ahead.min().and_then(|at| Duration::try_from(at.duration_since(now)).ok())
}
