//! This version next to another one: each figure of the one over the same of the other, round by
//! round, because the two are measured next to each other.

use std::fmt;

use anyhow::Result;
use serde_json::{Map, Value};

use crate::figures::{Record, Row, Section, Spread, number};

/// Every figure that both versions have.
#[derive(Debug, Default)]
pub struct Comparison {
    lines: Vec<Line>,
}

#[derive(Debug)]
struct Line {
    figure: &'static str,
    unit: &'static str,
    other: Spread,
    /// This version's figure over the other's.
    ratio: Spread,
}

impl Comparison {
    /// Of two records of the same rounds.
    pub fn of(this: &Record, other: &Record, sections: &[&Section]) -> Self {
        let rows = sections.iter().flat_map(|section| section.rows);
        let lines = rows.filter(|row| !matches!(row, Row::Ratio(..))).flat_map(|row| {
            let line = |figure| line(figure, row.unit(), this, other);
            row.figures().into_iter().filter_map(line)
        });
        Self { lines: lines.collect() }
    }

    /// The same for tools: figure to the other's spread and that of the ratios.
    ///
    /// # Errors
    /// Never: a spread is an object.
    pub fn json(&self) -> Result<Value> {
        let mut object = Map::new();
        for Line { figure, unit, other, ratio } in &self.lines {
            let mut value = serde_json::to_value(other)?;
            value["unit"] = (*unit).into();
            value["ratio"] = serde_json::to_value(ratio)?;
            object.insert((*figure).to_owned(), value);
        }
        Ok(object.into())
    }
}

fn line(figure: &'static str, unit: &'static str, this: &Record, other: &Record) -> Option<Line> {
    let (these, others) = (this.values(figure), other.values(figure));
    let ratios = these.iter().zip(others).map(|(this, other)| this / other).collect();
    let ratio = Spread::of(ratios, figure).ok()?;
    Some(Line { figure, unit, other: Spread::of(others.to_vec(), figure).ok()?, ratio })
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.lines.iter().map(|line| line.figure.len()).max().unwrap_or(0) + 2;
        writeln!(
            f,
            "{:width$} {:>10}    {:>10} {:>10} {:>10}",
            "", "other", "this/other", "minimum", "maximum"
        )?;
        for Line { figure, unit, other, ratio } in &self.lines {
            writeln!(
                f,
                "{:width$} {:>10} {unit:2} {:>10} {:>10} {:>10}",
                format!("  {figure}"),
                number(other.median),
                precise(ratio.median),
                precise(ratio.minimum),
                precise(ratio.maximum),
            )?;
        }
        Ok(())
    }
}

/// A percent counts.
fn precise(ratio: f64) -> String {
    format!("{ratio:.3}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::Unit;

    const SECTION: Section = Section {
        title: "Sales",
        rows: &[
            Row::Figure("sold", Unit::PerSecond),
            Row::Figure("new", Unit::PerSecond),
            Row::Ratio("sold", "new", None),
        ],
        round: |_| Box::pin(async { Ok(Vec::new().into()) }),
    };

    fn record(figures: &[(&'static str, f64)]) -> Record {
        let mut record = Record::default();
        for figure in figures {
            record.add(vec![*figure].into());
        }
        record
    }

    #[test]
    fn a_figure_is_compared_round_by_round() {
        let this = record(&[("sold", 300.0), ("sold", 150.0), ("sold", 120.0), ("new", 1.0)]);
        let other = record(&[("sold", 200.0), ("sold", 60.0), ("sold", 100.0)]);
        let compared = Comparison::of(&this, &other, &[&SECTION]);
        // The medians alone would say 1.5 as well, the sums 1.58.
        let ratio = Spread { median: 1.5, minimum: 1.2, maximum: 2.5 };
        assert_eq!(compared.lines.iter().map(|line| line.figure).collect::<Vec<_>>(), ["sold"]);
        assert_eq!(compared.lines[0].ratio, ratio);
        assert_eq!(compared.json().unwrap()["sold"]["ratio"]["maximum"], 2.5);
        assert!(compared.to_string().contains("1.500      1.200      2.500"), "{compared}");
    }
}
