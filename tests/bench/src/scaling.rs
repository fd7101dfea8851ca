//! `cargo xtask bench scaling FILE`: a model of what a purchase costs, fitted to what the whole
//! path's bench measured, checked with loads that it was not fitted to, and used to say what more
//! buyers need. Writes the tables of `docs/`.

mod docs;
mod least;
mod model;
mod tables;

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::figures::{Results, Section};
use crate::path::{FITTED, SECTIONS};
use model::Model;

/// Arguments of `scaling`.
#[derive(clap::Args)]
pub struct Options {
    /// What `cargo xtask bench --json FILE` wrote.
    file: PathBuf,
    /// Writes the tables into docs/SCALING.md and docs/PERFORMANCE.md.
    #[arg(long)]
    write_docs: bool,
    /// Also says what this round trip to Redis and PostgreSQL makes of a sale, in milliseconds.
    #[arg(long, value_name = "MS", value_parser = milliseconds, conflicts_with = "write_docs")]
    round_trip: Option<f64>,
}

fn milliseconds(text: &str) -> Result<f64> {
    let millis: f64 = text.parse()?;
    ensure!(millis.is_finite() && millis >= 0.0, "0 or more");
    Ok(millis)
}

/// Fits, prints and, if asked to, writes the tables.
///
/// # Errors
/// When the file is not of a whole run, or a document has no place for a table.
pub fn run(options: &Options) -> Result<()> {
    let path = options.file.display();
    let text = std::fs::read_to_string(&options.file).with_context(|| format!("{path}"))?;
    let object: Value = serde_json::from_str(&text).with_context(|| format!("{path}"))?;
    let sections: Vec<&Section> = SECTIONS.iter().collect();
    let results = Results::read(&object, &sections).with_context(|| format!("{path}"))?;
    let cores = object["machine"]["cores"].as_f64().context("machine.cores")?;
    let summary = object["summary"].as_str().context("summary")?;
    let model = Model::fit(&results, FITTED)?;

    let run = format!("{summary}\n\n{}\n{}", results.table(&sections)?, results.costs_table());
    let tables = [
        ("run", docs::Document::Performance, format!("```\n{}\n```", run.trim_end())),
        ("fit", docs::Document::Scaling, tables::fit(&model, summary)),
        ("check", docs::Document::Scaling, tables::check(&model, &results, cores)?),
        ("distance", docs::Document::Scaling, tables::distance(&model, cores, options.round_trip)),
        ("needs", docs::Document::Scaling, tables::needs(&model, &results)?),
    ];
    for (name, document, table) in &tables {
        if *name != "run" {
            println!("{table}\n");
        }
        if options.write_docs {
            docs::write(*document, name, table)?;
        }
    }
    Ok(())
}
