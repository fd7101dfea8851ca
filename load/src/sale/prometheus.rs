//! Parses the Prometheus text format, as far as counters and classic histograms need it. Knows no
//! metric names and no network.

use std::collections::BTreeMap;

use load_report::Buckets;

/// A time series: its name and labels.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Series {
    pub name: String,
    pub labels: BTreeMap<String, String>,
}

/// The values of all series at one moment, or their increase between two.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Samples(BTreeMap<Series, f64>);

/// A cumulative histogram: `(le, count of observations up to le)`, ascending.
#[derive(Debug, Clone, PartialEq)]
pub struct Histogram {
    buckets: Vec<(f64, f64)>,
    sum: f64,
    count: f64,
}

impl Samples {
    /// Parses the text of a `/metrics` endpoint; the error is the line that cannot be parsed.
    pub fn parse(text: &str) -> Result<Self, String> {
        let lines =
            text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        lines
            .map(|line| sample(line).ok_or_else(|| line.to_owned()))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// The increase since `before`. A counter below its earlier value was reset by a restart, and counts
    /// in full, as in Prometheus's `increase`.
    pub fn since(&self, before: &Self) -> Self {
        let increase = |(series, &after): (&Series, &f64)| {
            let earlier = before.0.get(series).copied().filter(|&earlier| earlier <= after);
            (series.clone(), after - earlier.unwrap_or_default())
        };
        Self(self.0.iter().map(increase).collect())
    }

    /// Adds another replica's samples.
    pub fn add(&mut self, other: Self) {
        for (series, value) in other.0 {
            *self.0.entry(series).or_default() += value;
        }
    }

    /// The sum of all series of this name whose label has this value.
    pub fn sum(&self, name: &str, label: Option<(&str, &str)>) -> f64 {
        self.matching(name, label).map(|(_, value)| value).sum()
    }

    /// The values a label has among the series of this name.
    pub fn label_values(&self, name: &str, label: &str) -> Vec<String> {
        let mut values: Vec<_> = self
            .matching(name, None)
            .filter_map(|(series, _)| series.labels.get(label).cloned())
            .collect();
        values.sort();
        values.dedup();
        values
    }

    /// A histogram over all series of this name whose label has this value; absent without
    /// observations.
    pub fn histogram(&self, name: &str, label: Option<(&str, &str)>) -> Option<Histogram> {
        let mut raw: Vec<(f64, f64)> = self
            .matching(&format!("{name}_bucket"), label)
            .filter_map(|(series, value)| Some((series.labels.get("le")?.parse().ok()?, value)))
            .collect();
        raw.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        let mut buckets: Vec<(f64, f64)> = Vec::new();
        for (le, value) in raw {
            match buckets.last_mut() {
                Some((last, sum)) if last.total_cmp(&le).is_eq() => *sum += value,
                _ => buckets.push((le, value)),
            }
        }
        let (_, count) = *buckets.last()?;
        let sum = self.sum(&format!("{name}_sum"), label);
        (count > 0.0).then_some(Histogram { buckets, sum, count })
    }

    fn matching<'a>(
        &'a self,
        name: &'a str,
        label: Option<(&'a str, &'a str)>,
    ) -> impl Iterator<Item = (&'a Series, f64)> {
        let fits = move |series: &Series| {
            series.name == name
                && label
                    .is_none_or(|(key, value)| series.labels.get(key).is_some_and(|v| v == value))
        };
        self.0
            .iter()
            .filter(move |(series, _)| fits(series))
            .map(|(series, &value)| (series, value))
    }
}

impl Histogram {
    /// As Prometheus's `histogram_quantile`: linear within a bucket; the lowest bucket starts at 0, and the
    /// last bucket yields its lower bound.
    pub fn quantile(&self, q: f64) -> f64 {
        let rank = q * self.count;
        let (mut lower, mut below) = (0.0, 0.0);
        for &(le, cumulative) in &self.buckets {
            if cumulative >= rank {
                if le.is_infinite() || cumulative <= below {
                    return lower;
                }
                return lower + (le - lower) * (rank - below) / (cumulative - below);
            }
            (lower, below) = (le, cumulative);
        }
        lower
    }

