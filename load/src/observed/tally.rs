//! What happened to the users of a run or of a pod, added up as they end: counts, histograms and stretches of time. Its size
//! does not grow with the number of attempts, except for eight bytes for each purchase.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use load_report::{MOST_POINTS, Point, ResponseTimes, Series, Slots};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::buyers::buyer::{Attempt, BuyerResult, Parts};
use crate::observed::{Latency, LatencyParts, Purchases, Timeline};

/// Code of a successful purchase.
const SOLD: &str = "sold";

/// All times count from the start of the run, in microseconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    /// How the purchases ended
    pub purchases: Purchases,
    /// Number of answers by code
    pub answers: BTreeMap<String, u32>,
    /// The same for each second
    seconds: Vec<BTreeMap<String, u32>>,
    /// When somebody bought something, in no particular order
    bought_us: Vec<u64>,
    response_times: ResponseTimes,
    tcp: ResponseTimes,
    tls: ResponseTimes,
    answer: ResponseTimes,
    /// Answers by the time when they came
    answered: Slots,
    /// Users by the time of their first request: `sold` if they bought, else the code of their last answer
    asked: Slots,
    /// Every answer, if there are few
    points: Vec<Point>,
    has_no_points: bool,
}

impl Tally {
    /// Adds what happened to the user of this number in a run that started then.
    pub fn add(&mut self, started: Instant, user: u32, result: BuyerResult) {
        let since = |moment: Instant| micros(moment.saturating_duration_since(started));
        let BuyerResult { purchase, attempts } = result;
        let asked_at =
            |attempt: &Attempt| since(attempt.ended).saturating_sub(micros(attempt.took));
        if let (Some(first), Some(last)) = (attempts.first(), attempts.last()) {
            // A purchase counts, whatever happened to the order afterwards.
            let has_bought = attempts.iter().any(|attempt| attempt.code == SOLD);
            let code = if has_bought { SOLD } else { &last.code };
            self.asked.at(asked_at(first)).count(code);
        }
        for attempt in &attempts {
            self.attempt(since(attempt.ended), attempt);
        }
        self.has_no_points |= self.points.len() + attempts.len() > MOST_POINTS;
        if self.has_no_points {
            self.points = Vec::new();
        } else {
            self.points.extend(attempts.into_iter().map(|attempt| Point {
                user,
                asked_us: asked_at(&attempt),
                took_us: micros(attempt.took),
                code: attempt.code,
            }));
        }
        self.purchases.add(user, purchase);
    }

    fn attempt(&mut self, ended_us: u64, attempt: &Attempt) {
        count(&mut self.answers, &attempt.code, 1);
        let second = usize::try_from(ended_us / 1_000_000).unwrap_or(usize::MAX - 1);
        if second >= self.seconds.len() {
            self.seconds.resize(second + 1, BTreeMap::new());
        }
        count(&mut self.seconds[second], &attempt.code, 1);
        if attempt.code == SOLD {
            self.bought_us.push(ended_us);
        }
        self.response_times.record(attempt.took);
        let slot = self.answered.at(ended_us);
        slot.count(&attempt.code);
        slot.count_time(micros(attempt.took));
        let Parts { opening, answer } = attempt.parts;
        for (times, took) in [
            (&mut self.tcp, opening.map(|opening| opening.tcp)),
            (&mut self.tls, opening.and_then(|opening| opening.tls)),
            (&mut self.answer, answer),
        ] {
            if let Some(took) = took {
                times.record(took);
            }
        }
    }

    /// Adds what happened to the users of another pod. Each pod's times count from its own start.
    pub fn merge(&mut self, other: Self) {
        self.purchases.merge(other.purchases);
        for (code, number) in other.answers {
            count(&mut self.answers, &code, number);
        }
        if self.seconds.len() < other.seconds.len() {
            self.seconds.resize(other.seconds.len(), BTreeMap::new());
        }
        for (second, more) in self.seconds.iter_mut().zip(other.seconds) {
            for (code, number) in more {
                count(second, &code, number);
            }
        }
        self.bought_us.extend(other.bought_us);
        self.response_times.merge(&other.response_times);
        self.tcp.merge(&other.tcp);
        self.tls.merge(&other.tls);
        self.answer.merge(&other.answer);
        self.answered.merge(other.answered);
        self.asked.merge(other.asked);
        let points = self.points.len() + other.points.len();
        self.has_no_points |= other.has_no_points || points > MOST_POINTS;
        self.points.extend(other.points);
        if self.has_no_points {
            self.points = Vec::new();
        }
    }

    /// The answers of each second, and the longest pause in a run whose last user started then.
    #[must_use]
    pub fn timeline(&self, last_start: Duration) -> Timeline {
        let pause_us = longest_pause(self.bought_us.clone(), micros(last_start));
        Timeline { seconds: self.seconds.clone(), longest_pause: Duration::from_micros(pause_us) }
    }

    /// Response times of all attempts.
    #[must_use]
    pub fn latency(&self) -> Latency {
        figures(&self.response_times)
    }

    /// What the attempts spent their time on.
    #[must_use]
    pub fn parts(&self, lookup: Duration) -> LatencyParts {
        LatencyParts {
            lookup,
            tcp: figures(&self.tcp),
            tls: figures(&self.tls),
            answer: figures(&self.answer),
        }
    }

