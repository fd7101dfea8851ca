//! Histograms of durations. One count serves both forms: the classic buckets, which every scraper reads, and the
//! native (exponential) buckets of Prometheus, with which a percentile is at most 9 % off.
//!
//! An observation is two additions without a lock.

use std::collections::BTreeMap;
use std::f64::consts::SQRT_2;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, PoisonError, RwLock};
use std::time::Duration;

use prometheus::proto::{Bucket, Histogram, LabelPair, Metric, MetricFamily, MetricType};

use super::family::{Family, NativeBuckets};

/// Upper bounds of the classic buckets, in seconds.
const CLASSIC: [f64; 16] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0,
    10.0,
];
/// Native buckets grow by the eighth root of two.
const SCHEMA: i32 = 3;
/// Powers of that root below two.
const ROOTS: [f64; 8] = [
    1.0,
    1.090_507_732_665_257_7,
    1.189_207_115_002_721,
    1.296_839_554_651_009_6,
    SQRT_2,
    1.542_210_825_407_940_7,
    1.681_792_830_507_429,
    1.834_008_086_409_342_4,
];
/// Durations up to 2^-17 s (7.6 us) count as zero.
const LOWEST: i32 = -17;
/// Native buckets, up to 2^10 s (17 min), and one that all longer durations share.
const NATIVE: usize = 27 * ROOTS.len() + 1;
/// Bits of the mantissa of an `f64`.
const MANTISSA: u32 = f64::MANTISSA_DIGITS - 1;
/// What an `f64` adds to its exponent.
const BIAS: u64 = 1023;

/// The cells: native buckets, cut where a classic bound lies inside.
struct Layout {
    /// First cell of each native bucket; cell 0 is that of zero.
    first: [usize; NATIVE],
    /// The classic bound inside, or infinity.
    cut: [f64; NATIVE],
    /// For each classic bound, the number of cells up to it.
    up_to: [usize; CLASSIC.len()],
    /// All cells.
    cells: usize,
}

static LAYOUT: LazyLock<Layout> = LazyLock::new(Layout::new);

fn zero_threshold() -> f64 {
    2_f64.powi(LOWEST)
}

impl Layout {
    fn new() -> Self {
        let mut layout = Self {
            first: [0; NATIVE],
            cut: [f64::INFINITY; NATIVE],
            up_to: [0; CLASSIC.len()],
            cells: 1,
        };
        let mut lower = zero_threshold();
        let mut octave = lower;
        for native in 0..NATIVE {
            let root = (native + 1) % ROOTS.len();
            if root == 0 {
                octave *= 2.0;
            }
            let upper = octave * ROOTS[root];
            layout.first[native] = layout.cells;
            layout.cells += 1;
            for (bound, up_to) in CLASSIC.iter().zip(&mut layout.up_to) {
                if lower < *bound && *bound < upper {
                    layout.cut[native] = *bound;
                    *up_to = layout.cells;
                    layout.cells += 1;
                } else if upper <= *bound {
                    *up_to = layout.cells;
                }
            }
            lower = upper;
        }
        layout
    }

    fn cell(&self, seconds: f64) -> usize {
        if seconds <= zero_threshold() {
            return 0;
        }
        let bits = seconds.to_bits();
        let lowest = BIAS - u64::from(LOWEST.unsigned_abs());
        let octave = usize::try_from((bits >> MANTISSA) - lowest).unwrap_or(usize::MAX);
        let mantissa = f64::from_bits((bits & ((1 << MANTISSA) - 1)) | (BIAS << MANTISSA));
        // A bound belongs to the bucket below it.
        let above = ROOTS.iter().filter(|root| **root < mantissa).count();
        let native = octave.saturating_mul(ROOTS.len()).saturating_add(above) - 1;
        let native = native.min(NATIVE - 1);
        self.first[native] + usize::from(seconds > self.cut[native])
    }
}

/// A histogram of durations.
#[derive(Debug)]
pub(super) struct DurationHistogram {
    cells: Box<[AtomicU64]>,
    nanoseconds: AtomicU64,
}

