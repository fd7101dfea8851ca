//! Answers over time: what plots need, counts for each second, and the longest pause between two purchases.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use crate::buyers::arrivals::Sold;
use crate::buyers::buyer::{Attempt, BuyerResult, Parts};
use crate::observed::{Latency, LatencyParts, Timeline};
use load_report::ResponseTimes;
use load_report::{MOST_POINTS, Point, Series, Slots};

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
    figures(&response_times(sold))
}

/// What the attempts spent their time on.
pub fn parts(sold: &Sold) -> LatencyParts {
    let (mut tcp, mut tls, mut answer) =
        (ResponseTimes::default(), ResponseTimes::default(), ResponseTimes::default());
    for Parts { opening, answer: took } in attempts(sold).map(|attempt| attempt.parts) {
        opening.iter().for_each(|opening| tcp.record(opening.tcp));
        opening.and_then(|opening| opening.tls).iter().for_each(|took| tls.record(*took));
        took.iter().for_each(|took| answer.record(*took));
    }
    LatencyParts {
        lookup: sold.lookup,
        tcp: figures(&tcp),
        tls: figures(&tls),
        answer: figures(&answer),
    }
}

fn figures(times: &ResponseTimes) -> Latency {
    Latency {
        requests: u32::try_from(times.count()).unwrap_or(u32::MAX),
        p50: times.quantile(0.5),
        average: times.average(),
        p99: times.quantile(0.99),
        max: times.max(),
    }
}

fn response_times(sold: &Sold) -> ResponseTimes {
    let mut times = ResponseTimes::default();
    attempts(sold).for_each(|attempt| times.record(attempt.took));
    times
}

/// The run over time, without the lock.
pub fn series(sold: &Sold) -> Series {
    let since = |moment: Instant| micros(moment.saturating_duration_since(sold.started));
    let asked_at = |attempt: &Attempt| since(attempt.ended).saturating_sub(micros(attempt.took));
    let first_asked = |result: &BuyerResult| result.attempts.first().map(asked_at);
    let last_asked = sold.results.iter().filter_map(first_asked).max();
    let mut series = Series {
        started_at: started_at(sold.started),
        response_times: response_times(sold),
        answered: Slots::lasting(since(sold.ended)),
        asked: Slots::lasting(last_asked.unwrap_or_default()),
        ..Series::default()
    };
    for attempt in attempts(sold) {
        let slot = series.answered.at(since(attempt.ended));
        slot.count(&attempt.code);
        slot.count_time(micros(attempt.took));
    }
    for result in &sold.results {
        if let (Some(asked), Some(last)) = (first_asked(result), result.attempts.last()) {
            series.asked.at(asked).count(&last.code);
        }
    }
    if attempts(sold).take(MOST_POINTS + 1).count() <= MOST_POINTS {
        let users = (0..).zip(&sold.results);
        series.points = users
            .flat_map(|(user, result)| result.attempts.iter().map(move |attempt| (user, attempt)))
            .map(|(user, attempt)| Point {
                user,
                asked_us: asked_at(attempt),
                took_us: micros(attempt.took),
                code: attempt.code.clone(),
            })
            .collect();
    }
    series
}

/// An instant of this process by the clock.
fn started_at(started: Instant) -> Option<Timestamp> {
    let ago = SignedDuration::try_from(started.elapsed()).ok()?;
    Timestamp::now().checked_sub(ago).ok()
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
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

    fn sold(results: &[&[(f64, &str)]]) -> Sold {
        let start = Instant::now();
        let attempt = |&(at, code): &(f64, &str)| Attempt {
            ended: start + seconds(at),
            took: seconds(0.25),
            code: code.to_owned(),
            parts: Parts { opening: None, answer: Some(seconds(0.2)) },
        };
        let result = |attempts: &&[(f64, &str)]| {
            let outcome = Outcome::Declined("sold_out".to_owned());
            let purchase = Purchase { buyer: "a".to_owned(), outcome, lost_answers: 1 };
            BuyerResult { purchase, attempts: attempts.iter().map(attempt).collect() }
        };
        let ended = start + seconds(3.0);
        Sold {
            started: start,
            last_start: start,
            ended,
            lookup: seconds(0.001),
            results: results.iter().map(result).collect(),
        }
    }

    #[test]
    fn answers_are_counted_by_code_and_second() {
        let sold = sold(&[&[(0.25, "overloaded"), (2.9, SOLD), (2.1, SOLD)]]);
        let timeline = timeline(&sold);
        assert_eq!(timeline.seconds.len(), 3);
        assert_eq!(timeline.seconds[0]["overloaded"], 1);
        assert!(timeline.seconds[1].is_empty());
        assert_eq!(timeline.seconds[2][SOLD], 2);
        assert_eq!(answers(&sold)[SOLD], 2);
        assert_eq!(latency(&sold).requests, 3);
        let parts = parts(&sold);
        assert_eq!((parts.tcp.requests, parts.answer.requests), (0, 3));
        assert_eq!(parts.lookup, seconds(0.001));
    }

    #[test]
    fn an_answer_has_its_slot_and_a_user_the_last_code() {
        let sold = sold(&[&[(0.25, "overloaded"), (2.9, SOLD)], &[(0.3, "sold_out")]]);
        let series = series(&sold);
        assert_eq!(series.answered.width_us, 50_000);
        assert_eq!(series.answered.slots[58].codes[SOLD], 1);
        assert_eq!(series.answered.slots[58].slowest_us, 250_000);
        // The second asked after 50 ms.
        assert_eq!(series.asked.width_us, 1_000);
        assert_eq!(series.asked.slots[0].codes[SOLD], 1);
        assert_eq!(series.asked.slots[50].codes["sold_out"], 1);
        assert!(series.has_all_points());
        let points: Vec<_> = series.points.iter().map(|p| (p.user, p.asked_us)).collect();
        assert_eq!(points, [(0, 0), (0, 2_650_000), (1, 50_000)]);
        assert!(series.started_at.unwrap() <= Timestamp::now());
    }
}
