//! Ticks of a clock for loops that wait for something else too.

use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior, interval};

/// A tick at once, and then one each period. Ticks that were missed, because the process was stopped or its output was not
/// read, do not follow all at once.
pub fn ticks(period: Duration) -> Interval {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[tokio::test]
    async fn missed_ticks_do_not_follow_at_once() {
        let period = Duration::from_millis(40);
        let mut ticks = ticks(period);
        ticks.tick().await;
        std::thread::sleep(5 * period);
        // Before the late tick: this thread may be stopped behind it.
        let late = Instant::now();
        ticks.tick().await;
        ticks.tick().await;
        assert!(late.elapsed() >= period / 2, "{:?}", late.elapsed());
    }
}
