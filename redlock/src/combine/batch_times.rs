//! Predicts the end of a batch from the batches before it.

use std::time::{Duration, Instant};

/// How late a timer may fire.
const TIMER: Duration = Duration::from_millis(1);

/// How long the batches of one resource take.
#[derive(Debug, Default)]
pub(super) struct BatchTimes {
    /// A moving average; zero until a batch was measured.
    average: Duration,
    began: Option<Instant>,
}

impl BatchTimes {
    /// A batch begins.
    pub(super) fn batch_began(&mut self) {
        self.began = Some(Instant::now());
    }

    /// The batch is over.
    pub(super) fn batch_ended(&mut self) {
        if let Some(took) = self.began.take().map(|began| began.elapsed()) {
            let known = if self.average.is_zero() { took } else { self.average };
            self.average = known.saturating_sub(known / 4) + took / 4;
        }
    }

    /// When to begin something that takes this long and should end with the present batch. Before a batch was
    /// measured: at once.
    pub(super) fn start_of(&self, takes: Duration) -> Option<Instant> {
        let before = self.average.saturating_sub(takes + TIMER);
        Some(self.began? + before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_should_end_with_the_batch_begins_as_much_before_as_it_takes() {
        let mut times = BatchTimes::default();
        assert_eq!(times.start_of(TIMER), None, "no batch");
        times.batch_began();
        let began = times.began.unwrap();
        assert_eq!(times.start_of(TIMER), Some(began), "no batch was measured");
        times.average = 10 * TIMER;
        assert_eq!(times.start_of(3 * TIMER), Some(began + 6 * TIMER));
        assert_eq!(times.start_of(10 * TIMER), Some(began));
        times.batch_ended();
        assert!(times.average < 10 * TIMER);
        assert_eq!(times.start_of(TIMER), None);
    }
}
