//! What happened over time, for plots: bounded in size, however many answers there were.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::response_times::ResponseTimes;

/// Above this number of answers there are slots only.
pub const MOST_POINTS: usize = 1_000;
/// Highest number of slots: they are widened until they fit.
const MOST_SLOTS: u64 = 120;
const WIDTHS_US: [u64; 14] = [
    1_000,
    5_000,
    10_000,
    50_000,
    100_000,
    500_000,
    1_000_000,
    5_000_000,
    10_000_000,
    60_000_000,
    300_000_000,
    600_000_000,
    3_600_000_000,
    86_400_000_000,
];

/// A run over time. All times count from the start of the first user.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Series {
    /// When the first user started
    #[schemars(with = "Option<String>")]
    pub started_at: Option<Timestamp>,
    /// All response times in microseconds: an `HdrHistogram` (V2, compressed) in Base64
    #[schemars(with = "String")]
    pub response_times: ResponseTimes,
    /// Answers by the time when they came
    pub answered: Slots,
    /// Users by the time of their first request: `sold` if they bought, else the code of their last answer
    pub asked: Slots,
    /// Every answer, if there are few
    pub points: Vec<Point>,
    /// Waits for the whole lock, by the replicas' metrics
    pub lock_wait: Buckets,
    /// Lock attempts on each Redis node, by the replicas' metrics
    pub lock_nodes: BTreeMap<String, Buckets>,
}

/// One answer: `[number of the user, when the user asked, response time, code]`; both times in microseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(from = "(u32, u64, u64, String)", into = "(u32, u64, u64, String)")]
pub struct Point {
    /// Number of the user
    pub user: u32,
    /// When the user asked
    pub asked_us: u64,
    /// Response time
    pub took_us: u64,
    /// Code of the answer; `sold` is 201
    pub code: String,
}

impl From<(u32, u64, u64, String)> for Point {
    fn from((user, asked_us, took_us, code): (u32, u64, u64, String)) -> Self {
        Self { user, asked_us, took_us, code }
    }
}

impl From<Point> for (u32, u64, u64, String) {
    fn from(point: Point) -> Self {
        (point.user, point.asked_us, point.took_us, point.code)
    }
}

/// Counts for equal stretches of time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Slots {
    /// Width of a slot in microseconds
    pub width_us: u64,
    /// From the start on
    pub slots: Vec<Slot>,
}

/// One stretch of time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Slot {
    /// Number of answers by code
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub codes: BTreeMap<String, u32>,
    /// Response times by their size, ascending: `[i, count]` counts those from 10^(i/10) up to 10^((i+1)/10)
    /// microseconds
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sizes: Vec<(u8, u32)>,
    /// The longest response time in microseconds
    #[serde(skip_serializing_if = "is_zero")]
    pub slowest_us: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A histogram as Prometheus has it: `[upper bound in seconds, observations up to it]`, ascending. The last bound is
/// null: there is none.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Buckets(pub Vec<(Option<f64>, f64)>);

impl Buckets {
    /// All observations.
    #[must_use]
    pub fn count(&self) -> f64 {
        self.0.last().map_or(0.0, |&(_, count)| count)
    }
}

impl Default for Slots {
    fn default() -> Self {
        Self { width_us: WIDTHS_US[0], slots: Vec::new() }
    }
}

impl Slot {
    /// Counts an answer.
    pub fn count(&mut self, code: &str) {
        // An allocation for each answer is saved where the code is there already.
        if let Some(count) = self.codes.get_mut(code) {
            *count += 1;
        } else {
            self.codes.insert(code.to_owned(), 1);
        }
    }

    fn merge(&mut self, other: Self) {
        for (code, number) in other.codes {
            *self.codes.entry(code).or_default() += number;
        }
        for (size, number) in other.sizes {
            match self.sizes.binary_search_by_key(&size, |&(size, _)| size) {
                Ok(found) => self.sizes[found].1 += number,
                Err(place) => self.sizes.insert(place, (size, number)),
            }
        }
        self.slowest_us = self.slowest_us.max(other.slowest_us);
    }

