//! Prometheus metrics of this process, for the app and the operator.

use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use prometheus::core::{Collector, Desc};
use prometheus::process_collector::ProcessCollector;
use prometheus::proto::{Counter, MetricFamily};

const PROCESSOR_TIME: &str = "process_cpu_seconds_total";

/// The library's metrics. It counts whole seconds of processor time; here they have fractions, without which the rate of
/// a process that is not busy is 0 and then jumps.
#[derive(Debug)]
pub struct ProcessMetrics(ProcessCollector);

impl ProcessMetrics {
    /// Of this process.
    #[must_use]
    pub fn of_this_process() -> Self {
        Self(ProcessCollector::for_self())
    }
}

impl Collector for ProcessMetrics {
    fn desc(&self) -> Vec<&Desc> {
        self.0.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut families = self.0.collect();
        let of_processor = families.iter_mut().find(|family| family.name() == PROCESSOR_TIME);
        if let (Some(family), Ok(usage)) = (of_processor, getrusage(UsageWho::RUSAGE_SELF)) {
            let spent = usage.user_time() + usage.system_time();
            let spent = Duration::from_micros(spent.num_microseconds().unsigned_abs());
            for metric in family.mut_metric() {
                let mut counter = Counter::default();
                counter.set_value(spent.as_secs_f64());
                metric.set_counter(counter);
            }
        }
        families
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_has_fractions() {
        let metrics = ProcessMetrics::of_this_process();
        let value = || {
            let families = metrics.collect();
            let family = families.iter().find(|family| family.name() == PROCESSOR_TIME).unwrap();
            family.get_metric()[0].get_counter().get_value()
        };
        let before = value();
        // Well below a second of work.
        let deadline = std::time::Instant::now() + Duration::from_secs(30);
        while value() < before + 0.02 {
            assert!(std::time::Instant::now() < deadline, "no fraction after {before} s");
        }
        assert!(value() < before + 1.0, "from {before} to {}", value());
        assert_eq!(metrics.collect().len(), 7);
    }
}
