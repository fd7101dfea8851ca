//! The table of figures and what they are to reach.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};

enum Target {
    None,
    AtMost(f64),
    AtLeast(f64),
}

struct Figure {
    name: &'static str,
    value: f64,
    unit: &'static str,
    target: Target,
}

/// All figures of a run.
pub struct Figures {
    sales: u32,
    all: Vec<Figure>,
}

impl Figures {
    /// Without figures.
    pub const fn new(sales: u32) -> Self {
        Self { sales, all: Vec::new() }
    }

    /// Adds one without a target.
    pub fn figure(&mut self, name: &'static str, value: f64, unit: &'static str) {
        self.all.push(Figure { name, value, unit, target: Target::None });
    }

    /// Adds one that is at most `limit`.
    pub fn judged(&mut self, name: &'static str, value: f64, unit: &'static str, limit: f64) {
        self.all.push(Figure { name, value, unit, target: Target::AtMost(limit) });
    }

    /// Adds one that is at least `limit`.
    pub fn least(&mut self, name: &'static str, value: f64, limit: f64) {
        self.all.push(Figure { name, value, unit: "", target: Target::AtLeast(limit) });
    }

    /// The number of missed targets.
    pub fn missed(&self) -> usize {
        self.all.iter().filter(|figure| !figure.is_met()).count()
    }

    /// A line for each figure.
    pub fn table(&self) -> String {
        let mut table = format!("{} sales; {}\n\n", self.sales, machine());
        for figure in &self.all {
            let Figure { name, value, unit, target } = figure;
            let target = match target {
                Target::None => String::new(),
                Target::AtMost(limit) => format!("<= {limit}"),
                Target::AtLeast(limit) => format!(">= {limit}"),
            };
            let verdict = if target.is_empty() {
                ""
            } else if figure.is_met() {
                "PASS"
            } else {
                "MISS"
            };
            let line = format!("  {name:<40} {value:>9.2} {unit:<12} {target:<8} {verdict}");
            // Writing to a String cannot fail.
            let _ = writeln!(table, "{}", line.trim_end());
        }
        table
    }
}

impl Figure {
    fn is_met(&self) -> bool {
        match self.target {
            Target::None => true,
            Target::AtMost(limit) => self.value <= limit,
            Target::AtLeast(limit) => self.value >= limit,
        }
    }
}

/// The cores and how busy they were: the latency depends on both.
fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default().to_owned();
    format!("{cores} cores, load average at the end {load}")
}

/// Puts the table where the document has its marks.
pub fn write_docs(table: &str) -> Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/PERFORMANCE.md");
    let text = std::fs::read_to_string(&path)?;
    std::fs::write(&path, replaced(&text, table)?)?;
    Ok(())
}

fn replaced(text: &str, table: &str) -> Result<String> {
    let (begin, end) = ("<!-- bench: operator -->\n", "<!-- end: operator -->");
    let (before, rest) = text.split_once(begin).context("no mark in the document")?;
    let (_, after) = rest.split_once(end).context("no end mark in the document")?;
    Ok(format!("{before}{begin}```\n{table}```\n{end}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missed_targets_are_counted() {
        let mut figures = Figures::new(1);
        figures.judged("met", 1.0, "", 1.0);
        figures.judged("missed", 1.1, "", 1.0);
        figures.least("short", 0.9, 1.0);
        figures.figure("free", 9.0, "s");
        assert_eq!(figures.missed(), 2);
        let table = figures.table();
        assert!(table.contains("MISS") && table.contains("PASS"), "{table}");
    }

    #[test]
    fn the_document_has_a_place_for_the_table() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/PERFORMANCE.md");
        let text = std::fs::read_to_string(path).unwrap();
        assert!(replaced(&text, "new").unwrap().contains("```\nnew```\n"));
    }
}