    /// Counts a response time.
    pub fn count_time(&mut self, took_us: u64) {
        let size = size_of(took_us);
        match self.sizes.binary_search_by_key(&size, |&(size, _)| size) {
            Ok(found) => self.sizes[found].1 += 1,
            Err(place) => self.sizes.insert(place, (size, 1)),
        }
        self.slowest_us = self.slowest_us.max(took_us);
    }
}

impl Slots {
    /// Widens the slots until there are few up to this moment.
    pub fn fit(&mut self, micros: u64) {
        while micros / self.width_us >= MOST_SLOTS {
            let Some(next) = WIDTHS_US.iter().find(|width| **width > self.width_us) else { return };
            self.widen(*next);
        }
    }

    /// Each width is a multiple of the one before.
    fn widen(&mut self, width_us: u64) {
        let factor = usize::try_from(width_us / self.width_us).unwrap_or(usize::MAX);
        let mut wide: Vec<Slot> = Vec::new();
        for (index, slot) in std::mem::take(&mut self.slots).into_iter().enumerate() {
            match wide.get_mut(index / factor) {
                Some(wide) => wide.merge(slot),
                None => wide.push(slot),
            }
        }
        (self.width_us, self.slots) = (width_us, wide);
    }

    /// Adds the counts of others.
    pub fn merge(&mut self, mut others: Self) {
        if self.width_us < others.width_us {
            self.widen(others.width_us);
        } else if others.width_us < self.width_us {
            others.widen(self.width_us);
        }
        if self.slots.len() < others.slots.len() {
            self.slots.resize_with(others.slots.len(), Slot::default);
        }
        self.slots.iter_mut().zip(others.slots).for_each(|(slot, other)| slot.merge(other));
    }

    /// The slot of a moment. Slots are widened if it is far from the start.
    pub fn at(&mut self, micros: u64) -> &mut Slot {
        self.fit(micros);
        let index = usize::try_from(micros / self.width_us).unwrap_or(usize::MAX - 1);
        if index >= self.slots.len() {
            self.slots.resize_with(index + 1, Slot::default);
        }
        &mut self.slots[index]
    }
}

impl Series {
    /// Whether there is a point for every answer.
    #[must_use]
    pub fn has_all_points(&self) -> bool {
        u64::try_from(self.points.len()).is_ok_and(|points| points == self.response_times.count())
    }
}

/// Ten sizes to a power of ten.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "0 to 192"
)]
fn size_of(took_us: u64) -> u8 {
    ((took_us.max(1) as f64).log10() * 10.0).floor() as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_bound_the_slots() {
        for micros in [0, 300_000, 30_000_000, 1_800_000_000, 86_400_000_000] {
            assert!(micros / lasting(micros).width_us < MOST_SLOTS, "{micros}");
        }
        assert_eq!(lasting(300_000).width_us, 5_000);
        assert_eq!(lasting(30_000_000).width_us, 500_000);
    }

    fn lasting(micros: u64) -> Slots {
        let mut slots = Slots::default();
        slots.fit(micros);
        slots
    }

    #[test]
    fn widened_and_merged_slots_have_all_counts() {
        let add = |slots: &mut Slots, moments: &[u64]| {
            for moment in moments {
                let slot = slots.at(*moment);
                slot.count("sold");
                slot.count_time(*moment);
            }
        };
        let (near, far) = ([0, 900, 40_000, 90_000], [40_100, 2_000_000, 100_000_000]);
        let mut all = Slots::default();
        add(&mut all, &near);
        assert_eq!(all.width_us, 1_000);
        add(&mut all, &far);
        assert_eq!(all.width_us, 1_000_000);
        assert_eq!(all.slots[0].codes["sold"], 5);
        assert_eq!(all.slots[0].slowest_us, 90_000);
        let (mut one, mut other) = (Slots::default(), Slots::default());
        add(&mut one, &near);
        add(&mut other, &far);
        let mut merged = one.clone();
        merged.merge(other.clone());
        other.merge(one);
        assert_eq!((&merged, &other), (&all, &all));
    }

    #[test]
    fn response_times_are_sorted_by_size() {
        assert_eq!((size_of(0), size_of(1), size_of(9_999), size_of(10_000)), (0, 0, 39, 40));
    }
}