impl Default for DurationHistogram {
    fn default() -> Self {
        let cells = (0..LAYOUT.cells).map(|_| AtomicU64::new(0)).collect();
        Self { cells, nanoseconds: AtomicU64::new(0) }
    }
}

impl DurationHistogram {
    /// Counts a duration.
    pub(super) fn observe(&self, took: Duration) {
        self.cells[LAYOUT.cell(took.as_secs_f64())].fetch_add(1, Ordering::Relaxed);
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    /// The counts at this moment.
    pub(super) fn snapshot(&self) -> Snapshot {
        let nanoseconds = self.nanoseconds.load(Ordering::Relaxed);
        Snapshot {
            cells: self.cells.iter().map(|cell| cell.load(Ordering::Relaxed)).collect(),
            seconds: Duration::from_nanos(nanoseconds).as_secs_f64(),
        }
    }
}

/// The counts of a histogram.
pub(super) struct Snapshot {
    cells: Vec<u64>,
    /// Sum of the durations.
    pub(super) seconds: f64,
}

impl Snapshot {
    /// Number of observations.
    pub(super) fn count(&self) -> u64 {
        self.cells.iter().sum()
    }

    /// Upper bounds of the classic buckets in seconds, each with the number of durations up to it.
    pub(super) fn classic(&self) -> impl Iterator<Item = (f64, u64)> {
        let up_to = |cells: &usize| self.cells[..*cells].iter().sum();
        CLASSIC.into_iter().zip(LAYOUT.up_to.iter().map(up_to))
    }

    /// The native buckets.
    pub(super) fn native(&self) -> NativeBuckets {
        let mut buckets = NativeBuckets {
            schema: SCHEMA,
            zero_threshold: zero_threshold(),
            zero_count: self.cells[0],
            spans: Vec::new(),
            deltas: Vec::new(),
        };
        // Index 0 is the bucket up to 1 s.
        let mut index = LOWEST * 8;
        let (mut next, mut before) = (0, 0_i64);
        let ends = LAYOUT.first[1..].iter().chain([&LAYOUT.cells]);
        for (start, end) in LAYOUT.first.iter().zip(ends) {
            index += 1;
            let count: u64 = self.cells[*start..*end].iter().sum();
            if count == 0 {
                continue;
            }
            match buckets.spans.last_mut() {
                Some((_, length)) if index == next => *length += 1,
                _ => buckets.spans.push((index - next, 1)),
            }
            next = index + 1;
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            buckets.deltas.push(count - before);
            before = count;
        }
        buckets
    }

    fn histogram(&self) -> Histogram {
        let mut histogram = Histogram::default();
        histogram.set_sample_count(self.count());
        histogram.set_sample_sum(self.seconds);
        let bucket = |(bound, count)| {
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(bound);
            bucket.set_cumulative_count(count);
            bucket
        };
        histogram.set_bucket(self.classic().map(bucket).collect());
        histogram
    }
}

/// Histograms of one name, by one label or without a label.
#[derive(Debug)]
pub(super) struct DurationFamily {
    name: &'static str,
    help: &'static str,
    label: Option<&'static str>,
    children: RwLock<BTreeMap<String, Arc<DurationHistogram>>>,
}

impl DurationFamily {
    /// A family whose members differ in this label.
    pub(super) fn by(label: &'static str, name: &'static str, help: &'static str) -> Self {
        Self { name, help, label: Some(label), children: RwLock::default() }
    }

    /// A family of one member.
    pub(super) fn single(name: &'static str, help: &'static str) -> (Self, Arc<DurationHistogram>) {
        let family = Self { name, help, label: None, children: RwLock::default() };
        let histogram = family.with(String::new().as_str());
        (family, histogram)
    }

