//! The tables in `docs/VERSIONS.md`.

use std::fmt::Write as _;

use anyhow::{Context, Result};

use super::volumes::Readable;
use crate::shell::{command, output, repository, say};

const FILE: &str = "docs/VERSIONS.md";

/// The results on one set of servers.
pub(super) struct Row {
    /// Version of the nodes.
    pub nodes: String,
    /// Version of the database.
    pub database: String,
    /// Passed and failed tests of each part; absent: the part is about one version only.
    pub cells: Vec<Option<(usize, usize)>>,
}

/// Writes what is known so far, with its date, between the markers of this name.
fn write(name: &str, tables: &str) -> Result<()> {
    let path = repository().join(FILE);
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {FILE}"))?;
    let date = output(command("date").args(["-u", "+%F"]))?;
    let tables = format!("`cargo xtask test --matrix` on {}:\n\n{tables}", date.trim());
    std::fs::write(&path, between(&text, name, &tables)?)?;
    say(&format!("wrote the {name} in {FILE}"));
    Ok(())
}

/// Writes the numbers of passed tests.
pub(super) fn write_results(rows: &[Row], parts: &[&str]) -> Result<()> {
    write("results", &results(rows, parts)?)
}

/// Writes who can read whose volume.
pub(super) fn write_volumes(readable: &[Readable]) -> Result<()> {
    write("volumes", &readable.iter().map(volumes).collect::<Result<Vec<_>>>()?.join("\n"))
}

fn between(text: &str, name: &str, new: &str) -> Result<String> {
    let (begin, end) = (format!("<!-- matrix: {name} -->\n"), format!("<!-- end: {name} -->"));
    let missing = || format!("{FILE} lacks {begin}{end}");
    let (before, rest) = text.split_once(&begin).with_context(missing)?;
    let (_, after) = rest.split_once(&end).with_context(missing)?;
    Ok(format!("{before}{begin}{new}{end}{after}"))
}

fn results(rows: &[Row], parts: &[&str]) -> Result<String> {
    let mut table = format!("| Redis nodes | database | {} |\n", parts.join(" | "));
    writeln!(table, "| --- | --- |{}", " --- |".repeat(parts.len()))?;
    for row in rows {
        let cells = row.cells.iter().map(|cell| match cell {
            None => String::new(),
            Some((passed, 0)) => passed.to_string(),
            Some((passed, failed)) => format!("{passed}, **{failed} failed**"),
        });
        let cells = cells.collect::<Vec<_>>().join(" | ");
        writeln!(table, "| {} | {} | {cells} |", row.nodes, row.database)?;
    }
    Ok(table)
}

fn volumes(readable: &Readable) -> Result<String> {
    let versions = &readable.versions;
    let mut table =
        format!("| {}, written by | read by {} |\n", readable.title, versions.join(" | "));
    writeln!(table, "| --- |{}", " --- |".repeat(versions.len()))?;
    for (writer, by) in versions.iter().zip(&readable.by) {
        let cells: Vec<&str> = by.iter().map(|can| if *can { "yes" } else { "no" }).collect();
        writeln!(table, "| {writer} | {} |", cells.join(" | "))?;
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_are_between_the_markers() {
        let row = |failed| Row {
            nodes: "Redis 8.0.2".to_owned(),
            database: "PostgreSQL 18.6".to_owned(),
            cells: vec![Some((7, failed)), None],
        };
        let table = results(&[row(0), row(1)], &["lock", "pods"]).unwrap();
        let lines: Vec<&str> = table.lines().skip(2).collect();
        assert_eq!(lines[0], "| Redis 8.0.2 | PostgreSQL 18.6 | 7 |  |");
        assert_eq!(lines[1], "| Redis 8.0.2 | PostgreSQL 18.6 | 7, **1 failed** |  |");
        let text = "a\n<!-- matrix: results -->\nold\n<!-- end: results -->\nb\n";
        let expected = text.replace("old\n", &table);
        assert_eq!(between(text, "results", &table).unwrap(), expected);
        assert!(between(text, "volumes", &table).is_err());
    }

    #[test]
    fn a_volume_is_read_or_not() {
        let versions = ["A 1", "B 2"].map(str::to_owned).to_vec();
        let by = vec![vec![true, true], vec![false, true]];
        let table = volumes(&Readable { title: "Volume", versions, by }).unwrap();
        assert!(table.ends_with("| A 1 | yes | yes |\n| B 2 | no | yes |\n"), "{table}");
    }
}
