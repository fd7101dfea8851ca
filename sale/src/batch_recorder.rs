//! Records what a batch waited for, for an observer that follows single callers. Without such an observer nothing is
//! recorded.

use std::time::Instant;

use redlock::Lease;

use crate::batch_report::{BatchKind, BatchReport, Origin, Step, StepKind};
use crate::observer::Observer;

/// An item of a batch, with the mark of its caller.
#[derive(Debug)]
pub(crate) struct Marked<T> {
    pub(crate) item: T,
    pub(crate) origin: Option<Origin>,
}

/// Records the steps of a batch. Does nothing if none of its callers has a mark.
#[derive(Debug)]
pub(crate) struct BatchRecorder {
    steps: Option<Vec<Step>>,
}

impl BatchRecorder {
    /// A recorder for these callers.
    pub(crate) fn new<'a>(origins: impl IntoIterator<Item = &'a Option<Origin>>) -> Self {
        let is_followed = origins.into_iter().any(Option::is_some);
        Self { steps: is_followed.then(Vec::new) }
    }

    /// Records the acquisition of this lease.
    pub(crate) fn acquired(&mut self, lease: &Lease) {
        if let Some(steps) = &mut self.steps {
            let (started, ended) = lease.acquisition();
            steps.push(Step { kind: StepKind::Lock, started, ended });
        }
    }

    /// The start of a step, for [`BatchRecorder::ended`]. The step's future is not passed through here: that would
    /// double the size of the future of every batch.
    pub(crate) fn started(&self) -> Option<Instant> {
        self.steps.as_ref().map(|_| Instant::now())
    }

    /// Records a step.
    pub(crate) fn ended(&mut self, kind: StepKind, started: Option<Instant>) {
        if let (Some(steps), Some(started)) = (&mut self.steps, started) {
            steps.push(Step { kind, started, ended: Instant::now() });
        }
    }

    /// Reports the batch.
    pub(crate) fn report<'a>(
        self,
        observer: &dyn Observer,
        kind: BatchKind,
        origins: impl Iterator<Item = &'a Option<Origin>>,
        failure: Option<&'static str>,
    ) {
        let Some(steps) = self.steps else { return };
        let mut size = 0;
        let counted = origins.inspect(|_| size += 1);
        let origins = counted.filter_map(Option::as_ref).collect();
        observer.batch_ended(&BatchReport { kind, size, origins, steps: &steps, failure });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Debug, Default)]
    struct Reports(Mutex<Vec<(usize, usize, Vec<StepKind>)>>);

    impl Observer for Reports {
        fn batch_ended(&self, report: &BatchReport<'_>) {
            let steps = report.steps.iter().map(|step| step.kind).collect();
            self.0.lock().unwrap().push((report.size, report.origins.len(), steps));
        }
    }

    #[test]
    fn a_batch_is_recorded_only_for_a_caller_with_a_mark() {
        let reports = Reports::default();
        let unmarked = [None, None];
        let marked: [Option<Origin>; 3] = [None, Some(Arc::new(1)), Some(Arc::new(2))];
        for origins in [&unmarked[..], &marked[..]] {
            let mut recorder = BatchRecorder::new(origins);
            let started = recorder.started();
            recorder.ended(StepKind::Database, started);
            recorder.report(&reports, BatchKind::Orders, origins.iter(), None);
        }
        let expected = (3, 2, vec![StepKind::Database]);
        assert_eq!(*reports.0.lock().unwrap(), [expected]);
    }
}
