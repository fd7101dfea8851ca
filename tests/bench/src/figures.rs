//! The frame of every bench: figures and ratios are declared, rounds record values, and a table
//! and a JSON object come of it. Knows nothing of what is measured.
//!
//! A ratio is taken round by round, because a figure and its limit are measured next to each other,
//! and then its median, as everybody's.

mod row;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::future::BoxFuture;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value, json};

pub use row::{Row, Target, Unit};

use crate::machine::Machine;

/// Rows that belong together, and how one round of them is measured.
pub struct Section {
    /// Stands above them.
    pub title: &'static str,
    /// In the order of the table.
    pub rows: &'static [Row],
    /// Measures all figures once.
    pub round: fn(Round) -> BoxFuture<'static, Result<Measured>>,
}

/// Settings of one round.
#[derive(Debug, Clone)]
pub struct Round {
    /// Counted from 0, so that what goes first can alternate.
    pub number: u32,
    /// How long one load lasts.
    pub lasting: Duration,
    /// The program that is measured.
    pub app: PathBuf,
    /// The load job.
    pub load: PathBuf,
}

/// What one round found.
#[derive(Debug, Default)]
pub struct Measured {
    /// Values by their figures' names.
    pub figures: Vec<(&'static str, f64)>,
    /// Where the time of a figure went.
    pub costs: Vec<(&'static str, Cost)>,
}

/// Parts of a cost by their names.
pub type Cost = Vec<(&'static str, f64)>;

impl From<Vec<(&'static str, f64)>> for Measured {
    fn from(figures: Vec<(&'static str, f64)>) -> Self {
        Self { figures, costs: Vec::new() }
    }
}

/// What the rounds have measured.
#[derive(Debug, Default)]
pub struct Record {
    values: BTreeMap<&'static str, Vec<f64>>,
    costs: BTreeMap<&'static str, BTreeMap<&'static str, Vec<f64>>>,
}

impl Record {
    /// Takes in one round.
    pub fn add(&mut self, measured: Measured) {
        for (figure, value) in measured.figures {
            self.values.entry(figure).or_default().push(value);
        }
        for (figure, cost) in measured.costs {
            let parts = self.costs.entry(figure).or_default();
            for (part, value) in cost {
                parts.entry(part).or_default().push(value);
            }
        }
    }

    /// The spread of every declared row over the rounds.
    ///
    /// # Errors
    /// When a declared figure was not measured.
    pub fn results(&self, sections: &[&Section]) -> Result<Results> {
        let mut results = Results::default();
        for row in sections.iter().flat_map(|section| section.rows) {
            results.rows.insert(row.name(), self.of(row)?);
        }
        for (&figure, parts) in &self.costs {
            let spreads = results.costs.entry(figure.to_owned()).or_default();
            for (&part, values) in parts {
                spreads.insert(part.to_owned(), Spread::of(values.clone(), part)?);
            }
        }
        Ok(results)
    }

    /// What the rounds found of a figure, in their order.
    pub fn values(&self, figure: &str) -> &[f64] {
        self.values.get(figure).map_or(&[][..], Vec::as_slice)
    }

    fn of(&self, row: &Row) -> Result<Spread> {
        let values = |name| self.values(name);
        match row {
            Row::Figure(name, _) | Row::Judged(name, ..) => Spread::of(values(name).to_vec(), name),
            Row::Ratio(of, to, _) => {
                let (of_values, to_values) = (values(of), values(to));
                ensure!(of_values.len() == to_values.len(), "{of} / {to}: a round lacks one");
                let ratios = of_values.iter().zip(to_values).map(|(of, to)| of / to).collect();
                Spread::of(ratios, of)
            }
        }
    }
}

/// What came of all rounds; also what is read from a JSON file.
#[derive(Debug, Default)]
pub struct Results {
    /// By the rows' names.
    pub rows: BTreeMap<String, Spread>,
    /// By the figures' names, and then the parts'.
    pub costs: BTreeMap<String, BTreeMap<String, Spread>>,
}

/// The values of all rounds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// Half of the rounds were below.
    #[serde(deserialize_with = "or_failed")]
    pub median: f64,
    /// Of the rounds.
    #[serde(deserialize_with = "or_failed")]
    pub minimum: f64,
    /// Of the rounds.
    #[serde(deserialize_with = "or_failed")]
    pub maximum: f64,
}

/// JSON has no value that is no number: it is `null`.
fn or_failed<'de, D: Deserializer<'de>>(field: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(field)?.unwrap_or(f64::NAN))
}

impl Spread {
    /// Of at least one value. One round that failed, whose value is no number, fails the row.
    ///
    /// # Errors
    /// When there is none.
    pub fn of(mut values: Vec<f64>, name: &str) -> Result<Self> {
        if values.iter().any(|value| value.is_nan()) {
            return Ok(Self { median: f64::NAN, minimum: f64::NAN, maximum: f64::NAN });
        }
        values.sort_unstable_by(f64::total_cmp);
        let (Some(&minimum), Some(&maximum)) = (values.first(), values.last()) else {
            anyhow::bail!("{name} was never measured");
        };
        let (low, high) = (values[(values.len() - 1) / 2], values[values.len() / 2]);
        Ok(Self { median: f64::midpoint(low, high), minimum, maximum })
    }
}

impl Results {
    /// Takes in what [`Results::json`] wrote.
    ///
    /// # Errors
    /// When the object lacks one of the rows.
    pub fn read(object: &Value, sections: &[&Section]) -> Result<Self> {
        let mut results = Self::default();
        for row in sections.iter().flat_map(|section| section.rows) {
            let name = row.name();
            let spread = Spread::deserialize(&object[&name])
                .with_context(|| format!("{name:?} is not in it; was it a run with --only?"))?;
            results.rows.insert(name, spread);
        }
        results.costs = Deserialize::deserialize(&object["costs"]).context("costs")?;
        Ok(results)
    }

    fn row(&self, row: &Row) -> Result<Spread> {
        let name = row.name();
        self.rows.get(&name).copied().with_context(|| format!("{name} was never measured"))
    }

    /// The table for people.
    ///
    /// # Errors
    /// When a declared figure was not measured.
    pub fn table(&self, sections: &[&Section]) -> Result<String> {
        let rows = sections.iter().flat_map(|section| section.rows);
        let width = rows.map(|row| row.name().len() + 2).max().unwrap_or(0);
        let mut table = format!(
            "{:width$} {:>10} {:>10} {:>10} {:2}  target\n",
            "", "median", "minimum", "maximum", ""
        );
        for section in sections {
            writeln!(table, "{}", section.title)?;
            for row in section.rows {
                let Spread { median, minimum, maximum } = self.row(row)?;
                let verdict = row.target().map_or_else(String::new, |target| {
                    let verdict = if target.is_met(median) { "PASS" } else { "MISS" };
                    format!("{:7} {verdict}", target.to_string())
                });
                let line = format!(
                    "{:width$} {:>10} {:>10} {:>10} {:2}  {verdict}",
                    format!("  {}", row.name()),
                    number(median),
                    number(minimum),
                    number(maximum),
                    row.unit(),
                );
                writeln!(table, "{}", line.trim_end())?;
            }
        }
        Ok(table)
    }

    /// The costs for people: a line for each figure that has any, medians.
    pub fn costs_table(&self) -> String {
        let parts: std::collections::BTreeSet<&String> =
            self.costs.values().flat_map(BTreeMap::keys).collect();
        let width = self.costs.keys().map(String::len).max().unwrap_or(0);
        let mut table = format!("{:width$}", "");
        for part in &parts {
            let _ = write!(table, "  {part}");
        }
        table.push('\n');
        for (figure, costs) in &self.costs {
            let _ = write!(table, "{figure:width$}");
            for &part in &parts {
                let value = costs.get(part).map_or_else(String::new, |cost| number(cost.median));
                let _ = write!(table, "  {value:>0$}", part.len());
            }
            table.push('\n');
        }
        table
    }

    /// The same for tools: each figure and ratio by its name, then `costs`, `machine`, `commit`.
    ///
    /// # Errors
    /// As [`Results::table`].
    pub fn json(&self, sections: &[&Section], machine: &Machine) -> Result<Value> {
        let mut object = Map::new();
        for row in sections.iter().flat_map(|section| section.rows) {
            let spread = self.row(row)?;
            let mut figure = serde_json::to_value(spread)?;
            figure["unit"] = row.unit().into();
            if let Some(target) = row.target() {
                figure["target"] = target.to_string().into();
                figure["met"] = target.is_met(spread.median).into();
            }
            object.insert(row.name(), figure);
        }
        object.insert("costs".to_owned(), json!(self.costs));
        object.insert("machine".to_owned(), serde_json::to_value(machine)?);
        object.insert("summary".to_owned(), machine.to_string().into());
        object.insert("commit".to_owned(), machine.commit.as_str().into());
        Ok(object.into())
    }

    /// How many targets the medians miss.
    ///
    /// # Errors
    /// As [`Results::table`].
    pub fn missed(&self, sections: &[&Section]) -> Result<usize> {
        let mut missed = 0;
        for row in sections.iter().flat_map(|section| section.rows) {
            if let Some(target) = row.target() {
                missed += usize::from(!target.is_met(self.row(row)?.median));
            }
        }
        Ok(missed)
    }
}

/// Three digits at least, and no more behind the point than they need.
pub fn number(value: f64) -> String {
    match value {
        _ if value.is_nan() => "failed".to_owned(),
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROWS: &[Row] = &[
        Row::Figure("lock", Unit::Micros),
        Row::Figure("raw", Unit::Micros),
        Row::Ratio("lock", "raw", Some(Target::AtMost(1.5))),
    ];
    const SECTION: Section = Section {
        title: "Alone",
        rows: ROWS,
        round: |_| Box::pin(async { Ok(Vec::new().into()) }),
    };

    fn record(lock: &[f64], raw: &[f64]) -> Record {
        let mut record = Record::default();
        record.add(lock.iter().map(|value| ("lock", *value)).collect::<Vec<_>>().into());
        record.add(raw.iter().map(|value| ("raw", *value)).collect::<Vec<_>>().into());
        record
    }

    fn results(lock: &[f64], raw: &[f64]) -> Result<Results> {
        record(lock, raw).results(&[&SECTION])
    }

    #[test]
    fn a_ratio_is_the_median_of_the_rounds_ratios() {
        // Medians alone would say 150 / 100.
        let results = results(&[300.0, 150.0, 120.0], &[200.0, 60.0, 100.0]).unwrap();
        let spread = Spread { median: 1.5, minimum: 1.2, maximum: 2.5 };
        assert_eq!(results.rows["lock / raw"], spread);
    }

    #[test]
    fn the_table_judges_medians() {
        let met = results(&[150.0; 3], &[100.0; 3]).unwrap();
        let missed_it = results(&[151.0; 3], &[100.0; 3]).unwrap();
        assert!(met.table(&[&SECTION]).unwrap().ends_with("<= 1.5  PASS\n"));
        assert!(missed_it.table(&[&SECTION]).unwrap().ends_with("<= 1.5  MISS\n"));
        assert_eq!(met.missed(&[&SECTION]).unwrap(), 0);
        assert_eq!(missed_it.missed(&[&SECTION]).unwrap(), 1);
    }

    #[test]
    fn a_round_that_failed_fails_the_row_and_its_ratios() {
        for (lock, raw) in [([1.0, f64::NAN, 1.0], [9.0; 3]), ([1.0; 3], [9.0, f64::NAN, 9.0])] {
            let results = results(&lock, &raw).unwrap();
            assert_eq!(results.missed(&[&SECTION]).unwrap(), 1);
            assert!(results.table(&[&SECTION]).unwrap().contains("failed"));
        }
    }

    #[test]
    fn a_row_that_failed_is_read_as_it_was_written() {
        let written = results(&[f64::NAN; 3], &[1.0; 3]).unwrap();
        let object = written.json(&[&SECTION], &Machine::default()).unwrap();
        let read = Results::read(&object, &[&SECTION]).unwrap();
        assert!(read.rows["lock"].median.is_nan() && read.rows["lock / raw"].maximum.is_nan());
        assert!((read.rows["raw"].median - 1.0).abs() < 1e-9);
    }

    #[test]
    fn what_was_not_measured_is_an_error() {
        assert!(results(&[1.0], &[]).is_err());
    }

    #[test]
    fn an_even_number_of_rounds_has_a_median_between_two() {
        let spread = Spread::of(vec![4.0, 1.0, 2.0, 3.0], "").unwrap();
        assert_eq!(spread, Spread { median: 2.5, minimum: 1.0, maximum: 4.0 });
    }

    #[test]
    fn the_json_object_is_read_as_it_was_written() {
        let mut record = record(&[3.0, 1.0, 2.0], &[1.0; 3]);
        let costs = vec![("lock", vec![("app_us", 7.0)])];
        record.add(Measured { figures: Vec::new(), costs });
        let written = record.results(&[&SECTION]).unwrap();
        let object = written.json(&[&SECTION], &Machine::default()).unwrap();
        let read = Results::read(&object, &[&SECTION]).unwrap();
        assert_eq!(read.rows, written.rows);
        assert_eq!(read.costs, written.costs);
        assert_eq!(object["lock"]["median"], 2.0);
        assert_eq!(object["costs"]["lock"]["app_us"]["median"], 7.0);
    }
}
