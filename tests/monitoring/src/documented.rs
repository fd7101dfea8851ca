//! The table of metrics in `docs/OPERATIONS.md`.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};

use crate::exposition::Exposition;
use crate::programs::repository;

/// A row of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Documented {
    /// `counter`, `gauge` or `histogram`.
    pub type_: String,
    /// Such as `seconds`.
    pub unit: String,
    /// The names of the labels.
    pub labels: BTreeSet<String>,
}

/// The documented metrics by name.
///
/// # Errors
/// When the table cannot be read.
pub fn documented() -> Result<BTreeMap<String, Documented>> {
    let text = std::fs::read_to_string(repository().join("docs/OPERATIONS.md"))?;
    let (_, section) = text.split_once("\n## Metrics\n").context("no section Metrics")?;
    let (section, _) = section.split_once("\n## ").unwrap_or((section, ""));
    let mut metrics = BTreeMap::new();
    for row in section.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        ensure!(cells.len() == 3, "a row has name, type and unit, meaning: {row}");
        let (type_, unit) = cells[1].split_once(", ").with_context(|| format!("no unit: {row}"))?;
        for written in cells[0].split('`').skip(1).step_by(2) {
            let (name, labels) = written.split_once('{').unwrap_or((written, ""));
            let labels = labels.trim_end_matches('}').split(',').filter(|label| !label.is_empty());
            let metric = Documented {
                type_: type_.to_owned(),
                unit: unit.to_owned(),
                labels: labels.map(str::to_owned).collect(),
            };
            let before = metrics.insert(name.to_owned(), metric);
            ensure!(before.is_none(), "{name} is documented twice");
        }
    }
    Ok(metrics)
}

impl Documented {
    /// How a served metric of this name differs from its row.
    pub(crate) fn differences(&self, name: &str, served: &Exposition) -> Vec<String> {
        let mut differences = Vec::new();
        match served.families.get(name) {
            None => return vec![format!("{name} is documented and not served")],
            Some(type_) if *type_ != self.type_ => {
                differences.push(format!("{name} is a {type_}, documented as {}", self.type_));
            }
            Some(_) => {}
        }
        let labels = served.label_names(name);
        if labels != self.labels {
            differences.push(format!("{name} has {labels:?}, documented are {:?}", self.labels));
        }
        if !self.unit_fits(name) {
            differences.push(format!("{name} does not say that its unit is {}", self.unit));
        }
        differences
    }

    /// Whether type and unit are those that the name says.
    fn unit_fits(&self, name: &str) -> bool {
        let base = name.strip_suffix("_total");
        let said = base.unwrap_or(name);
        let moment = said.ends_with("_timestamp_seconds") || said == "process_start_time_seconds";
        let unit = if moment {
            Some("Unix seconds")
        } else if said.ends_with("_seconds") {
            Some("seconds")
        } else if said.ends_with("_bytes") {
            Some("bytes")
        } else {
            None
        };
        let units_of_names = ["seconds", "Unix seconds", "bytes"];
        let is_counter = self.type_ == "counter";
        (is_counter == base.is_some())
            && unit.map_or(!units_of_names.contains(&&*self.unit), |unit| self.unit == unit)
    }
}

impl Exposition {
    /// How what is served differs from the table: metrics of one side only, other types, labels and units.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub fn differences_from_documentation(&self) -> Result<Vec<String>> {
        let documented = documented()?;
        let rows = documented.iter().flat_map(|(name, row)| row.differences(name, self));
        let unknown = self.families.keys().filter(|name| !documented.contains_key(*name));
        let unknown = unknown.map(|name| format!("{name} is served and not documented"));
        Ok(rows.chain(unknown).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_those_of_the_name() {
        let row = |type_: &str, unit: &str| Documented {
            type_: type_.to_owned(),
            unit: unit.to_owned(),
            labels: BTreeSet::new(),
        };
        assert!(row("counter", "seconds").unit_fits("process_cpu_seconds_total"));
        assert!(row("gauge", "Unix seconds").unit_fits("x_timestamp_seconds"));
        assert!(row("gauge", "units").unit_fits("x"));
        assert!(!row("gauge", "seconds").unit_fits("x"));
        assert!(!row("gauge", "units").unit_fits("x_total"));
        assert!(!row("histogram", "milliseconds").unit_fits("x_seconds"));
    }
}