    /// The member with this value of the label, from now on exported.
    pub(super) fn with(&self, value: &str) -> Arc<DurationHistogram> {
        let found =
            self.children.read().unwrap_or_else(PoisonError::into_inner).get(value).cloned();
        found.unwrap_or_else(|| {
            let mut children = self.children.write().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(children.entry(value.to_owned()).or_default())
        })
    }

    /// The counts of all members; `None` without members.
    pub(super) fn collect(&self) -> Option<Family> {
        let children = self.children.read().unwrap_or_else(PoisonError::into_inner);
        let (mut metrics, mut native) = (Vec::new(), Vec::new());
        for (value, histogram) in &*children {
            let snapshot = histogram.snapshot();
            let mut metric = Metric::default();
            if let Some(label) = self.label {
                let mut pair = LabelPair::default();
                pair.set_name(label.to_owned());
                pair.set_value(value.clone());
                metric.set_label(vec![pair]);
            }
            metric.set_histogram(snapshot.histogram());
            metrics.push(metric);
            native.push(snapshot.native());
        }
        if metrics.is_empty() {
            return None;
        }
        let mut classic = MetricFamily::default();
        classic.set_name(self.name.to_owned());
        classic.set_help(self.help.to_owned());
        classic.set_field_type(MetricType::HISTOGRAM);
        classic.set_metric(metrics);
        Some(Family { classic, native })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(seconds: &[f64]) -> Snapshot {
        let histogram = DurationHistogram::default();
        for seconds in seconds {
            histogram.observe(Duration::from_secs_f64(*seconds));
        }
        histogram.snapshot()
    }

    /// Each bucket's index and count.
    fn indices(buckets: &NativeBuckets) -> Vec<(i32, i64)> {
        let (mut found, mut index, mut count) = (Vec::new(), 0, 0);
        let mut deltas = buckets.deltas.iter();
        for (gap, length) in &buckets.spans {
            index += gap;
            for _ in 0..*length {
                count += deltas.next().unwrap();
                found.push((index, count));
                index += 1;
            }
        }
        assert_eq!(deltas.next(), None);
        found
    }

    #[test]
    fn both_forms_have_every_duration_in_the_right_bucket() {
        let mut seconds = 0.000_005;
        let mut all = Vec::new();
        while seconds < 2000.0 {
            all.push(seconds);
            seconds *= 1.037;
        }
        all.extend(CLASSIC);
        all.extend([0.0, 0.25, 4.0, 1024.0]);
        for &seconds in &all {
            let snapshot = of(&[seconds]);
            assert_eq!(snapshot.count(), 1);
            // As observed: a Duration has whole nanoseconds.
            let seconds = Duration::from_secs_f64(seconds).as_secs_f64();
            for (bound, count) in snapshot.classic() {
                assert_eq!(count, u64::from(seconds <= bound), "{seconds} in {bound}");
            }
            let native = snapshot.native();
            if seconds <= zero_threshold() {
                assert_eq!((native.zero_count, native.spans.len()), (1, 0), "{seconds}");
                continue;
            }
            let &[(index, 1)] = indices(&native).as_slice() else { panic!("{native:?}") };
            let bound = |index: i32| 2_f64.powf(f64::from(index) / 8.0);
            // The bounds of Prometheus are rounded like ours up to the last bit.
            let fits = seconds <= bound(index) * 1.000_000_001
                && seconds > bound(index - 1) * 0.999_999_999;
            assert!(fits || seconds > 1024.0, "{seconds} in {index}");
        }
        let snapshot = of(&all);
        let native = snapshot.native();
        let in_buckets: i64 = indices(&native).iter().map(|(_, count)| count).sum();
        assert_eq!(u64::try_from(in_buckets).unwrap() + native.zero_count, snapshot.count());
        assert_eq!(snapshot.count(), all.len() as u64);
    }

    #[test]
    fn spans_skip_empty_buckets() {
        let native = of(&[1.0, 1.0, 1.05, 4.0]).native();
        assert_eq!(native.spans, [(0, 2), (14, 1)]);
        assert_eq!(native.deltas, [2, -1, 0]);
    }
}
