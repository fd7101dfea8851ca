//! Response times as an `HdrHistogram`. Percentiles are taken of it, and the report carries it. Knows no scenario and no targets.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer, V2DeflateSerializer};
use serde::{Deserialize, Serialize, de, ser};

/// Longer times count as this long.
const LONGEST_US: u64 = 3_600_000_000;
/// A recorded value differs from the true one by less than 0.1 %.
const DIGITS: u8 = 3;

/// Response times in microseconds. Serialized as the compressed V2 form of `HdrHistogram` in Base64, which its libraries
/// for other languages read too; the empty string has none.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ResponseTimes(
    /// Made with the first value.
    Option<Histogram<u64>>,
);

impl ResponseTimes {
    /// Adds a response time.
    pub fn record(&mut self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        if let Some(histogram) = self.histogram() {
            histogram.saturating_record(micros);
        }
    }

    /// Adds all of others.
    pub fn merge(&mut self, others: &Self) {
        if let Some(others) = &others.0
            && let Some(histogram) = self.histogram()
        {
            // All of them have the same bounds, so the values fit.
            let _ = histogram.add(others);
        }
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.as_ref().map_or(0, Histogram::len)
    }

    /// The nearest rank: the smallest value that at least this share of all values does not exceed.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Duration {
        self.micros(|histogram| histogram.value_at_quantile(share))
    }

    /// The longest.
    #[must_use]
    pub fn max(&self) -> Duration {
        self.micros(Histogram::max)
    }

    /// The mean.
    #[must_use]
    pub fn average(&self) -> Duration {
        let seconds = self.0.as_ref().map_or(0.0, |histogram| histogram.mean() / 1e6);
        Duration::try_from_secs_f64(seconds).unwrap_or_default()
    }

    /// `(microseconds, count)` of every value that occurs, ascending.
    pub fn recorded(&self) -> impl Iterator<Item = (u64, u64)> {
        let values = self.0.iter().flat_map(Histogram::iter_recorded);
        values.map(|value| (value.value_iterated_to(), value.count_at_value()))
    }

    fn histogram(&mut self) -> Option<&mut Histogram<u64>> {
        if self.0.is_none() {
            // These bounds are valid, as the tests show.
            self.0 = Histogram::new_with_bounds(1, LONGEST_US, DIGITS).ok();
        }
        self.0.as_mut()
    }

    fn micros(&self, of: impl Fn(&Histogram<u64>) -> u64) -> Duration {
        Duration::from_micros(self.0.as_ref().map_or(0, of))
    }
}

impl Serialize for ResponseTimes {
    fn serialize<S: ser::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut bytes = Vec::new();
        if let Some(histogram) = &self.0 {
            V2DeflateSerializer::new()
                .serialize(histogram, &mut bytes)
                .map_err(ser::Error::custom)?;
        }
        serializer.serialize_str(&BASE64.encode(bytes))
    }
}

impl<'de> Deserialize<'de> for ResponseTimes {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.is_empty() {
            return Ok(Self::default());
        }
        let bytes = BASE64.decode(text).map_err(de::Error::custom)?;
        let histogram = Deserializer::new()
            .deserialize(&mut bytes.as_slice())
            .map_err(|error| de::Error::custom(format!("no HdrHistogram: {error}")))?;
        Ok(Self(Some(histogram)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(values: impl IntoIterator<Item = u64>) -> ResponseTimes {
        let mut times = ResponseTimes::default();
        values.into_iter().for_each(|value| times.record(Duration::from_millis(value)));
        times
    }

    fn close(measured: Duration, expected_ms: f64) -> bool {
        (measured.as_secs_f64() * 1e3 / expected_ms - 1.0).abs() < 0.001
    }

    #[test]
    fn a_percentile_is_the_nearest_rank() {
        let times = millis(1..=300);
        // 99 % of 300 are 297. Interpolating tools say 297.01 or 297.98.
        assert!(close(times.quantile(0.99), 297.0), "{:?}", times.quantile(0.99));
        assert!(close(times.quantile(0.5), 150.0));
        assert!(close(times.max(), 300.0));
        assert!(close(times.average(), 150.5));
        // Of 100 or fewer, it is the longest but one, and of fewer than 100 the longest.
        assert!(close(millis(1..=100).quantile(0.99), 99.0));
        assert!(close(millis(1..=99).quantile(0.99), 99.0));
    }

    #[test]
    fn merged_histograms_are_that_of_all_values() {
        let mut merged = ResponseTimes::default();
        merged.merge(&millis([1, 500]));
        merged.merge(&ResponseTimes::default());
        merged.merge(&millis(2..300));
        assert_eq!(merged, millis([500, 1].into_iter().chain(2..300)));
    }

    #[test]
    fn they_are_read_as_they_were_written() {
        for times in [ResponseTimes::default(), millis([1, 2, 2, 5000]), millis([u64::MAX / 1000])]
        {
            let text = serde_json::to_string(&times).unwrap();
            let read: ResponseTimes = serde_json::from_str(&text).unwrap();
            assert_eq!(read, times, "{text}");
        }
        let written = serde_json::to_string(&millis([1])).unwrap();
        assert!(written.starts_with("\"HISTFAAAA"), "the usual form: {written}");
        let error = serde_json::from_str::<ResponseTimes>("\"AAAA\"").unwrap_err().to_string();
        assert!(error.contains("no HdrHistogram"), "{error}");
    }
}
