//! What a `/metrics` endpoint serves as text.

use std::collections::{BTreeMap, BTreeSet};

use crate::selectors::Selector;

/// The labels of a series.
pub type Labels = BTreeMap<String, String>;

/// The series of a `/metrics` endpoint.
#[derive(Debug, Default, Clone)]
pub struct Exposition {
    /// Names with their types.
    pub families: BTreeMap<String, String>,
    /// Each series: its name and labels.
    series: Vec<(String, Labels)>,
}

impl Exposition {
    /// Reads the text.
    #[must_use]
    pub fn read(text: &str) -> Self {
        let mut read = Self::default();
        for line in text.lines() {
            if let Some(family) = line.strip_prefix("# TYPE ") {
                let (name, type_) = family.split_once(' ').unwrap_or((family, ""));
                read.families.insert(name.to_owned(), type_.to_owned());
            } else if !line.starts_with('#')
                && let Some((series, _value)) = line.rsplit_once(' ')
            {
                read.series.push(parse(series));
            }
        }
        read
    }

    /// Both.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.families.extend(other.families);
        self.series.extend(other.series);
        self
    }

    /// The names of the labels of a metric.
    #[must_use]
    pub fn label_names(&self, family: &str) -> BTreeSet<String> {
        let of_family = self.series.iter().filter(|(name, _)| self.family_of(name) == family);
        let names = of_family.flat_map(|(_, labels)| labels.keys().cloned());
        names.filter(|label| label != "le").collect()
    }

    /// Whether a metric of this name is served, also as a part of a histogram.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.families.contains_key(self.family_of(name))
    }

    /// The name without what the text format adds to that of a histogram.
    fn family_of<'a>(&self, name: &'a str) -> &'a str {
        let parts = ["_bucket", "_sum", "_count"];
        let base = parts.iter().find_map(|part| name.strip_suffix(part));
        let is_histogram = |name: &str| self.families.get(name).is_some_and(|it| it == "histogram");
        base.filter(|base| is_histogram(base)).unwrap_or(name)
    }

    /// The label values of a selector for which no series exists. `ignored` are labels that Prometheus adds, or whose
    /// values are not bounded.
    #[must_use]
    pub fn missing(&self, selector: &Selector, ignored: &[&str]) -> Vec<String> {
        let family = self.family_of(&selector.name);
        let mut missing = Vec::new();
        for matcher in &selector.matchers {
            if ignored.contains(&&*matcher.label) || matcher.operator.starts_with('!') {
                continue;
            }
            for value in &matcher.values {
                let found = self.series.iter().any(|(name, labels)| {
                    self.family_of(name) == family && labels.get(&matcher.label) == Some(value)
                });
                if !found {
                    missing.push(format!("{}{{{}=\"{value}\"}}", selector.name, matcher.label));
                }
            }
        }
        missing
    }
}

/// Such as `name{a="b",c="d"}`. No label value of the project has a quote.
fn parse(series: &str) -> (String, Labels) {
    let Some((name, labels)) = series.split_once('{') else {
        return (series.to_owned(), Labels::new());
    };
    let labels = labels.strip_suffix('}').unwrap_or(labels);
    let pairs = labels.split("\",").filter_map(|pair| pair.split_once("=\""));
    let pairs =
        pairs.map(|(label, value)| (label.to_owned(), value.trim_end_matches('"').to_owned()));
    (name.to_owned(), pairs.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::selectors::selectors;

    const TEXT: &str = "# HELP a_total A.\n# TYPE a_total counter\na_total{outcome=\"sold\"} 0\n\
         # TYPE b_seconds histogram\nb_seconds_bucket{route=\"/v1/{id}\",le=\"+Inf\"} 0\n\
         b_seconds_sum{route=\"/v1/{id}\"} 0\nb_seconds_count{route=\"/v1/{id}\"} 0\n";

    #[test]
    fn a_histogram_is_one_metric() {
        let served = Exposition::read(TEXT);
        assert!(served.has("b_seconds_bucket") && served.has("b_seconds") && !served.has("c"));
        assert_eq!(served.label_names("b_seconds"), BTreeSet::from(["route".to_owned()]));
    }

    #[test]
    fn label_values_that_are_not_served_are_missing() {
        let served = Exposition::read(TEXT);
        let of = |labels: &str| {
            let selector = Selector { name: "a_total".to_owned(), ..selectors(labels).remove(0) };
            served.missing(&selector, &["job"])
        };
        assert_eq!(
            of(r#"up{job="x",outcome=~"sold|lost",other!="y"}"#),
            ["a_total{outcome=\"lost\"}"]
        );
        assert!(of(r#"up{outcome="sold"}"#).is_empty());
    }
}