    /// The buckets, for plots.
    pub fn buckets(&self) -> Buckets {
        let finite = |le: f64| le.is_finite().then_some(le);
        Buckets(self.buckets.iter().map(|&(le, count)| (finite(le), count)).collect())
    }

    /// The mean.
    pub fn average(&self) -> f64 {
        self.sum / self.count
    }
}

/// `name{label="value",...} value [timestamp]`
fn sample(line: &str) -> Option<(Series, f64)> {
    let name_end = line.find(|c: char| c == '{' || c.is_whitespace())?;
    let (name, mut rest) = line.split_at(name_end);
    let mut labels = BTreeMap::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            rest = rest.trim_start_matches([',', ' ']);
            if let Some(after) = rest.strip_prefix('}') {
                rest = after;
                break;
            }
            let (key, quoted) = rest.split_once('=')?;
            let (value, after) = unquote(quoted.trim_start().strip_prefix('"')?)?;
            labels.insert(key.trim().to_owned(), value);
            rest = after;
        }
    }
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some((Series { name: name.to_owned(), labels }, value))
}

/// A label's value up to its closing quote, and the remaining text.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    loop {
        match characters.next()? {
            (end, '"') => return Some((value, &text[end + 1..])),
            (_, '\\') => value.push(match characters.next()?.1 {
                'n' => '\n',
                other => other,
            }),
            (_, other) => value.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
# HELP wait Time.
# TYPE wait histogram
wait_bucket{outcome="acquired",le="0.1"} 50
wait_bucket{outcome="acquired",le="0.2"} 90
wait_bucket{outcome="acquired",le="+Inf"} 100
wait_sum{outcome="acquired"} 12.5
wait_count{outcome="acquired"} 100
wait_bucket{outcome="timeout",le="0.1"} 0
wait_bucket{outcome="timeout",le="0.2"} 0
wait_bucket{outcome="timeout",le="+Inf"} 100
wait_sum{outcome="timeout"} 200
odd{text="a \"b\", c}\\\n", other = "x"} 7 1700000000
plain 1e3
"#;

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-9
    }

    #[test]
    fn reads_labels_and_values() {
        let samples = Samples::parse(TEXT).unwrap();
        assert!(close(samples.sum("plain", None), 1000.0));
        assert!(close(samples.sum("odd", Some(("text", "a \"b\", c}\\\n"))), 7.0));
        assert!(close(samples.sum("odd", Some(("other", "y"))), 0.0));
        assert_eq!(samples.label_values("wait_sum", "outcome"), ["acquired", "timeout"]);
        assert_eq!(Samples::parse("fine 1\nbroken{").unwrap_err(), "broken{");
    }

    #[test]
    fn interpolates_like_prometheus() {
        let samples = Samples::parse(TEXT).unwrap();
        let acquired = samples.histogram("wait", Some(("outcome", "acquired"))).unwrap();
        assert!(close(acquired.quantile(0.25), 0.05));
        assert!(close(acquired.quantile(0.5), 0.1));
        assert!(close(acquired.quantile(0.7), 0.15));
        assert!(close(acquired.quantile(0.99), 0.2), "the last bucket gives its lower bound");
        assert!(close(acquired.average(), 0.125));
        let all = samples.histogram("wait", None).unwrap();
        assert!(close(all.quantile(0.25), 0.1));
        assert!(close(all.average(), 212.5 / 200.0));
        assert!(samples.histogram("absent", None).is_none());
    }

    #[test]
    fn takes_the_difference_and_adds_replicas() {
        let before = Samples::parse("a 3\nb 10").unwrap();
        let after = Samples::parse("a 5\nb 4\nc 1").unwrap();
        let mut increase = after.since(&before);
        assert_eq!(increase, Samples::parse("a 2\nb 4\nc 1").unwrap(), "b was reset, c is new");
        increase.add(Samples::parse("a 1").unwrap());
        assert!(close(increase.sum("a", None), 3.0));
        let unused = Samples::parse(TEXT).unwrap();
        assert!(unused.since(&unused).histogram("wait", None).is_none());
    }
}