    /// A run over time that started then and took so long, without the lock.
    #[must_use]
    pub fn series(&self, started: Instant, elapsed: Duration) -> Series {
        let mut answered = self.answered.clone();
        answered.fit(micros(elapsed));
        let mut points = self.points.clone();
        points.sort_by_key(|point| (point.user, point.asked_us));
        Series {
            started_at: started_at(started),
            response_times: self.response_times.clone(),
            answered,
            asked: self.asked.clone(),
            points,
            ..Series::default()
        }
    }
}

fn count(counts: &mut BTreeMap<String, u32>, code: &str, number: u32) {
    // An allocation for each answer is saved where the code is there already.
    if let Some(count) = counts.get_mut(code) {
        *count += number;
    } else {
        counts.insert(code.to_owned(), number);
    }
}

/// The longest time between two neighbours of: the start, each purchase, the last user's start. What happens after that
/// start is no pause: no user comes any more. A purchase that ends a pause counts even if it comes later.
fn longest_pause(mut purchases: Vec<u64>, last_start: u64) -> u64 {
    purchases.sort_unstable();
    let (mut previous, mut longest) = (0, 0);
    for purchase in purchases {
        longest = longest.max(purchase - previous);
        previous = purchase;
        if purchase >= last_start {
            return longest;
        }
    }
    longest.max(last_start.saturating_sub(previous))
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
    use crate::http::Opening;
    use crate::observed::{Outcome, Purchase};

    fn seconds(value: f64) -> Duration {
        Duration::from_secs_f64(value)
    }

    #[test]
    fn a_pause_lasts_from_one_purchase_to_the_next_while_users_come() {
        let pause = |purchases: &[u64], last: u64| longest_pause(purchases.to_vec(), last);
        assert_eq!(pause(&[40, 10, 15], 42), 25, "in any order");
        assert_eq!(pause(&[], 30), 30, "nobody bought");
        assert_eq!(pause(&[10], 60), 50, "until the last user");
        assert_eq!(pause(&[10, 90, 990], 60), 80, "the one that ends the pause");
    }

    fn result(start: Instant, attempts: &[(f64, &str)]) -> BuyerResult {
        let attempt = |&(at, code): &(f64, &str)| Attempt {
            ended: start + seconds(at),
            took: seconds(0.25),
            code: code.to_owned(),
            parts: Parts {
                opening: Some(Opening { tcp: seconds(0.01), tls: None }),
                answer: Some(seconds(0.2)),
            },
        };
        let outcome = Outcome::Declined("sold_out".to_owned());
        let purchase = Purchase { buyer: "a".to_owned(), outcome, lost_answers: 1 };
        BuyerResult { purchase, attempts: attempts.iter().map(attempt).collect() }
    }

    fn tally(results: &[&[(f64, &str)]]) -> (Tally, Instant) {
        let (mut tally, start) = (Tally::default(), Instant::now());
        for (user, attempts) in (0..).zip(results) {
            tally.add(start, user, result(start, attempts));
        }
        (tally, start)
    }

    #[test]
    fn answers_are_counted_by_code_and_second() {
        let (tally, _) = tally(&[&[(0.25, "overloaded"), (2.9, SOLD), (2.1, SOLD)]]);
        let timeline = tally.timeline(Duration::ZERO);
        assert_eq!(timeline.seconds.len(), 3);
        assert_eq!(timeline.seconds[0]["overloaded"], 1);
        assert!(timeline.seconds[1].is_empty());
        assert_eq!(timeline.seconds[2][SOLD], 2);
        assert_eq!(tally.answers[SOLD], 2);
        assert_eq!(tally.latency().requests, 3);
        let parts = tally.parts(seconds(0.001));
        assert_eq!((parts.tcp.requests, parts.tls.requests, parts.answer.requests), (3, 0, 3));
        assert_eq!(parts.lookup, seconds(0.001));
    }

    #[test]
    fn an_answer_has_its_slot_and_a_user_the_last_code() {
        let (tally, start) = tally(&[&[(0.25, "overloaded"), (2.9, SOLD)], &[(0.3, "sold_out")]]);
        let series = tally.series(start, seconds(3.0));
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

    #[test]
    fn a_user_who_bought_counts_as_sold_whatever_happened_to_the_order() {
        let users: [&[(f64, &str)]; 3] = [
            &[(0.3, SOLD), (0.6, "paid")],
            &[(0.3, SOLD), (0.6, "cancelled")],
            &[(0.3, "overloaded"), (0.6, "sold_out")],
        ];
        let (tally, start) = tally(&users);
        let asked = tally.series(start, seconds(1.0)).asked;
        assert_eq!(asked.slots.len(), 51, "all asked after 50 ms");
        let codes = &asked.slots[50].codes;
        assert_eq!((codes.len(), codes[SOLD], codes["sold_out"]), (2, 2, 1), "{codes:?}");
        assert_eq!(tally.answers["paid"], 1, "the answers have the codes that came");
    }

    #[test]
    fn many_answers_take_no_more_memory_than_few() {
        let (mut tally, start) = (Tally::default(), Instant::now());
        let size = |tally: &Tally| serde_json::to_string(tally).unwrap().len();
        let mut sizes = Vec::new();
        for user in 0..100_000_u32 {
            let at = f64::from(user) * 0.000_3;
            tally.add(start, user, result(start, &[(at + 0.25, "sold_out")]));
            if user == 10_000 || user == 99_999 {
                sizes.push(size(&tally));
            }
        }
        assert_eq!(tally.purchases.failed["sold_out"], 100_000);
        assert!(!tally.series(start, seconds(30.0)).has_all_points());
        assert!(sizes[1] < sizes[0] * 2, "{sizes:?} bytes after 10,000 and 100,000 users");
    }
}
