//! Answers over time: counts for each second, and the longest pause between two purchases.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use tokio::time::Instant;

use crate::arrivals::Sold;
use crate::buyer::Attempt;
use crate::observed::{Latency, Timeline};

/// Code of a successful purchase.
const SOLD: &str = "sold";

/// All attempts of all users, in no particular order.
fn attempts(sold: &Sold) -> impl Iterator<Item = &Attempt> {
    sold.results.iter().flat_map(|result| &result.attempts)
}

/// Number of answers by code.
pub fn answers(sold: &Sold) -> BTreeMap<String, u32> {
    let mut all = BTreeMap::new();
    for attempt in attempts(sold) {
        *all.entry(attempt.code.clone()).or_default() += 1;
    }
    all
}

/// The answers of each second, and the longest pause.
pub fn timeline(sold: &Sold) -> Timeline {
    let mut seconds: Vec<BTreeMap<String, u32>> = Vec::new();
    let mut purchases = Vec::new();
    for attempt in attempts(sold) {
        let since = attempt.ended.saturating_duration_since(sold.started);
        let second = usize::try_from(since.as_secs()).unwrap_or(usize::MAX);
        if second >= seconds.len() {
            seconds.resize(second.saturating_add(1), BTreeMap::new());
        }
        *seconds[second].entry(attempt.code.clone()).or_default() += 1;
        if attempt.code == SOLD {
            purchases.push(attempt.ended);
        }
    }
    Timeline { seconds, longest_pause: longest_pause(sold.started, purchases, sold.last_start) }
}

/// The longest time between two neighbours of: the start, each purchase, the last user's start. What happens after that
/// start is no pause: no user comes any more. A purchase that ends a pause counts even if it comes later.
fn longest_pause(started: Instant, mut purchases: Vec<Instant>, last_start: Instant) -> Duration {
    purchases.sort();
    let mut previous = started;
    let mut longest = Duration::ZERO;
    for purchase in purchases {
        longest = longest.max(purchase.saturating_duration_since(previous));
        previous = purchase;
        if purchase >= last_start {
            return longest;
        }
    }
    longest.max(last_start.saturating_duration_since(previous))
}

/// Response times of all attempts.
pub fn latency(sold: &Sold) -> Latency {
    // Microseconds, up to an hour, three digits.
    let Ok(mut histogram) = Histogram::<u64>::new_with_bounds(1, 3_600_000_000, 3) else {
        return Latency::default();
    };
    for attempt in attempts(sold) {
        let took = u64::try_from(attempt.took.as_micros()).unwrap_or(u64::MAX);
        histogram.saturating_record(took);
    }
    Latency {
        requests: u32::try_from(histogram.len()).unwrap_or(u32::MAX),
        p50: Duration::from_micros(histogram.value_at_quantile(0.5)),
        average: Duration::try_from_secs_f64(histogram.mean() / 1e6).unwrap_or_default(),
        p99: Duration::from_micros(histogram.value_at_quantile(0.99)),
        max: Duration::from_micros(histogram.max()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buyer::BuyerResult;
    use crate::observed::{Outcome, Purchase};

    fn seconds(value: f64) -> Duration {
        Duration::from_secs_f64(value)
    }

    #[test]
    fn a_pause_lasts_from_one_purchase_to_the_next_while_users_come() {
        let start = Instant::now();
        let pause = |purchases: &[f64], last: f64| {
            let purchases = purchases.iter().map(|&at| start + seconds(at)).collect();
            longest_pause(start, purchases, start + seconds(last)).as_secs_f64()
        };
        assert!((pause(&[4.0, 1.0, 1.5], 4.2) - 2.5).abs() < 1e-6, "in any order");
        assert!((pause(&[], 3.0) - 3.0).abs() < 1e-6, "nobody bought");
        assert!((pause(&[1.0], 6.0) - 5.0).abs() < 1e-6, "until the last user");
        assert!((pause(&[1.0, 9.0, 99.0], 6.0) - 8.0).abs() < 1e-6, "the one that ends the pause");
    }

    #[test]
    fn answers_are_counted_by_code_and_second() {
        let start = Instant::now();
        let attempt = |at: f64, code: &str| Attempt {
            ended: start + seconds(at),
            took: seconds(0.25),
            code: code.to_owned(),
        };
        let outcome = Outcome::Declined("sold_out".to_owned());
        let purchase = Purchase { buyer: "a".to_owned(), outcome, lost_answers: 1 };
        let attempts = vec![attempt(0.2, "overloaded"), attempt(2.9, SOLD), attempt(2.1, SOLD)];
        let results = vec![BuyerResult { purchase, attempts }];
        let sold = Sold { started: start, last_start: start, ended: start, results };
        let timeline = timeline(&sold);
        assert_eq!(timeline.seconds.len(), 3);
        assert_eq!(timeline.seconds[0]["overloaded"], 1);
        assert!(timeline.seconds[1].is_empty());
        assert_eq!(timeline.seconds[2][SOLD], 2);
        assert_eq!(answers(&sold)[SOLD], 2);
        assert_eq!(latency(&sold).requests, 3);
    }
}
